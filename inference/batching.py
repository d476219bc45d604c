"""Evaluate a pure function of one draw at many draws: batched where possible, else one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

_MEMORY = 2**28  # elements of the largest intermediate that are held at once (2 GiB in float64)


class Batched:
    """A function of one draw, made to take a leading axis of draws on every input.

    ``torch.vmap`` runs the Pyro program once for a whole chunk of draws. A program that branches on
    values cannot be batched so; it is then run draw by draw, and ``looped`` says so.

    Args:
        function: maps a mapping of tensors (one draw) to a mapping or a tensor.
        cost: elements of the largest intermediate for one draw, which bounds the chunk.

    Example:
        >>> import torch
        >>> Batched(lambda d: d["a"] * 2)({"a": torch.arange(3.0)})
        tensor([0., 2., 4.])
    """

    def __init__(self, function: Callable[[Any], Any], cost: int = 1) -> None:
        self.function = function
        self.chunk = max(1, min(512, _MEMORY // max(1, 8 * cost)))
        self.looped = False

    def __call__(self, draws: Any) -> Any:
        """Evaluate at every draw; the result has a leading axis of draws."""
        if not self.looped:
            try:
                return torch.vmap(self.function, chunk_size=self.chunk, randomness="error")(draws)
            except (RuntimeError, NotImplementedError, ValueError):
                self.looped = True
        leaves, spec = tree_flatten(draws)
        count = leaves[0].shape[0]
        results = [self.function(tree_unflatten([x[i] for x in leaves], spec)) for i in range(count)]
        return tree_map(lambda *parts: torch.stack(parts), *results)
