"""Robust regression: a line whose noise has Student's heavy tails, of unknown weight.

Story
    Most responses lie close to a weighted sum of covariates, a few lie far off. With Student t noise a
    far response is an ordinary, if rare, event and pulls less the farther off it is; how heavy the tails
    are is learned as well. What is unknown are the weights, the noise and its degrees of freedom; what is
    seen are the responses ``y`` at given ``covariates``. A column of ones is the intercept.

Joint
    p(weights) p(sigma) p(nu) prod_i p(y_i | weights, sigma, nu)

    - weights ~ Normal(0, spread^2 I)
    - sigma ~ HalfNormal(noise)
    - nu ~ Gamma(2, rate 0.1)
    - y_i ~ StudentT(nu, covariates_i . weights, sigma)

Shapes
    covariates (n, features), weights (features,), sigma () in units of y, nu (), y (n,). The noise's
    standard deviation is sigma sqrt(nu / (nu - 2)) where nu > 2, and infinite otherwise.

Priors
    ``spread`` and ``noise`` are in the units of the data. nu has its prior mean at 20 and puts 1 in 11
    below 5: normal noise and wild noise are both open.

Answers
    p(y | covariates): generate
    p(weights, sigma, nu | y, covariates): learn
    p(y | covariates) of new rows: weigh
    not p(covariates): they are arguments; a far covariate (a leverage point) is not excused.

Source
    Lange, Little and Taylor (1989), "Robust statistical modeling using the t distribution", Journal of
    the American Statistical Association 84; the prior of nu: Juarez and Steel (2010), "Model-based
    clustering of non-Gaussian panel data based on skew-t distributions", Journal of Business and Economic
    Statistics 28.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def robust_regression(covariates: Tensor, noise: float = 1.0, spread: float = 10.0) -> Tensor:
    """Tell the story of one response per row of ``covariates``; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     robust_regression(torch.randn(7, 3)).shape
        torch.Size([7])
    """
    n, features = covariates.shape
    weights = pyro.sample("weights", dist.Normal(0.0, spread).expand([features]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(noise))
    nu = pyro.sample("nu", dist.Gamma(2.0, 0.1))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.StudentT(nu, covariates @ weights, sigma))


EXAMPLE = (
    (
        torch.tensor(
            [
                [2.1, -3.2], [-2.4, 2.9], [3.3, 0.4], [-0.6, -2.7], [2.8, 3.6], [-3.9, 0.8],
                [0.9, 2.5], [-2.2, -3.4], [4.6, -0.5], [0.2, 3.8], [-2.9, 2.3], [3.7, -2.1],
            ],
            dtype=torch.float64,
        ),
        2.0,
        3.0,
    ),
    {
        "y": torch.tensor(
            [14.3, -13.1, 5.8, 4.6, -2.9, -10.4, -23.7, 3.2, 10.9, -6.7, -11.2, 12.8],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
