"""The notes in pictures: what does it mean that probability is part of the modelling?

The script is ``__main__.py``; ``figures`` draws the six small pictures.
"""
