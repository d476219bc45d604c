"""A funnel: x1 sets the spread of x2, over a factor of twenty. No labels.

x1 ~ Normal(0, 1.5^2), x2 | x1 ~ Normal(0, exp(x1)): its standard deviation is exp(x1 / 2).

Source: Neal (2003), Slice sampling, section 8: there x1 has standard deviation 3 and sets the spread
of nine others.
"""

import math

import torch
from torch import Tensor

from experiments.truth.law import Law

STDDEV = 1.5


class Funnel(Law):
    """A Gaussian whose log variance is the first coordinate."""

    def __init__(self, stddev: float):
        self.first_stddev = stddev
        super().__init__(torch.ones(1), bounds=(-5.0, 5.0))

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x): (..., 2) -> (..., 1)."""
        first, second = x.unbind(-1)
        log_first = torch.distributions.Normal(0.0, self.first_stddev).log_prob(first)
        log_second = -0.5 * (second**2 * (-first).exp() + first + math.log(2 * math.pi))
        return (log_first + log_second).unsqueeze(-1)

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every row: (rows,) -> (rows, 2)."""
        first, second = torch.randn(2, len(y), dtype=torch.float64)
        first = self.first_stddev * first
        return torch.stack([first, (first / 2).exp() * second], -1)

    def entropy(self) -> Tensor:
        """Log(2 pi e stddev), in nats: the mean of x1 / 2, the log spread of x2, is 0."""
        return torch.tensor(2 * math.pi * math.e * self.first_stddev, dtype=torch.float64).log()


def density() -> Funnel:
    """Return the funnel; its squares of figures, [-5, 5], leave out 2 % of it."""
    return Funnel(STDDEV)
