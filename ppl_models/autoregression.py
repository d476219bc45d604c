"""Autoregression AR(p): every value a weighted sum of those just before it, plus noise.

Story
    A quantity is followed through time (a temperature, a stock). Its next value is a constant, plus a
    weighted sum of its last ``order`` values, plus a fresh shock. What is unknown are the weights and the
    variance of the shocks; what is seen are series ``x``, one a row, all with the same weights. The first
    ``order`` values of a series are given: the story begins after them, so it is the conditional one and
    says nothing of stationarity.

Joint
    p(variance) p(phi | variance) prod_i p(x_i | first_i, phi, variance)

    - variance ~ InverseGamma(2, noise^2)
    - phi ~ Normal(0, spread^2 variance I)
    - x_it ~ Normal(phi_0 + phi_1 x_i,t-1 + ... + phi_order x_i,t-order, variance)

Shapes
    first (n, order) in the order of time, variance () in squared units of x, phi (order + 1,), the
    constant first, then the coefficient of the nearest value, x (n, length).

Priors
    E[variance] = noise^2 with infinite spread (shape 2); the weights are of the order of ``spread`` noise
    standard deviations, which is vague for coefficients: explosive series are not excluded.

Answers
    p(x | first): generate, weigh
    p(phi, variance | x, first): learn
    not p(first): the first values are arguments.
    not p(x_late | x_early) by ``given``: call the story with the last values as ``first`` instead.

Source
    Hamilton (1994), Time Series Analysis, sections 5.3 and 12.1; Zellner (1971), An Introduction to
    Bayesian Inference in Econometrics, section 7.1. Given the first values it is a linear regression on
    the series' own past, hence conjugate.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_models import linear_regression
from ppl_models.distributions.autoregressive import Autoregressive, lags


def autoregression(first: Tensor, length: int, noise: float = 1.0, spread: float = 10.0) -> Tensor:
    """Tell the story of one series per row of ``first``; returns what follows, shape (n, length).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     autoregression(torch.randn(4, 2), length=6, spread=0.3).shape
        torch.Size([4, 6])
    """
    n, order = first.shape
    variance = pyro.sample("variance", dist.InverseGamma(2.0, noise**2))
    stddev = variance.sqrt()
    phi = pyro.sample("phi", dist.Normal(0.0, spread * stddev).expand([order + 1]).to_event(1))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("x", Autoregressive(first, phi[..., 0], phi[..., 1:], stddev, length))


def exact(
    data: Mapping[str, Tensor],
    first: Tensor,
    length: int,
    noise: float = 1.0,
    spread: float = 10.0,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the latent sites given the series, in closed form.

    Args:
        data: ``x`` (n, length).
        first, length, noise, spread: as the story was called.
        given: values of latent sites to condition on. Given ``variance``, phi is Gaussian, otherwise
            multivariate Student t; given ``phi``, the variance is narrower.

    Returns:
        ``variance`` (InverseGamma) and ``phi``, each the marginal posterior of its site given the sites
        in ``given``: those of a linear regression of every value on the ``order`` before it.
    """
    x = data["x"].double()
    past = lags(first.double(), x).flatten(0, 1)
    covariates = torch.cat([torch.ones_like(past[:, :1]), past], -1)
    renamed = {"weights" if name == "phi" else name: value for name, value in (given or {}).items()}
    posterior = linear_regression.exact({"y": x.flatten()}, covariates, noise, spread, given=renamed)
    return {"phi" if name == "weights" else name: q for name, q in posterior.items()}


EXAMPLE = (
    (
        torch.tensor([[2.4, 3.1], [-1.6, 0.5], [5.2, 4.7], [0.3, -2.2]], dtype=torch.float64),
        7,
        2.0,
        0.4,
    ),
    {
        "x": torch.tensor(
            [
                [2.2, 3.9, 4.6, 2.7, 0.8, 1.4, -0.9],
                [2.6, 3.3, 1.9, 4.2, 5.8, 3.7, 3.4],
                [3.9, 2.1, -0.4, 0.6, 2.8, 4.4, 6.1],
                [-0.7, 1.2, 0.9, 3.6, 2.5, 1.7, 2.9],
            ],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
