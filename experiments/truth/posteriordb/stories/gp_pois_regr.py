"""Counts whose log rate is a Gaussian process.

Story
    Things are counted at several places; the logarithm of the expected count is a smooth function of the
    place, of unknown amplitude and range.

Joint
    p(rho) p(alpha) p(f_tilde) prod_i p(k_i | f_i), with

    - rho ~ Gamma(25, 4), alpha ~ HalfNormal(2), f_tilde_i ~ Normal(0, 1)
    - f = L f_tilde, L L' = alpha^2 exp(-(x_i - x_j)^2 / (2 rho^2)) + 1e-10 I
    - k_i ~ Poisson(exp(f_i))

Shapes
    inputs (n,), f_tilde and f (n,), rho (), in the inputs' units, alpha (), k (n,), counts.

Priors
    As in the Stan program: ``alpha ~ normal(0, 2)`` on ``real<lower=0>``; the range is about 6 +- 1.3.

Answers
    p(f, rho, alpha | k): learn
    p(k): generate, weigh

Source
    Stan Development Team, User's Guide, "Fitting a Gaussian process"; posteriordb's ``gp_pois_regr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

STAN = ("gp_pois_regr",)


def gp_pois_regr(inputs: Tensor) -> Tensor:
    """Tell the story of one count per entry of ``inputs``; returns them, shape (n,)."""
    n = len(inputs)
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    f_tilde = pyro.sample("f_tilde", dist.Normal(0.0, 1.0).expand([n]).to_event(1))
    squares = (inputs[:, None] - inputs) ** 2
    cov = alpha**2 * (-squares / (2 * rho**2)).exp() + 1e-10 * torch.eye(n, dtype=inputs.dtype)
    f = pyro.deterministic("f", _cholesky(cov) @ f_tilde)
    with pyro.plate("place", n, dim=-1):
        return pyro.sample("k", dist.Poisson(f.exp()))


def _cholesky(covariance: Tensor) -> Tensor:
    """Cholesky factor; NaN, not an error, where rounding leaves none, so that the rest of a batch goes on."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    return torch.where((failed > 0)[..., None, None], torch.nan, factor)


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[Tensor], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    inputs = torch.tensor(data["x"], dtype=torch.float64)
    return (inputs,), {"k": torch.tensor(data["k"], dtype=torch.float64)}
