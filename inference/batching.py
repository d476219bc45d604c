"""Evaluate a pure function of one draw at many draws: batched where possible, else one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from inference.graphs import trace

_MEMORY = 2**20  # elements of the largest intermediate per chunk: 8 MiB, about a core's cache
_WORTH_TRACING = 2**23  # elements; a trace costs about .5 s


class Batched:
    """A function of one draw, made to take a leading axis of draws on every input.

    ``torch.vmap`` runs the Pyro program once for a whole chunk of draws; where there is much to compute,
    the program is traced into a graph first. A program that branches on values can be neither; it is
    then run draw by draw, and ``looped`` says so.

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
        self.cost = cost
        self.chunk = max(1, min(512, _MEMORY // max(1, cost)))
        self.looped = False

    def __call__(self, draws: Any) -> Any:
        """Evaluate at every draw; the result has a leading axis of draws."""
        leaves, spec = tree_flatten(draws)
        count = leaves[0].shape[0]
        if count * self.cost > _WORTH_TRACING:
            self._trace(tree_unflatten([x[0] for x in leaves], spec))
        if not self.looped:
            try:
                return torch.vmap(self.function, chunk_size=self.chunk, randomness="error")(draws)
            except (RuntimeError, NotImplementedError, ValueError):
                self.looped = True
        results = [self.function(tree_unflatten([x[i] for x in leaves], spec)) for i in range(count)]
        return tree_map(lambda *parts: torch.stack(parts), *results)

    def _trace(self, example: Any) -> None:
        try:
            self.function = trace(self.function, example)
        except Exception:  # whatever a user's program does that a graph cannot hold
            self.cost = 0
