"""One script per question, beside the rooms that serve them: truth, compare, peers, training and report.

A script that has helpers is ``__main__.py`` in a folder of its own, with them.
"""
