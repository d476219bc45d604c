"""Two moons: two interleaved half circles, each a class, with Gaussian noise around the arcs.

The usual two moons draw a point evenly on a half circle and add noise, so that their density is an
integral. Here the arc is ``POINTS`` points evenly spaced, which makes it a finite mixture and its
density exact. The points are 0.16 apart, 0.8 of the noise's standard deviation: the ripple along the
arc, 2 exp(-2 pi^2 / 0.8^2), is below 1e-13, so that nobody can tell the two apart.

Source: ``sklearn.datasets.make_moons`` with noise 0.1, centred and twice as large.
"""

import math

import torch

from experiments.truth.mixture import GaussianMixture

POINTS = 40  # on each arc
STDDEV = 0.2
RADIUS = 2.0


def density() -> GaussianMixture:
    """Return the mixture: y = 0 for the upper moon, 1 for the lower one."""
    angle = math.pi * (torch.arange(POINTS).double() + 0.5) / POINTS
    upper = RADIUS * torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], -1)
    return GaussianMixture(torch.stack([upper, -upper]), STDDEV)
