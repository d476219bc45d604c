"""Digits by story: which story of digits comes nearest to them, and at what price?

The script is ``__main__.py``; ``fits`` fits one story to the digits and asks it, ``closed`` holds Gaussian
stories that need no fit, ``figures`` draws.
"""
