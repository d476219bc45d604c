"""Which loss? What does one Gaussian make of two clouds, by four measures of distance?

The script is ``__main__.py``; ``quadrature`` finds the best Gaussians that the fits are laid beside.
"""
