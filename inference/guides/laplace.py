"""Laplace approximation: the Gaussian of the mode's curvature. For comparison, by name only."""

from __future__ import annotations

import torch

from inference.density import LogDensity
from inference.guides.gaussian import standard_draws
from inference.guides.natural import Fitted, Report
from inference.guides.start import laplace, mode, overdispersed

NAME = "laplace"


def fit(density: LogDensity, generator: torch.Generator, report: Report, steps: int | None = None) -> Fitted:
    """Climb to a mode and take its curvature; arguments as in ``full_rank.fit``."""
    guide = laplace(density, mode(density, overdispersed(density, generator)))
    e = standard_draws(max(64, 4 * density.size), density.size, generator, dense=True)
    elbo = float(density.log_prob(guide.scaled(e)).mean()) + guide.entropy()
    report(NAME, 0, elbo)
    return Fitted(guide, elbo, True)
