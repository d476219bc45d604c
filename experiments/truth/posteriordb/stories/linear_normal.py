"""Linear regression with normal priors.

Story
    A response is a weighted sum of covariates plus normal noise, weights and noise of the order of ten.

Joint
    p(beta) p(sigma) prod_i p(y_i | beta, sigma), with

    - beta_k ~ Normal(0, 10), sigma ~ HalfNormal(10)
    - y_i ~ Normal(covariates_i . beta, sigma)

Shapes
    covariates (n, columns), no intercept; beta (columns,), sigma (), y (n,).

Priors
    As in the Stan program, whose ``normal_lpdf(sigma | 0, 10)`` on ``real<lower=0>`` is a half-normal up to a
    constant factor.

Answers
    p(beta, sigma | covariates, y): learn
    p(y | covariates): predict, generate, weigh

Source
    posteriordb's ``blr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

STAN = ("blr",)


def linear_normal(covariates: Tensor) -> Tensor:
    """Tell the story of one response per row of ``covariates``; returns them, shape (n,)."""
    n, columns = covariates.shape
    beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([columns]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Normal(covariates @ beta, sigma))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[Tensor], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    covariates = torch.tensor(data["X"], dtype=torch.float64)
    return (covariates,), {"y": torch.tensor(data["y"], dtype=torch.float64)}
