"""The law of a sample in ascending order."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor


class OrderStatistics(TorchDistribution):
    """``count`` independent draws from a continuous law on the real line, in ascending order.

    Interchangeable components (of a mixture, of a hidden Markov chain) leave a posterior with ``count!``
    equal modes; numbering the components by a parameter that is drawn in order leaves one.

    Args:
        base: law of one draw, with support on all reals.
        count: number of draws.

    Source: David and Nagaraja (2003), Order Statistics, section 2.2: the density of the ordered sample
    is count! times that of the sample.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> law = OrderStatistics(dist.Normal(0.0, 1.0), 3)
        >>> law.log_prob(torch.tensor([-1.0, 0.0, 1.0]))
        tensor(-1.9651)
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.ordered_vector
    has_rsample = True

    def __init__(self, base: TorchDistribution, count: int, validate_args: bool | None = None) -> None:
        self.base, self.count = base, count
        super().__init__(base.batch_shape, torch.Size((count,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> OrderStatistics:
        """Return the same law with a larger batch shape."""
        new = self._get_checked_instance(OrderStatistics, _instance)
        new.base, new.count = self.base.expand(batch_shape), self.count
        super(OrderStatistics, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of ordered samples, (*sample_shape, *batch_shape), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        return self.base.log_prob(value.movedim(-1, 0)).sum(0) + math.lgamma(self.count + 1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw ordered samples, (*sample_shape, *batch_shape, count)."""
        draws = self.base.rsample(torch.Size((self.count, *sample_shape)))
        return draws.movedim(0, -1).sort(-1).values
