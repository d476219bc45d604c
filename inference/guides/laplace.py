"""Laplace approximation: the Gaussian of the mode's curvature. For comparison, by name only."""

from __future__ import annotations

import torch

from inference.density.problems import Problems
from inference.guides.gaussian import standard_draws
from inference.guides.lbfgs import Climb, climb
from inference.guides.natural_gradient import Fitted
from inference.guides.starts import elbos, laplace
from inference.runtime.progress import Report

NAME = "laplace"
_CALLS, _GAIN = 300, 1e-10  # the mode itself is wanted here


def fit(
    problems: Problems,
    climbed: Climb,
    generators: list[torch.Generator],
    report: Report,
    steps: int | None = None,
) -> Fitted:
    """Climb on to the best modes and take their curvature; arguments as in ``full_rank.fit``."""
    rows = torch.arange(problems.count)
    best = climbed.points[rows, climbed.values.argmax(1)]
    guide = laplace(problems, climb(problems, best[:, None], _CALLS, _GAIN).points[:, 0])
    e = standard_draws(max(64, 4 * problems.size), problems.size, generators, dense=True)
    elbo = elbos(problems, guide[:, None], e)[:, 0]
    report(NAME, 0, float(elbo.mean()))
    return Fitted(guide, elbo, torch.isfinite(elbo), torch.zeros_like(elbo, dtype=torch.bool))
