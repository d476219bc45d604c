"""Poisson regression: counts whose rate is log-linear in the covariates.

Story
    Things are counted: accidents in a district, calls in an hour. Their expected number is multiplied by
    a constant factor for each unit of a covariate. What is unknown are the weights, that is, the
    logarithms of these factors; what is seen are the counts ``y`` at given ``covariates``. A column of
    ones among the covariates is the intercept; a known exposure is a column of its logarithms, with a
    weight near one.

Joint
    p(weights) prod_i p(y_i | weights)

    - weights ~ Normal(0, spread^2 I)
    - y_i ~ Poisson(exp(covariates_i . weights))

Shapes
    covariates (n, features), weights (features,) in log units per unit of the covariate, y (n,) counts.

Priors
    A weight is of the order of ``spread``: at 0.5, two prior standard deviations of a covariate's unit
    multiply the rate by e. Scale the covariates to a spread near one, or exp makes the prior absurd.

Answers
    p(y | covariates): generate
    p(weights | y, covariates): learn
    p(y | covariates) of new rows: weigh
    not p(covariates): they are arguments, and the story does not tell how they come about; hence no
    inversion p(covariates | y) either.

Source
    McCullagh and Nelder (1989), Generalized Linear Models, chapter 6; Gelman et al. (2013), Bayesian
    Data Analysis, section 16.2. Without an exposure or overdispersion.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def poisson_regression(covariates: Tensor, spread: float = 0.5) -> Tensor:
    """Tell the story of one count per row of ``covariates``; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     poisson_regression(torch.randn(7, 3)).shape
        torch.Size([7])
    """
    n, features = covariates.shape
    weights = pyro.sample("weights", dist.Normal(0.0, spread).expand([features]).to_event(1))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Poisson((covariates @ weights).exp()))


EXAMPLE = (
    (
        torch.tensor(
            [
                [2.1, -0.8, 0.7], [2.4, 0.9, -0.6], [2.2, 0.4, -0.9], [1.8, -1.3, 0.5],
                [1.9, 1.6, 0.3], [2.3, 0.8, -1.2], [1.7, -0.5, 1.4], [2.5, -1.4, -0.8],
                [2.0, -0.3, 1.7], [2.2, 1.8, -0.4], [2.1, 1.3, 0.6], [1.6, -1.1, -1.5],
            ],
            dtype=torch.float64,
        ),
        0.8,
    ),
    {"y": torch.tensor([4, 13, 8, 2, 15, 12, 3, 5, 2, 31, 13, 4], dtype=torch.float64)},
)  # fmt: skip
