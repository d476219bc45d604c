"""Calibration: does it pass posteriors that are right, and find those that are not?

The script is ``__main__.py``; ``faults`` holds posteriors that are wrong on purpose, ``level`` judges the
judge, ``figures`` draws.
"""
