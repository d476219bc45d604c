"""GARCH(1, 1): returns whose spread breathes, calm after calm and storm after storm.

Story
    A price moves by small returns around a mean. Tomorrow's variance is a weighted average of three
    things: the long-run variance, today's squared surprise, and today's variance. So a large move, up or
    down, makes large moves likely for a while. What is unknown are the mean, the long-run variance and the
    three weights; what is seen are series of returns ``x``, one a row, all under the same law.

Joint
    p(mu) p(variance) p(weights) prod_i p(x_i | mu, variance, weights)

    - mu ~ Normal(0, spread^2)
    - variance ~ InverseGamma(2, spread^2)
    - weights = (level, shock, memory) ~ Dirichlet(1, 1, 3)
    - h_i1 = variance, h_it = level variance + shock (x_i,t-1 - mu)^2 + memory h_i,t-1
    - x_it ~ Normal(mu, h_it)

Shapes
    mu () in units of x, variance () in squared units, weights (3,) on the simplex, x (n, length). A row
    is a whole series.

Priors
    ``spread`` is of the order of a return. The weights add to one, so that every series is stationary with
    variance ``variance``; a priori most weight lies on memory.

Answers
    p(x): generate, weigh
    p(mu, variance, weights | x): learn
    not p(x_late | x_early) by ``given``: one row is one joint event.

Source
    Bollerslev (1986), "Generalized autoregressive conditional heteroskedasticity", Journal of
    Econometrics 31. Its omega, alpha and beta are level * variance, shock and memory (the "variance
    targeting" form of Engle and Mezrich 1996); the first variance is the long-run one.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.distributions.garch import Garch


def garch(n: int, length: int, spread: float = 1.0) -> Tensor:
    """Tell the story of ``n`` series; returns them, shape (n, length).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     garch(4, length=6).shape
        torch.Size([4, 6])
    """
    mu = pyro.sample("mu", dist.Normal(0.0, spread))
    variance = pyro.sample("variance", dist.InverseGamma(2.0, spread**2))
    weights = pyro.sample("weights", dist.Dirichlet(torch.tensor([1.0, 1.0, 3.0])))
    level, shock, memory = weights.unbind(-1)
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("x", Garch(mu, level * variance, shock, memory, variance, length))


EXAMPLE = (
    (4, 9, 2.0),
    {
        "x": torch.tensor(
            [
                [0.4, -0.9, 1.3, -3.8, 4.1, -2.6, 2.2, -0.3, 0.7],
                [-0.6, 0.2, 0.5, -1.2, 0.8, -0.4, 2.7, -4.4, 3.1],
                [1.6, -2.3, 0.9, 0.3, -0.7, 0.6, -0.2, 1.1, -1.4],
                [3.4, -3.9, 5.2, -1.7, 2.1, -0.8, -0.5, 0.9, 0.4],
            ],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
