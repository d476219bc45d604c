"""Simple to complex, pi -> g(pi): what does every deep story make of every density in the plane?

The script is ``__main__.py``; ``fits`` fits one story to one density and judges it, ``figures`` draws.
"""
