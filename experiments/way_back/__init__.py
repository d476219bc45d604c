"""The way back: why does p(y | x) not give p(x)?

The script is ``__main__.py``; ``figures`` draws.
"""
