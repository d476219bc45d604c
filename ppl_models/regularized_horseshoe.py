"""Regularized horseshoe regression: few covariates matter, and those within reason.

Story
    As in ``horseshoe_regression``, a few of many possible causes are strong and the rest do nothing. But
    the horseshoe leaves a strong weight without any bound, which the data must then give. Here strong
    weights are also drawn from a normal with one common scale, the ``slab``: far weights are held by it,
    near ones by the horseshoe. What is seen are the responses ``y`` at given ``covariates``.

Joint
    p(sigma) p(tau) p(slab) prod_j p(lam_j) p(eta_j) prod_i p(y_i | weights, sigma)

    - sigma ~ HalfNormal(noise)
    - tau ~ HalfCauchy(sparsity)
    - slab ~ InverseGamma(freedom / 2, freedom / 2 largest^2), the slab's variance
    - lam_j ~ HalfCauchy(1)
    - eta_j ~ Normal(0, 1), weights_j = s_j eta_j with 1 / s_j^2 = 1 / (sigma tau lam_j)^2 + 1 / slab
    - y_i ~ Normal(covariates_i . weights, sigma^2)

Shapes
    covariates (n, features), sigma () in units of y, tau (), slab () squared units of a weight, lam
    (features,), eta (features,), weights (features,), deterministic, y (n,).

Priors
    ``sparsity`` is as in the horseshoe; strong weights follow a Student t of ``freedom`` degrees of
    freedom and scale ``largest``, in units of y per unit of the covariate.

Answers
    p(y | covariates): generate
    p(weights | y, covariates): learn
    p(y | covariates) of new rows: weigh
    not p(weight = 0 | y): the prior is continuous; a weight is small, never zero.
    not p(covariates): they are arguments.

Source
    Piironen and Vehtari (2017), "Sparsity information and regularization in the horseshoe and other
    shrinkage priors", Electronic Journal of Statistics 11, equations 2.8 and 3.12; their tau is our
    sigma tau.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def regularized_horseshoe(
    covariates: Tensor,
    noise: float = 1.0,
    sparsity: float = 0.1,
    largest: float = 2.0,
    freedom: float = 4.0,
) -> Tensor:
    """Tell the story of one response per row of ``covariates``; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     regularized_horseshoe(torch.randn(7, 3)).shape
        torch.Size([7])
    """
    n, features = covariates.shape
    sigma = pyro.sample("sigma", dist.HalfNormal(noise))
    tau = pyro.sample("tau", dist.HalfCauchy(sparsity))
    slab = pyro.sample("slab", dist.InverseGamma(freedom / 2, freedom / 2 * largest**2))
    with pyro.plate("feature", features, dim=-1):
        lam = pyro.sample("lam", dist.HalfCauchy(1.0))
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
    free = sigma * tau * lam
    stddev = free * (slab / (slab + free**2)).sqrt()
    weights = pyro.deterministic("weights", stddev * eta, event_dim=1)
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Normal(covariates @ weights, sigma))


EXAMPLE = (
    (
        torch.tensor(
            [
                [2.1, -3.2, 0.7], [-2.4, 2.9, 3.1], [3.3, 0.4, -2.6], [-0.6, -2.7, 2.2],
                [2.8, 3.6, 0.3], [-3.9, 0.8, -2.3], [0.9, 2.5, 4.2], [-2.2, -3.4, -0.8],
                [4.6, -0.5, 2.7], [0.2, 3.8, -3.5], [-2.9, 2.3, 0.6], [3.7, -2.1, -4.4],
            ],
            dtype=torch.float64,
        ),
        2.0,
        0.3,
        3.0,
        5.0,
    ),
    {
        "y": torch.tensor(
            [8.1, -11.3, 13.2, -3.4, 9.7, -15.8, 4.9, -8.3, 17.4, -2.6, -10.9, 16.1],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
