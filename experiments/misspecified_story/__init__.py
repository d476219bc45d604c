"""A wrong story: what does Bayes' rule make of p(x | y) that is not the truth?

The script is ``__main__.py``; ``figures`` draws.
"""
