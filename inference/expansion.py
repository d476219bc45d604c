"""Do element-wise work before a tensor is expanded, not after.

A plate expands a distribution's parameters to the number of rows before anything is computed from them;
``Binomial(16, ink[y])`` then takes logarithms of 10 x 1,437 x 64 probabilities of which 10 x 64 differ.
In a traced graph the expansion is a node like any other, so it can be moved: an element-wise operation
on expanded tensors equals the expansion of the operation on the tensors before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

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


def lift(module: fx.GraphModule) -> fx.GraphModule:
    """Move expansions behind the element-wise operations that follow them, in place.

    Example:
        >>> import torch
        >>> from inference.graphs import trace
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
