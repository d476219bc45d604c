"""Trace a function into a graph of pure tensor operations, constants folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from inference.expansion import lift
from inference.isolation import isolated


class RandomStoryError(ValueError):
    """A function that was to be traced draws random numbers of its own."""


def trace(function: Callable[..., Any], *example: Any) -> fx.GraphModule:
    """Trace ``function`` at example inputs into a graph without in-place operations.

    Everything that depends on no input is computed here, once. That also pins the dtype of
    tensors that the function creates: outside :func:`inference.isolation.isolated` the default dtype
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
        return lift(batchable(fold(graph)))


def fold(module: fx.GraphModule) -> fx.GraphModule:
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


def batchable(module: fx.GraphModule) -> fx.GraphModule:
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
