"""Memory that is written to, as parts: what it held first, and what was written where.

A read puts together the parts that it sees: one of them alone where it sees what was written (a loop over
time reads what it wrote), else a concatenation, so that a tensor filled piece by piece costs what
``torch.cat`` of the pieces costs, and no copy is made at a write.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Elements = np.ndarray[Any, np.dtype[np.int64]]


class WrittenMemory:
    """A tensor that is written to: its parts, and for each element the part and the place in it.

    Args:
        value: what it holds first.

    Attributes:
        version: how often it was written to.

    Example:
        >>> import numpy as np, torch
        >>> memory = WrittenMemory(torch.zeros(2, 2))
        >>> memory.write(np.array([0, 2]), torch.tensor([3.0, 4.0]))
        >>> memory.joined()
        tensor([[3., 0.],
                [4., 0.]])
    """

    def __init__(self, value: Tensor) -> None:
        self.shape, self.dtype = value.shape, value.dtype
        self.version = 0
        self._start(value)

    def _start(self, value: Tensor) -> None:
        self.parts = [value]
        self.owner = np.zeros(value.numel(), dtype=np.int64)
        self.offset = np.arange(value.numel())

    @property
    def whole(self) -> bool:
        """Whether it is one tensor."""
        return len(self.parts) == 1

    def write(self, elements: Elements, value: Tensor) -> None:
        """Put values in the place of elements.

        Args:
            elements: their numbers, row by row, in the shape of ``value``.
            value: of the memory's dtype.

        Raises:
            ValueError: if an element is written to twice.
        """
        self.version += 1
        order = np.arange(elements.size).reshape(elements.shape)
        if elements.size == self.owner.size and bool((elements == order).all()):
            self._start(value.reshape(self.shape))
            return
        self.owner[elements] = len(self.parts)
        self.offset[elements] = order
        if not (self.offset[elements] == order).all():
            raise ValueError("it writes to elements that share memory")
        self.parts.append(value)

    def read(self, elements: Elements) -> Tensor:
        """The values of elements, in their shape."""
        return self._assembled(self.owner[elements], self.offset[elements])

    def joined(self) -> Tensor:
        """All of it as one tensor."""
        if not self.whole:
            self._start(self.read(np.arange(self.owner.size).reshape(self.shape)))
        return self.parts[0]

    def _assembled(self, owner: Elements, offset: Elements) -> Tensor:
        if self._is_part(owner, offset):
            return self.parts[int(owner.flat[0])].reshape(owner.shape)
        for axis in range(owner.ndim):
            slabs = self._slabs(owner, offset, axis)
            if slabs is not None:
                return _concatenated(slabs, owner.shape, axis)
        used = np.unique(owner)
        sizes = [self.parts[i].numel() for i in used]
        start = np.zeros(len(self.parts), dtype=np.int64)
        start[used] = np.cumsum([0, *sizes[:-1]])
        flat = [self.parts[i].reshape(-1) for i in used]
        place = torch.from_numpy(np.ascontiguousarray(start[owner] + offset).reshape(-1))
        together = torch.cat(flat) if len(flat) > 1 else flat[0]
        return together.index_select(0, place).reshape(owner.shape)

    def _is_part(self, owner: Elements, offset: Elements) -> bool:
        """Whether what is seen is one part, as it was written."""
        if not owner.size or not (owner == owner.flat[0]).all():
            return False
        same = offset.size == self.parts[int(owner.flat[0])].numel()
        return same and bool((offset.ravel() == np.arange(offset.size)).all())

    def _slabs(self, owner: Elements, offset: Elements, axis: int) -> list[tuple[Tensor, int]] | None:
        """Parts, each with its extent, that follow each other along an axis; ``None`` if they do not."""
        rows = np.moveaxis(owner, axis, 0).reshape(owner.shape[axis], -1)
        if not rows.size or not (rows == rows[:, :1]).all():
            return None
        edges = [0, *(np.flatnonzero(np.diff(rows[:, 0])) + 1).tolist(), len(rows)]
        found: list[tuple[Tensor, int]] = []
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            seen = np.take(owner, range(start, stop), axis), np.take(offset, range(start, stop), axis)
            if self._is_part(*seen):
                part = self.parts[rows[start, 0]]
            elif rows[start, 0] == 0 and owner.shape == self.shape:
                part = self.parts[0].narrow(axis, start, stop - start)
            else:
                return None
            found.append((part, stop - start))
        return found


def _concatenated(slabs: list[tuple[Tensor, int]], shape: tuple[int, ...], axis: int) -> Tensor:
    flat = shape[:axis] + shape[axis + 1 :]
    if all(extent == 1 and part.shape == flat for part, extent in slabs):
        return torch.stack([part for part, _ in slabs], axis)
    sized = [part.reshape(*shape[:axis], extent, *shape[axis + 1 :]) for part, extent in slabs]
    return torch.cat(sized, axis) if len(sized) > 1 else sized[0]
