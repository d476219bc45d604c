"""Series of returns whose spread changes in time: GARCH and stochastic volatility, parameters known.

GARCH(1, 1): x_t = sqrt(h_t) e_t, h_t = base + shock x_{t-1}^2 + memory h_{t-1}. The variance h is a function
of the past, so log p(x) is exact. Stochastic volatility: x_t = exp(h_t / 2) e_t with a hidden AR(1) of log
variances h; its p(x) is an integral over h, but moments are closed.

Source: Bollerslev (1986), Generalized autoregressive conditional heteroskedasticity; Taylor (1982),
Financial returns modelled by the product of two stochastic processes; Kim, Shephard and Chib (1998),
Stochastic volatility, section 2, for the moments. Both start in their stationary law: GARCH's variance at
its mean, as in the usual conditional likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Normal, constraints
from torch.types import _size

# As daily returns in per cent have them: the day's shock counts a little, yesterday's variance a lot.
BASE, SHOCK, MEMORY = 0.1, 0.15, 0.8
# Kim, Shephard and Chib's example has phi .98 and sigma .15; these mix faster, so that short series say more.
MEAN_LOG_VARIANCE, PERSISTENCE, INNOVATION_STDDEV = -0.5, 0.9, 0.4


class Garch(Distribution):
    """GARCH(1, 1) returns over so many steps.

    Raises
    ------
    ValueError
        If the series would not be stationary (shock + memory >= 1) or a parameter is negative.

    Examples
    --------
    >>> law = Garch(steps=5)
    >>> law.log_prob(torch.zeros(5)).item() > law.log_prob(torch.full((5,), 3.0)).item()
    True
    """

    arg_constraints = {}
    support = constraints.real_vector

    def __init__(self, base: float = BASE, shock: float = SHOCK, memory: float = MEMORY, steps: int = 500):
        if base <= 0 or shock < 0 or memory < 0 or shock + memory >= 1 or steps < 1:
            raise ValueError(
                "base, shock, memory, steps: expected > 0, >= 0, >= 0 with shock + memory < 1, and >= 1, "
                f"got {base}, {shock}, {memory}, {steps}"
            )
        self.base, self.shock, self.memory = base, shock, memory
        super().__init__(event_shape=Size([steps]), validate_args=False)

    @property
    def stationary_variance(self) -> float:
        """Mean of h_t, and the variance of every x_t."""
        return self.base / (1 - self.shock - self.memory)

    def variances(self, x: Tensor) -> Tensor:
        """h_t, the variance of x_t given its past: (..., steps) -> (..., steps)."""
        h = [torch.full_like(x[..., 0], self.stationary_variance)]
        for now in x.unbind(-1)[:-1]:
            h.append(self.base + self.shock * now**2 + self.memory * h[-1])
        return torch.stack(h, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(x) in nats: (..., steps) -> (...)."""
        if value.shape[-1:] != self.event_shape:
            raise ValueError(f"value: expected (..., {self.event_shape[0]}), got {tuple(value.shape)}")
        return Normal(0.0, self.variances(value.double()).sqrt()).log_prob(value).sum(-1)

    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw series, (*sample_shape, steps), float64."""
        e = torch.randn(*sample_shape, *self.event_shape, dtype=torch.float64)
        h, x = torch.full_like(e[..., 0], self.stationary_variance), []
        for now in e.unbind(-1):
            x.append(h.sqrt() * now)
            h = self.base + self.shock * x[-1] ** 2 + self.memory * h
        return torch.stack(x, -1)


class VolatilityPaths(NamedTuple):
    """Returns x and their log variances h, each (rows, steps)."""

    x: Tensor
    h: Tensor


@dataclass(frozen=True)
class StochasticVolatility:
    """Log variances h, an AR(1) from its stationary law, and returns x_t = exp(h_t / 2) e_t.

    h_t = mean + persistence (h_{t-1} - mean) + innovation. Moments are closed; p(x) is not.
    """

    mean: float = MEAN_LOG_VARIANCE
    persistence: float = PERSISTENCE
    innovation_stddev: float = INNOVATION_STDDEV

    @property
    def stationary_stddev(self) -> float:
        """Of h_t."""
        return self.innovation_stddev / math.sqrt(1 - self.persistence**2)

    @property
    def variance(self) -> float:
        """Of x_t."""
        return math.exp(self.mean + self.stationary_stddev**2 / 2)

    @property
    def kurtosis(self) -> float:
        """E[x^4] / E[x^2]^2: 3 for a Gaussian, more here."""
        return 3 * math.exp(self.stationary_stddev**2)

    def log_joint(self, x: Tensor, h: Tensor) -> Tensor:
        """Log p(x, h) in nats: (..., steps) and (..., steps) -> (...)."""
        before = self.mean + self.persistence * (h[..., :-1] - self.mean)
        log_h = Normal(self.mean, self.stationary_stddev).log_prob(h[..., 0])
        log_h = log_h + Normal(before, self.innovation_stddev).log_prob(h[..., 1:]).sum(-1)
        return log_h + Normal(0.0, (h / 2).exp()).log_prob(x).sum(-1)

    def simulate(self, rows: int, steps: int, seed: int = 0) -> VolatilityPaths:
        """Draw series with their log variances; the global random state is not touched."""
        generator = torch.Generator().manual_seed(seed)
        first, *others = torch.randn(steps, rows, generator=generator, dtype=torch.float64)
        path = [self.stationary_stddev * first]
        for innovation in others:
            path.append(self.persistence * path[-1] + self.innovation_stddev * innovation)
        h = self.mean + torch.stack(path, -1)
        return VolatilityPaths(
            (h / 2).exp() * torch.randn(h.shape, generator=generator, dtype=torch.float64), h
        )
