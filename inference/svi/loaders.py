"""Data that come from a loader: collected once to be checked, then batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def is_loader(data: Any) -> bool:
    """Whether data are an iterable of mappings, such as a torch ``DataLoader``, and no mapping."""
    return not isinstance(data, Mapping) and hasattr(data, "dataset") and isinstance(data, Iterable)


def collected(loader: Any) -> dict[str, Tensor]:
    """All rows of a loader, one pass, in the order in which they came.

    Raises:
        ValueError: for batches that are no mappings of tensors, or a loader that yields nothing.

    Example:
        >>> import torch
        >>> rows = [{"x": torch.tensor([float(i)])} for i in range(4)]
        >>> collected(torch.utils.data.DataLoader(rows, batch_size=2))["x"].shape
        torch.Size([4, 1])
    """
    parts: dict[str, list[Tensor]] = {}
    for batch in batches(loader):
        for name, value in batch.items():
            parts.setdefault(name, []).append(value)
    if not parts:
        raise ValueError("data: expected a loader with at least one batch, got none.")
    return {name: torch.cat(values) for name, values in parts.items()}


def batches(loader: Any) -> Iterator[dict[str, Tensor]]:
    """One pass over a loader; random numbers that it draws come from torch's generator."""
    iterator: Iterator[Any] | None = None
    while True:
        with torch.device("cpu"):  # a loader shuffles on the CPU, wherever the training is
            iterator = iterator or iter(loader)
            batch = next(iterator, None)
        if batch is None:
            return
        if not isinstance(batch, Mapping):
            raise ValueError(
                f"data: expected a loader of mappings, site name -> tensor with one leading entry per row, "
                f"got batches of type {type(batch).__name__}. Let the dataset return {{'x': x}}."
            )
        yield {str(n): torch.as_tensor(v).detach() for n, v in batch.items()}
