"""Linear regression with flat weights and a half-Cauchy prior on the noise.

Story
    A response is a weighted sum of covariates plus normal noise. Nothing is known of the weights beforehand;
    the noise is of the order of a few units, with a heavy tail.

Joint
    p(beta) p(sigma) prod_i p(y_i | beta, sigma), with

    - beta flat on all vectors, sigma ~ HalfCauchy(2.5)
    - y_i ~ Normal(covariates_i . beta, sigma)

Shapes
    covariates (n, columns), the first column ones; beta (columns,); sigma () and y (n,), in the same units.

Priors
    Stan's ``sigma ~ cauchy(0, 2.5)`` on ``real<lower=0>`` is twice the density up to a constant factor.

Answers
    p(beta, sigma | covariates, y): learn
    p(y | covariates): predict, after learning
    not p(y) before data: the prior has no draws

Source
    Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models, chapter 3;
    posteriordb's programs in ``STAN``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from experiments.truth.posteriordb.columns import regression

STAN = ("kidscore_interaction", "kidscore_momhs", "kidscore_momhsiq", "kidscore_momiq")


def linear_half_cauchy(covariates: Tensor) -> Tensor:
    """Tell the story of one response per row of ``covariates``; returns them, shape (n,)."""
    n, columns = covariates.shape
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (columns,)))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Normal(covariates @ beta, sigma))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[Tensor], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    covariates, response = regression(model, data)
    return (covariates,), {"y": response}
