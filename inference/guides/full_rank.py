"""Full-rank Gaussian guide, by natural gradient: exact on a Gaussian target."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.density.problems import Problems, draws_of
from inference.guides.gaussian import Gaussian, standard_draws
from inference.guides.lbfgs import Climb
from inference.guides.natural_gradient import Fitted, ascend
from inference.guides.starts import best_start
from inference.runtime.progress import Report

NAME = "full_rank"
LARGEST = 1000  # unknowns; the batch needs two draws for each, and a dense covariance
_DRAWS = 128


def fit(
    problems: Problems,
    climbed: Climb,
    generators: list[torch.Generator],
    report: Report,
    steps: int | None = None,
) -> Fitted:
    """Fit Gaussians with a dense covariance.

    Args:
        problems: the targets.
        climbed: where climbs from overdispersed starts ended.
        generators: of the fixed draws, one for each problem.
        report: called with (rung, step, elbo) at every step.
        steps: cap on the number of natural-gradient steps.
    """
    start = best_start(problems, climbed, generators)
    return ascend(problems, start, draws(problems, generators), NAME, report, steps)


def around(
    problems: Problems, start: Gaussian, generators: list[torch.Generator], which: Tensor, report: Report
) -> Fitted:
    """Fit some of the problems once more, from Gaussians around other modes."""
    return ascend(problems, start, draws(problems, generators), NAME, report, None, which)


def draws(problems: Problems, generators: list[torch.Generator]) -> Tensor:
    """Fixed draws (problems, draws, size): four for each unknown, two where gradients cost much."""
    size = problems.size
    fewest = max(16, 2 * size + 2)
    usual = max(_DRAWS, 4 * size if size <= 100 else fewest)
    return standard_draws(draws_of(problems, usual, fewest), size, generators, dense=True)
