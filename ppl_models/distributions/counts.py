"""A multinomial whose rows have totals of their own."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class Counts(TorchDistribution):
    """How often each of several words occurs among ``total`` independent draws of a word.

    torch's and Pyro's ``Multinomial`` cannot be sampled where totals differ between rows, as the lengths of
    documents do. Its support is what sums to the total, which theirs does not check.

    Parameters
    ----------
    total
        (*batch,) whole numbers.
    frequency
        (*batch, words), each row on the simplex.

    Source: Johnson, Kotz and Balakrishnan (1997), Discrete Multivariate Distributions, chapter 35.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([2.0, 1.0])
    >>> Counts(torch.tensor(3), torch.tensor([0.5, 0.5])).log_prob(x).exp()  # 3 / 2^3
    tensor(0.3750)
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, total: Tensor, frequency: Tensor) -> None:
        batch = torch.broadcast_shapes(total.shape, frequency.shape[:-1])
        self.total = total.expand(batch)
        self.frequency = frequency.expand(*batch, frequency.shape[-1])
        super().__init__(batch, frequency.shape[-1:])

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        """Counts that sum to the total."""
        return _SumTo(self.total)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Counts:
        """Return the same distribution in a larger batch."""
        shape = torch.Size(batch_shape)
        return Counts(self.total.expand(shape), self.frequency.expand(*shape, -1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw (*sample_shape, *batch_shape, words): the longest row's words; shorter rows count fewer."""
        shape = torch.Size(sample_shape)
        longest = int(self.total.max())
        words = torch.distributions.Categorical(self.frequency).sample((longest, *shape))
        position = torch.arange(longest, device=words.device).reshape(-1, *[1] * (words.dim() - 1))
        counted = (position < self.total).to(self.frequency.dtype)
        counts = torch.zeros(*words.shape[1:], self.frequency.shape[-1], dtype=self.frequency.dtype)
        return counts.scatter_add_(-1, words.movedim(0, -1), counted.expand(words.shape).movedim(0, -1))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of the counts, in nats."""
        ways = torch.lgamma(self.total + 1.0) - torch.lgamma(value + 1.0).sum(-1)
        return ways + torch.xlogy(value, self.frequency).sum(-1)


class _SumTo(constraints.Constraint):
    """Whole numbers, at least 0, whose sum over the last dimension is given."""

    is_discrete = True
    event_dim = 1

    def __init__(self, total: Tensor) -> None:
        self.total = total
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        whole = ((value >= 0) & (value == value.round())).all(-1)
        return whole & (value.sum(-1) == self.total)
