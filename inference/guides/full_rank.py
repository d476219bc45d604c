"""Full-rank Gaussian guide, by natural gradient: exact on a Gaussian target."""

from __future__ import annotations

import torch

from inference.density import LogDensity
from inference.guides.gaussian import Gaussian, standard_draws
from inference.guides.natural import Fitted, Report, ascend
from inference.guides.start import best_start, laplace, mode, overdispersed

NAME = "full_rank"
LARGEST = 300  # unknowns; the batch needs two draws for each, and a dense covariance


def fit(density: LogDensity, generator: torch.Generator, report: Report, steps: int | None = None) -> Fitted:
    """Fit a Gaussian with a dense covariance to a density.

    Args:
        density: the target.
        generator: of the start and of the fixed draws.
        report: called with (rung, step, elbo) at every accepted step.
        steps: cap on the number of natural-gradient steps.
    """
    point = mode(density, overdispersed(density, generator))
    around = laplace(density, point)
    e = standard_draws(max(64, 4 * density.size), density.size, generator, dense=True)
    narrow = Gaussian(point, 0.3 * around.scale)
    unit = Gaussian(point, 0.1 * torch.eye(density.size, dtype=torch.float64))
    start = best_start(density, [around, narrow, unit], e)
    return ascend(density, start, e, NAME, report, steps)
