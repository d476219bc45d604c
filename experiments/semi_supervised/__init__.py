"""Semi-supervised: what do images without a label add to 100 labelled ones?

The script is ``__main__.py``; ``peer`` trains the classifier network on labelled images alone, ``figures``
draws.
"""
