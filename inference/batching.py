"""Evaluate a pure function of one draw at many draws: batched where possible, else one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from inference.graphs import trace

_MEMORY = 2**20  # elements of the largest intermediate per chunk: 8 MiB, about a core's cache
_WORTH_TRACING = 2**23  # elements; a trace costs about .5 s
_FEW = 16  # draws that are run one by one in less time than a trace takes


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
        self._traced: bool | None = None

    def __call__(self, draws: Any) -> Any:
        """Evaluate at every draw; the result has a leading axis of draws."""
        leaves, spec = tree_flatten(draws)
        count = leaves[0].shape[0]
        if count * self.cost > _WORTH_TRACING:
            self._trace(draws)
        result = self._batch(draws)
        if result is None and count >= _FEW and self._trace(draws):
            result = self._batch(draws)
        if result is not None:
            return result
        self.looped = True
        results = [self.function(tree_unflatten([x[i] for x in leaves], spec)) for i in range(count)]
        return tree_map(lambda *parts: torch.stack(parts), *results)

    def _batch(self, draws: Any) -> Any:
        """All draws at once, or ``None`` where torch cannot batch the program as it stands."""
        try:
            return torch.vmap(self.function, chunk_size=self.chunk, randomness="error")(draws)
        except (RuntimeError, NotImplementedError, ValueError):
            return None

    def _trace(self, draws: Any) -> bool:
        """Replace the function by its graph: traced at the first draw, compared at the last."""
        if self._traced is None:
            first, last = (tree_map(lambda x, i=i: x[i], draws) for i in (0, -1))
            try:
                graph = trace(self.function, first)
                self._traced = _agree(graph(last), self.function(last))
            except Exception:  # whatever a user's program does that a graph cannot hold
                self._traced = False
            if self._traced:
                self.function = graph
        return self._traced


def _agree(one: Any, other: Any) -> bool:
    pairs = zip(tree_flatten(one)[0], tree_flatten(other)[0], strict=True)
    return all(torch.allclose(a, b, rtol=1e-8, atol=1e-8, equal_nan=True) for a, b in pairs)
