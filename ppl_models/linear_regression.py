"""Linear regression with unknown noise: the conjugate normal-inverse-gamma story.

Story
    A response is a weighted sum of covariates, plus noise of one unknown variance. What is unknown are
    the weights and the noise; what is seen are the responses ``y`` at given ``covariates``. A column of
    ones among the covariates is the intercept.

Joint
    p(variance) p(weights | variance) prod_i p(y_i | weights, variance), with

    - variance ~ InverseGamma(2, noise^2)
    - weights ~ Normal(0, spread^2 variance I)
    - y_i ~ Normal(covariates_i . weights, variance)

Shapes
    covariates (n, features), weights (features,), variance (), in squared units of y, y (n,).

Priors
    E[variance] = noise^2 with infinite spread (shape 2); weights are of the order of ``spread`` noise
    standard deviations. Both are arguments, in the units of the data.

Answers
    p(y | covariates): predict: generate responses, or weigh them
    p(weights, variance | covariates, y): learn, exactly
    not p(covariates): they are given, never explained, so that no row is strange to this story

Source
    Bishop (2006), Pattern Recognition and Machine Learning, section 3.3 and exercise 3.12; O'Hagan and
    Forster (2004), Kendall's Advanced Theory of Statistics 2B, chapter 11. The weights' marginal
    posterior is a multivariate Student t.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution


def linear_regression(covariates: Tensor, noise: float = 1.0, spread: float = 10.0) -> Tensor:
    """Tell the story of one response per row of ``covariates``; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     linear_regression(torch.randn(7, 3)).shape
        torch.Size([7])
    """
    n, features = covariates.shape
    variance = pyro.sample("variance", dist.InverseGamma(2.0, noise**2))
    prior = dist.Normal(0.0, spread * variance.sqrt()).expand([features]).to_event(1)
    weights = pyro.sample("weights", prior)
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Normal(covariates @ weights, variance.sqrt()))


def exact(
    data: Mapping[str, Tensor],
    covariates: Tensor,
    noise: float = 1.0,
    spread: float = 10.0,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the latent sites given the responses, in closed form.

    Args:
        data: ``y`` (n,).
        covariates, noise, spread: as the story was called.
        given: values of latent sites to condition on. Given ``variance``, the weights are Gaussian,
            otherwise multivariate Student t; given ``weights``, the variance is narrower.

    Returns:
        ``variance`` (InverseGamma) and ``weights``, each the marginal posterior of its site given the
        sites in ``given``.
    """
    given = given or {}
    X, y = covariates.double(), data["y"].double()
    n, features = X.shape
    precision = X.T @ X + torch.eye(features, dtype=torch.float64) / spread**2
    mean = torch.linalg.solve(precision, X.T @ y)
    shape = torch.tensor(2.0 + n / 2, dtype=torch.float64)
    rate = noise**2 + (y @ y - mean @ precision @ mean) / 2
    posterior: dict[str, Distribution] = {"variance": dist.InverseGamma(shape, rate)}
    if "weights" in given:
        shift = given["weights"] - mean
        square = (shift @ precision * shift).sum(-1)
        posterior["variance"] = dist.InverseGamma(shape + features / 2, rate + square / 2)
    scale_tril = torch.linalg.cholesky(torch.linalg.inv(precision))
    if "variance" in given:
        deviation = given["variance"].sqrt()[..., None, None]
        posterior["weights"] = dist.MultivariateNormal(mean, scale_tril=deviation * scale_tril)
    else:
        scale_tril = scale_tril * (rate / shape).sqrt()
        posterior["weights"] = dist.MultivariateStudentT(2 * shape, mean, scale_tril)
    return {name: q for name, q in posterior.items() if name not in given}


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
        3.0,
    ),
    {
        "y": torch.tensor(
            [14.1, -19.4, 9.7, 3.6, -4.5, -17.2, -2.8, 2.6, 22.9, -17.1, -18.3, 15.5],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
