"""GARCH(1, 1): a series whose variance remembers its own shocks, as one vectorized site."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Normal, constraints

from ppl_models.distributions.doubling import linear_recursion


class Garch(TorchDistribution):
    """Series of ``length`` values around ``location`` with variances

        variance_1 = start,   variance_t = constant + shock (x_{t-1} - location)^2 + memory variance_{t-1}.

    Given the series, its variances obey a linear recursion, which is solved by pairwise doubling; so do
    they in sampling, given the standardized shocks.

    Args:
        location: mean of every value, (...).
        constant: omega in the source, squared units of the series, (...).
        shock: alpha, weight of the last squared shock, (...).
        memory: beta, weight of the last variance, (...).
        start: variance of the first value, (...).
        length: of a series.

    Source: Bollerslev (1986), "Generalized autoregressive conditional heteroskedasticity", Journal of
    Econometrics 31.

    Example:
        >>> import torch
        >>> law = Garch(*torch.tensor([0.0, 0.2, 0.3, 0.5, 1.0]), length=3)
        >>> law.variances(torch.tensor([2.0, 0.0, 1.0]))
        tensor([1.0000, 1.9000, 1.1500])
    """

    arg_constraints = {
        "location": constraints.real,
        "constant": constraints.positive,
        "shock": constraints.nonnegative,
        "memory": constraints.nonnegative,
        "start": constraints.positive,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        location: Tensor,
        constant: Tensor,
        shock: Tensor,
        memory: Tensor,
        start: Tensor,
        length: int,
        validate_args: bool | None = None,
    ) -> None:
        given = torch.broadcast_tensors(location, constant, shock, memory, start)
        self.location, self.constant, self.shock, self.memory, self.start = given
        self.length = length
        super().__init__(self.location.shape, torch.Size((length,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Garch:
        """Return the same law with a larger batch shape."""
        new = self._get_checked_instance(Garch, _instance)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        new.length = self.length
        super(Garch, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def variances(self, value: Tensor) -> Tensor:
        """Variance of each value given those before it, in the shape of ``value``."""
        squares = (value[..., :-1] - self.location.unsqueeze(-1)) ** 2
        inputs = self.constant.unsqueeze(-1) + self.shock.unsqueeze(-1) * squares
        start = self.start.unsqueeze(-1).expand(*inputs.shape[:-1], 1)
        return linear_recursion(self.memory.unsqueeze(-1), torch.cat([start, inputs], -1))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of whole series, (*sample_shape, *batch_shape), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        law = Normal(self.location.unsqueeze(-1), self.variances(value).sqrt(), validate_args=False)
        return law.log_prob(value).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw whole series, (*sample_shape, *batch_shape, length), differentiable in the parameters."""
        shape = self._extended_shape(torch.Size(sample_shape))
        normal = torch.randn(shape, dtype=self.location.dtype, device=self.location.device)
        decay = self.memory.unsqueeze(-1) + self.shock.unsqueeze(-1) * normal[..., :-1] ** 2
        decay = torch.cat([torch.ones_like(normal[..., :1]), decay], -1)
        start = self.start.unsqueeze(-1).expand(shape[:-1] + (1,))
        inputs = self.constant.unsqueeze(-1).expand(shape[:-1] + (self.length - 1,))
        variances = linear_recursion(decay, torch.cat([start, inputs], -1))
        return self.location.unsqueeze(-1) + variances.sqrt() * normal
