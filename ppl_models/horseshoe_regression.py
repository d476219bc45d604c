"""Horseshoe regression: many covariates, few of which matter.

Story
    Among many possible causes of a response a few are strong and the rest do nothing. Every weight has a
    scale of its own, ``lam``, heavy-tailed and with much mass near zero, and all share one, ``tau``, that
    says how sparse the whole is: noise is shrunk to almost nothing, signals are left almost alone. What is
    unknown are the scales, the weights and the noise; what is seen are the responses ``y`` at given
    ``covariates``. Centre both, or give a column of ones as one more cause.

Joint
    p(sigma) p(tau) prod_j p(lam_j) p(eta_j) prod_i p(y_i | weights, sigma)

    - sigma ~ HalfNormal(noise)
    - tau ~ HalfCauchy(sparsity)
    - lam_j ~ HalfCauchy(1)
    - eta_j ~ Normal(0, 1), weights_j = sigma tau lam_j eta_j
    - y_i ~ Normal(covariates_i . weights, sigma^2)

Shapes
    covariates (n, features), sigma () in units of y, tau (), lam (features,), eta (features,), weights
    (features,), deterministic, y (n,).

Priors
    ``sparsity`` is tau's median: p / (features - p) / sqrt(n) if p of the standardized covariates are
    thought to matter. Written non-centred (eta, not weights, is drawn), because weights and their scales
    make a funnel.

Answers
    p(y | covariates): generate
    p(weights | y, covariates): learn
    p(y | covariates) of new rows: weigh
    not p(weight = 0 | y): the prior is continuous; a weight is small, never zero.
    not p(covariates): they are arguments.

Source
    Carvalho, Polson and Scott (2010), "The horseshoe estimator for sparse signals", Biometrika 97; the
    value of ``sparsity``: Piironen and Vehtari (2017), "Sparsity information and regularization in the
    horseshoe and other shrinkage priors", Electronic Journal of Statistics 11, section 3.3. A Gaussian
    guide does not follow its heavy tails: expect a refusal, and see ``regularized_horseshoe``.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def horseshoe_regression(covariates: Tensor, noise: float = 1.0, sparsity: float = 0.1) -> Tensor:
    """Tell the story of one response per row of ``covariates``; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     horseshoe_regression(torch.randn(7, 3)).shape
        torch.Size([7])
    """
    n, features = covariates.shape
    sigma = pyro.sample("sigma", dist.HalfNormal(noise))
    tau = pyro.sample("tau", dist.HalfCauchy(sparsity))
    with pyro.plate("feature", features, dim=-1):
        lam = pyro.sample("lam", dist.HalfCauchy(1.0))
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
    weights = pyro.deterministic("weights", sigma * tau * lam * eta, event_dim=1)
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
    ),
    {
        "y": torch.tensor(
            [8.1, -11.3, 13.2, -3.4, 9.7, -15.8, 4.9, -8.3, 17.4, -2.6, -10.9, 16.1],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
