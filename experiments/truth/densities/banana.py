"""A banana: a Gaussian bent along a parabola. No labels.

x1 ~ Normal(0, 1.25^2), x2 | x1 ~ Normal(0.4 (x1^2 - 1.25^2), 0.3^2). Bending keeps areas, so the entropy is
that of the Gaussian before bending.

Source: Haario, Saksman and Tamminen (1999), Adaptive proposal distribution for random walk
Metropolis algorithm, section 4: the twisted Gaussian, with numbers of our own.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from experiments.truth.law import Law

ALONG = 1.25  # standard deviation of x1
ACROSS = 0.3  # standard deviation of x2 around the parabola
BEND = 0.4


class Banana(Law):
    """A Gaussian along and across a parabola."""

    def __init__(self, along: float, across: float, bend: float):
        self.along, self.across, self.bend = along, across, bend
        super().__init__(torch.ones(1), bounds=(-5.0, 6.0))

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x): (..., 2) -> (..., 1)."""
        first, second = x.unbind(-1)
        log_second = Normal(self._middle(first), self.across).log_prob(second)
        return (Normal(0.0, self.along).log_prob(first) + log_second).unsqueeze(-1)

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every row: (rows,) -> (rows, 2)."""
        first, second = torch.randn(2, len(y), dtype=torch.float64)
        first = self.along * first
        return torch.stack([first, self._middle(first) + self.across * second], -1)

    def entropy(self) -> Tensor:
        """Log(2 pi e along across), in nats."""
        return torch.tensor(2 * math.pi * math.e * self.along * self.across, dtype=torch.float64).log()

    def _middle(self, first: Tensor) -> Tensor:
        return self.bend * (first**2 - self.along**2)


def density() -> Banana:
    """Return the banana."""
    return Banana(ALONG, ACROSS, BEND)
