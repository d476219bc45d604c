"""Scoreboard: does `fit` find posteriors that others have drawn at great length, and in what time?

The script is ``__main__.py``; ``measures`` fits beside the reference draws, ``figures`` draws.
"""
