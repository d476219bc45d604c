"""What is known of operations: which return what they were given, which work element by element.

Also what functionalizing a run leaves to be done, and what of a run shares memory with its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from inference.compiler.tape import Meta, Op, Ref, Size, Tape

aten = torch.ops.aten
VIEWS = frozenset({
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default, aten.select.int,
    aten.permute.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default,
    aten.slice.Tensor, aten.t.default, aten.transpose.int, aten.alias.default, aten.detach.default,
    aten.clone.default, aten.lift_fresh.default,
})  # fmt: skip
SAME = frozenset(
    {aten.alias.default, aten.clone.default, aten.lift_fresh.default, aten.lift_fresh_copy.default}
)
SAME_IF_SHAPE = frozenset({
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default,
    aten.slice.Tensor, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
})  # fmt: skip
FILLS: dict[Any, Callable[[Op], Any]] = {
    aten.zeros_like.default: lambda op: 0.0,
    aten.new_zeros.default: lambda op: 0.0,
    aten.zeros.default: lambda op: 0.0,
    aten.ones_like.default: lambda op: 1.0,
    aten.new_ones.default: lambda op: 1.0,
    aten.ones.default: lambda op: 1.0,
    aten.full_like.default: lambda op: op.args[1],
    aten.new_full.default: lambda op: op.args[2],
    aten.full.default: lambda op: op.args[1],
    aten.scalar_tensor.default: lambda op: op.args[0],
}
POINTWISE = frozenset({
    aten.abs.default, aten.neg.default, aten.exp.default, aten.expm1.default, aten.log.default,
    aten.log1p.default, aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default, aten.sigmoid.default,
    aten.tanh.default, aten.lgamma.default, aten.digamma.default, aten.clamp.default, aten.clamp_min.default,
    aten.clamp_max.default, aten.softplus.default, aten.square.default, aten.sin.default, aten.cos.default,
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.rsub.Scalar, aten.add.Scalar,
    aten.sub.Scalar, aten.mul.Scalar, aten.div.Scalar, aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor,
    aten.pow.Scalar, aten.maximum.default, aten.minimum.default, aten.xlogy.Tensor, aten.logaddexp.default,
    aten.log_sigmoid_forward.default, aten.lt.Scalar, aten.gt.Scalar, aten.le.Scalar, aten.ge.Scalar,
    aten.eq.Scalar, aten.ne.Scalar, aten.lt.Tensor, aten.gt.Tensor, aten.le.Tensor, aten.ge.Tensor,
    aten.eq.Tensor, aten.ne.Tensor, aten.where.self, aten.masked_fill.Scalar, aten.logical_not.default,
    aten.logical_and.default, aten.logical_or.default, aten.sgn.default, aten.erf.default, aten.erfc.default,
    aten.sigmoid_backward.default, aten.tanh_backward.default, aten.softplus_backward.default,
    aten.polygamma.default, aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_not.default,
}) - {aten.log_sigmoid_forward.default}  # fmt: skip
NEUTRAL: dict[Any, tuple[float, bool]] = {
    aten.add.Tensor: (0.0, True),
    aten.add.Scalar: (0.0, False),
    aten.sub.Tensor: (0.0, False),
    aten.sub.Scalar: (0.0, False),
    aten.mul.Tensor: (1.0, True),
    aten.mul.Scalar: (1.0, False),
    aten.div.Tensor: (1.0, False),
    aten.div.Scalar: (1.0, False),
}


def only_dtype(op: Op) -> bool:
    """Whether a copy changes nothing but the dtype."""
    return set(op.kwargs) <= {"dtype", "layout", "non_blocking", "memory_format"}


def key_of(op: Op) -> Any:
    """What equal operations have in common; ``None`` where that cannot be told."""
    try:
        key = (op.target, _frozen(op.args), tuple(sorted((k, _frozen(v)) for k, v in op.kwargs.items())))
        hash(key)
    except TypeError:
        return None
    return key


def _frozen(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_frozen(part) for part in value)
    return (type(value), value) if isinstance(value, bool | int | float) else value


def sized(op: Op) -> bool:
    """Whether a batch size stands among the arguments."""
    found: list[Size] = []

    def look(one: Ref | Size) -> Any:
        if isinstance(one, Size):
            found.append(one)
        return one

    op.mapped(look)
    return bool(found)


def holds(dtype: torch.dtype) -> bool:
    """Whether Python's floats hold the numbers of a dtype."""
    return dtype.is_floating_point or dtype == torch.bool


def batchable(op: Op, meta: Mapping[int, Meta]) -> Op:
    """``copy`` has no batching rule, and that of ``slice_scatter`` fails on negative positions."""
    aten, out = torch.ops.aten, op.outs[0] if op.outs else -1
    if op.target is aten.copy.default and meta[op.args[0].index].dtype == meta[op.args[1].index].dtype:
        return Op(aten.expand.default, (op.args[1], list(meta[out].shape)), {}, op.outs)
    if op.target is aten.slice_scatter.default:
        given: list[Any] = list(op.args)
        into, source, dim, *positions = given + [0, None, None][len(given) - 2 :]
        size: Any = meta[out].shape[dim]
        ends = [p + size if isinstance(p, int) and p < 0 else p for p in positions]
        return Op(op.target, (into, source, dim, *ends), op.kwargs, op.outs)
    return op


def aliases(tape: Tape, kept: set[int]) -> set[int]:
    """The values that share memory with inputs or constants."""
    found = set(kept)
    for op in tape.ops:
        schema = op.target._schema  # type: ignore[attr-defined]
        if any(r.alias_info is not None for r in schema.returns) and not found.isdisjoint(op.refs):
            first = next(iter(op.refs))
            if first in found:
                found.update(op.outs)
    return found
