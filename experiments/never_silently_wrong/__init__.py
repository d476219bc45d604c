"""Never silently wrong: how often does a fit that is wrong call itself trusted?

The script is ``__main__.py``; ``faults`` plants faults inside a fit, ``outcomes`` says how a fit came out.
"""
