"""Twenty-five Gaussians on a 5 x 5 grid, each a class of its own: do all modes get their share?

Source: Dumoulin et al. (2017), Adversarially learned inference, who fitted a 5 x 5 grid with small
spread. Theirs is narrower (0.05 at a spacing of 2); here neighbours are 10 standard deviations apart.
"""

import torch

from experiments.truth.mixture import GaussianMixture

SPACING = 1.5
STDDEV = 0.15


def density() -> GaussianMixture:
    """Return the mixture: y = 5 column + row, columns from the left and rows from below."""
    line = SPACING * torch.arange(-2, 3).double()
    return GaussianMixture(torch.cartesian_prod(line, line)[:, None], STDDEV)
