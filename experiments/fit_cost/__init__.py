"""Where does the time of a fit go, and how far is it from the cost of its gradients alone?

The script is ``__main__.py``; ``stories`` holds what is timed, ``many`` times many data sets at once.
"""
