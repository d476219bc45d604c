"""Stochastic volatility: returns whose log variance takes a walk of its own.

Story
    A price moves by returns around zero, and the logarithm of their variance, ``h``, wanders: it is
    pulled back to its mean and pushed by shocks that are not those of the price (in ``garch`` they are).
    What is unknown are the mean, the persistence and the spread of the wandering, and its whole path; what
    is seen are series of returns ``x``, one a row, all under the same law.

Joint
    p(mu) p(phi) p(sigma) prod_i p(shock_i) p(x_i | mu, phi, sigma, shock_i)

    - mu ~ Normal(log spread^2, 1)
    - phi ~ Beta(8, 1.3)
    - sigma ~ HalfNormal(0.5)
    - shock_it ~ Normal(0, 1)
    - h_i1 = mu + sigma shock_i1 / sqrt(1 - phi^2), h_it = mu + phi (h_i,t-1 - mu) + sigma shock_it
    - x_it ~ Normal(0, exp(h_it))

Shapes
    mu () in log squared units of x, phi () between 0 and 1, sigma (), shock (n, length), h (n, length),
    deterministic, x (n, length). A row is a whole series.

Priors
    ``spread`` is a return's usual size. phi's prior has mean 0.86 and standard deviation 0.11. The path
    starts in its stationary law and is written non-centred: its standardized shocks are the unknowns.

Answers
    p(x): generate
    p(mu, phi, sigma, h | x): learn
    p(x) of new series: weigh (by importance sampling over the path: short series only)
    not p(x_late | x_early) by ``given``: one row is one joint event.

Source
    Kim, Shephard and Chib (1998), "Stochastic volatility: likelihood inference and comparison with ARCH
    models", Review of Economic Studies 65. Their priors are (phi + 1) / 2 ~ Beta(20, 1.5), of the same mean
    and standard deviation of phi but open to phi < 0, mu ~ Normal(0, 10) and sigma^2 ~ InverseGamma(2.5,
    0.025).
"""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.distributions.doubling import linear_recursion


def stochastic_volatility(n: int, length: int, spread: float = 1.0) -> Tensor:
    """Tell the story of ``n`` series; returns them, shape (n, length).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     stochastic_volatility(4, length=6).shape
        torch.Size([4, 6])
    """
    mu = pyro.sample("mu", dist.Normal(2 * math.log(spread), 1.0))
    phi = pyro.sample("phi", dist.Beta(8.0, 1.3))
    sigma = pyro.sample("sigma", dist.HalfNormal(0.5))
    with pyro.plate("row", n, dim=-1):
        shock = pyro.sample("shock", dist.Normal(0.0, 1.0).expand([length]).to_event(1))
        stationary = (1 - phi**2) ** -0.5
        first = torch.cat([stationary.reshape(1), torch.ones(length - 1)])
        h = pyro.deterministic("h", mu + sigma * linear_recursion(phi, first * shock), event_dim=1)
        return pyro.sample("x", dist.Normal(0.0, (h / 2).exp()).to_event(1))


EXAMPLE = (
    (3, 8, 2.0),
    {
        "x": torch.tensor(
            [
                [0.4, -0.9, 1.3, -3.8, 4.1, -2.6, 2.2, -0.3],
                [-0.6, 0.2, 0.5, -1.2, 0.8, -0.4, 2.7, -4.4],
                [1.6, -2.3, 0.9, 0.3, -0.7, 0.6, -0.2, 1.1],
            ],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
