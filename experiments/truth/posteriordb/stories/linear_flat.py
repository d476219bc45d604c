"""Linear regression with flat priors.

Story
    A response is a weighted sum of covariates plus normal noise. Nothing is known beforehand of the weights,
    nor of the noise but that its standard deviation is positive: the Stan programs have no prior statements.

Joint
    p(beta) p(sigma) prod_i p(y_i | beta, sigma), with

    - beta flat on all vectors, sigma flat on the positive numbers
    - y_i ~ Normal(covariates_i . beta, sigma)

Shapes
    covariates (n, columns), the first column ones; beta (columns,); sigma () and y (n,), in the same units.

Priors
    Improper, so that there is no prior predictive; the posterior is proper from columns + 2 rows on.

Answers
    p(beta, sigma | covariates, y): learn
    p(y | covariates): predict, after learning
    not p(y) before data: the prior has no draws

Source
    Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models, chapters 3
    and 4; posteriordb's programs in ``STAN``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from experiments.truth.posteriordb.columns import regression

STAN = (
    "kidscore_interaction_c",
    "kidscore_interaction_c2",
    "kidscore_interaction_z",
    "kidscore_mom_work",
    "log10earn_height",
    "logearn_height",
    "logearn_height_male",
    "logearn_interaction",
    "logearn_interaction_z",
    "logearn_logheight_male",
    "logmesquite",
    "logmesquite_logva",
    "logmesquite_logvas",
    "logmesquite_logvash",
    "logmesquite_logvolume",
    "nes",
)


def linear_flat(covariates: Tensor) -> Tensor:
    """Tell the story of one response per row of ``covariates``; returns them, shape (n,)."""
    n, columns = covariates.shape
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (columns,)))
    sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Normal(covariates @ beta, sigma))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[Tensor], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    covariates, response = regression(model, data)
    return (covariates,), {"y": response}
