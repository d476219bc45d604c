"""What functionalizing a run leaves to be done, and what of a run shares memory with its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from inference.tape import Meta, Op, Tape


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
