"""Resample weighted draws, for many problems at once."""

from __future__ import annotations

import torch
from torch import Tensor


def resample(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Systematic resampling of a shuffled pool.

    Index i is chosen ``count * weight_i`` times on average; at most once where that is below one, so
    that resampled draws are distinct and ArviZ's effective sample size is not fooled.

    Args:
        log_weights: (pool,) normalized.
        count: how many to choose.

    Returns:
        (count,) indices, in random order.
    """
    return resample_rows(log_weights[None], count, [generator])[0]


def resample_rows(log_weights: Tensor, count: int, generators: list[torch.Generator]) -> Tensor:
    """The same for every row (problems, pool) -> (problems, count), each by its own generator."""
    size = log_weights.shape[1]
    order = torch.stack([torch.randperm(size, generator=g) for g in generators])
    total = log_weights.gather(1, order).exp().cumsum(1)
    start = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    positions = (torch.arange(count, dtype=torch.float64) + start) / count * total[:, -1:]
    index = order.gather(1, torch.searchsorted(total, positions).clamp(max=size - 1))
    return index.gather(1, torch.stack([torch.randperm(count, generator=g) for g in generators]))
