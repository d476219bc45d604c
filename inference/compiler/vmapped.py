"""Evaluate a pure function of one draw at many draws: batched where possible, else one by one.

Where much is to be computed, the function is traced into a graph of pure tensor operations, constants folded,
and element-wise work is done before a tensor is expanded, not after: a plate expands a distribution's
parameters to the number of rows before anything is computed from them, and ``Binomial(16, ink[y])`` then
takes logarithms of 10 x 1,437 x 64 probabilities of which 10 x 64 differ. In a graph the expansion is a node
like any other, so it can be moved: an element-wise operation on expanded tensors equals the expansion of the
operation on the tensors before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from inference.compiler.recording import RandomStoryError
from inference.runtime.isolation import isolated

_MEMORY = 2**20  # elements of the largest intermediate per chunk: 8 MiB, about a core's cache
_WORTH_TRACING = 2**23  # elements; a trace costs about .5 s
_FEW = 16  # draws that are run one by one in less time than a trace takes
_ATEN = torch.ops.aten
_EXPAND = _ATEN.expand.default
_POINTWISE = {
    op.default if not isinstance(op, torch._ops.OpOverload) else op
    for op in (
        _ATEN.abs, _ATEN.neg, _ATEN.exp, _ATEN.expm1, _ATEN.log, _ATEN.log1p, _ATEN.sqrt, _ATEN.rsqrt,
        _ATEN.reciprocal, _ATEN.sigmoid, _ATEN.tanh, _ATEN.lgamma, _ATEN.digamma, _ATEN.clamp,
        _ATEN.clamp_min, _ATEN.clamp_max, _ATEN.softplus, _ATEN.square, _ATEN.sin, _ATEN.cos,
        _ATEN.add.Tensor, _ATEN.sub.Tensor, _ATEN.mul.Tensor, _ATEN.div.Tensor, _ATEN.rsub.Scalar,
        _ATEN.pow.Tensor_Scalar, _ATEN.pow.Tensor_Tensor, _ATEN.pow.Scalar, _ATEN.maximum,
        _ATEN.minimum, _ATEN.xlogy.Tensor, _ATEN.logaddexp,
    )
}  # fmt: skip


class Vmapped:
    """A function of one draw, made to take a leading axis of draws on every input.

    ``torch.vmap`` runs the Pyro program once for a whole chunk of draws; where there is much to compute,
    the program is traced into a graph first. A program that branches on values can be neither; it is
    then run draw by draw, and ``looped`` says so.

    Args:
        function: maps a mapping of tensors (one draw) to a mapping or a tensor.
        cost: elements of the largest intermediate for one draw, which bounds the chunk.

    Example:
        >>> import torch
        >>> Vmapped(lambda d: d["a"] * 2)({"a": torch.arange(3.0)})
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


def lift(module: fx.GraphModule) -> fx.GraphModule:
    """Move expansions behind the element-wise operations that follow them, in place.

    Example:
        >>> import torch
        >>> from inference.compiler.vmapped import trace
        >>> graph = lift(trace(lambda x: x.expand(1000, 3).log().sum(), torch.ones(3)))
        >>> [tuple(n.meta["val"].shape) for n in graph.graph.nodes if "log" in str(n.target)]
        [(3,)]
    """
    for node in list(module.graph.nodes):
        if node.target in _POINTWISE:
            _lift_one(module.graph, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _lift_one(graph: fx.Graph, node: fx.Node) -> None:
    inputs = node.all_input_nodes
    if not any(n.target == _EXPAND for n in inputs) or "val" not in node.meta:
        return
    source: dict[fx.Node, fx.Node] = {
        n: n.args[0] if n.target == _EXPAND else n  # type: ignore[misc]
        for n in inputs
    }
    if any("val" not in n.meta for n in source.values()):
        return
    shape = node.meta["val"].shape
    small = torch.broadcast_shapes(*(n.meta["val"].shape for n in source.values()))
    if small.numel() >= shape.numel():
        return
    with graph.inserting_before(node):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: source[n])
        early: Any = graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        early.meta["val"] = node.meta["val"].new_empty(small)
        late = graph.call_function(_EXPAND, (early, list(shape)))
        late.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(late)


def trace(function: Callable[..., Any], *example: Any) -> fx.GraphModule:
    """Trace ``function`` at example inputs into a graph without in-place operations.

    Everything that depends on no input is computed here, once. That also pins the dtype of
    tensors that the function creates: outside :func:`inference.runtime.isolation.isolated` the default dtype
    is another.

    Raises:
        Exception: whatever the function does that a graph cannot hold.
        RandomStoryError: if the graph draws random numbers.

    Example:
        >>> import torch
        >>> graph = trace(lambda x: x * torch.ones(2).sum(), torch.ones(3, dtype=torch.float64))
        >>> graph(torch.arange(3.0))
        tensor([0., 2., 4.])
    """
    with isolated(0):
        graph = make_fx(lambda *inputs: function(*inputs))(*example)
        if any(_random(node) for node in graph.graph.nodes):
            raise RandomStoryError("it draws random numbers outside pyro.sample")
        if any(_in_place(node) for node in graph.graph.nodes):
            pure = functionalize(lambda *inputs: graph(*inputs), remove="mutations")
            graph = make_fx(lambda *inputs: pure(*inputs))(*example)
        return lift(batchable_graph(fold_constants(graph)))


def fold_constants(module: fx.GraphModule) -> fx.GraphModule:
    """Replace, in place, every operation on constants by its result; call inside ``isolated``."""
    values: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            values[node] = _attribute(module, str(node.target))
        elif node.op == "call_function" and all(n in values for n in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
            values[node] = node.target(*args, **kwargs)
            if isinstance(values[node], Tensor):
                values[_constant(module, node, values[node])] = values[node]
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def batchable_graph(module: fx.GraphModule) -> fx.GraphModule:
    """Write, in place, two operations that functionalizing leaves so that ``torch.vmap`` can batch them.

    ``copy`` has no batching rule and runs in a slow loop; ``slice_scatter`` fails on negative positions.
    """
    aten = torch.ops.aten
    for node in list(module.graph.nodes):
        if node.target == aten.copy.default and _same_dtype(*node.args[:2]):
            with module.graph.inserting_before(node):
                shape = list(node.args[0].meta["val"].shape)
                early = module.graph.call_function(aten.expand.default, (node.args[1], shape))
                early.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(early)
        elif node.target == aten.slice_scatter.default and "val" in node.meta:
            given: list[Any] = list(node.args)
            into, source, dim, *positions = given + [0, None, None][len(given) - 2 :]
            size = node.meta["val"].shape[dim]
            ends = [p + size if isinstance(p, int) and p < 0 else p for p in positions]
            node.args = (into, source, dim, *ends)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _same_dtype(one: fx.Node, other: fx.Node) -> bool:
    known = "val" in one.meta and "val" in other.meta
    return known and one.meta["val"].dtype == other.meta["val"].dtype


def _constant(module: fx.GraphModule, node: fx.Node, value: Tensor) -> fx.Node:
    name = f"_constant_{node.name}"
    module.register_buffer(name, value.detach())
    with module.graph.inserting_before(node):
        constant = module.graph.get_attr(name)
        constant.meta["val"] = value
    node.replace_all_uses_with(constant)
    return constant


def _attribute(module: fx.GraphModule, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _random(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _in_place(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
