"""Bayes inversion: what can a story of how digits are made do that a classifier cannot?

The script is ``__main__.py``; ``truth`` lays what was estimated beside what is known, ``peer`` is the
classifier beside it, ``figures`` draws.
"""
