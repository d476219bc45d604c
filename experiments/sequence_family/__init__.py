"""Sequences of a family: how near does a profile learned from few sequences come to the true one?

The script is ``__main__.py``; ``figures`` draws.
"""
