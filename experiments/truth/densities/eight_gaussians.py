"""Eight Gaussians on a circle, each a class of its own.

Source: Grathwohl et al. (2019), FFJORD, the toy data of their figure 2: a circle of radius 4 and a
standard deviation of 0.5, both divided by 1.414. Neighbours are 6.1 standard deviations apart.
"""

import math

import torch

from experiments.truth.mixture import GaussianMixture

CLASSES = 8
RADIUS = math.sqrt(8)
STDDEV = math.sqrt(1 / 8)


def density() -> GaussianMixture:
    """Return the mixture: y = 0 .. 7 counterclockwise from the first axis."""
    angle = torch.arange(CLASSES).double() * (2 * math.pi / CLASSES)
    centres = RADIUS * torch.stack([angle.cos(), angle.sin()], -1)
    return GaussianMixture(centres[:, None], STDDEV, bounds=(-5.0, 5.0))
