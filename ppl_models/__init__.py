"""Generative stories, one per file: what is believed, written down as a joint.

Every module holds one story that bears the module's name, ``EXAMPLE = (args, data)`` and, where
the posterior is known in closed form, ``exact``. Stories import torch and pyro and nothing else of
this project; they never observe anything themselves. Data enter from outside, by site name.
"""
