"""Independent normals, told in ascending order."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class SortedNormal(TorchDistribution):
    """The order statistics of ``count`` independent Normal(mean, stddev^2): an ascending vector.

    Its density is ``count!`` times that of the normals, on ascending vectors only. It tells apart what is
    the same up to names, the components of a mixture, without changing what the names stand for: a joint
    that treats all names alike has the same p(x) with sorted components as with unsorted ones.

    Parameters
    ----------
    count
        Length of the vector.
    mean, stddev
        Of the normals.

    Source: David and Nagaraja (2003), Order Statistics, section 2.2; the constraint is Stan's ``ordered``.

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     draw = SortedNormal(3, 5.0, 2.0).sample()
    >>> draw.shape, bool((draw.diff() > 0).all())
    (torch.Size([3]), True)
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.ordered_vector
    has_rsample = True

    def __init__(self, count: int, mean: float | Tensor = 0.0, stddev: float | Tensor = 1.0) -> None:
        self.count = count
        self.mean_, self.stddev_ = torch.as_tensor(mean), torch.as_tensor(stddev)
        batch = torch.broadcast_shapes(self.mean_.shape, self.stddev_.shape)
        super().__init__(batch, torch.Size([count]))

    def expand(self, batch_shape: Any, _instance: Any = None) -> SortedNormal:
        """Return the same distribution in a larger batch."""
        shape = torch.Size(batch_shape)
        return SortedNormal(self.count, self.mean_.expand(shape), self.stddev_.expand(shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw (*sample_shape, *batch_shape, count), ascending."""
        noise = torch.randn(self._extended_shape(torch.Size(sample_shape)))
        scaled = self.mean_[..., None] + self.stddev_[..., None] * noise.to(self.mean_)
        return scaled.sort(-1).values

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of an ascending vector, in nats."""
        standard = (value - self.mean_[..., None]) / self.stddev_[..., None]
        constant = math.lgamma(self.count + 1) - self.count * 0.5 * math.log(2 * math.pi)
        return constant - 0.5 * standard.square().sum(-1) - self.count * self.stddev_.log()
