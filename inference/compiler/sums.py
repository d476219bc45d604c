"""Take out of a sum what its terms share: sum_i (a_i - b) / c = (sum_i a_i - n b) / c.

The log density of n rows is such a sum; with 256 draws of it, every pass over draws x rows that is saved
counts.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from inference.compiler.operations import aten
from inference.compiler.tape import Meta, Op, Ref, Shape, Writer

SUMS = frozenset({aten.sum.default, aten.sum.dim_IntList})
_PRODUCTS = frozenset({aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar})
_SUMMANDS = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.add.Scalar, aten.sub.Scalar})


def pulled(tape: Writer, op: Op) -> int | None:
    """What takes the place of a sum, or ``None`` where its terms share nothing."""
    source = op.args[0].index
    inner, shape = tape.made.get(source), tape.meta[source].shape
    axes = _axes(op, len(shape))
    if inner is None or axes is None or {tape.meta[n].dtype for n in (source, *op.outs)} != {torch.float64}:
        return None
    sizes = [size for a in axes if isinstance(size := shape[a], int) and size > 0]
    if len(sizes) != len(axes) or not axes:
        return None
    one = _Sum(tape, op, shape, axes, math.prod(sizes))
    if inner.target == aten.expand.default:
        return one.of_expansion(inner.args[0].index)
    if inner.target == aten.neg.default:
        return tape.new(aten.neg.default, (Ref(one.of(inner.args[0].index)),), one.meta)
    if len(inner.args) == 2 and not inner.kwargs and inner.target in _PRODUCTS | _SUMMANDS:
        return one.of_pair(inner)
    return None


def _axes(op: Op, dims: int) -> list[int] | None:
    """The axes that are summed over, from the left; ``None`` for a sum in another dtype."""
    if op.kwargs:
        return None
    chosen = op.args[1] if len(op.args) > 1 and op.args[1] else range(dims)
    return sorted(a % dims for a in chosen) if dims else None


class _Sum:
    """A sum over some axes of a shape."""

    def __init__(self, tape: Writer, op: Op, shape: Shape, axes: list[int], terms: int) -> None:
        self.tape, self.op, self.shape, self.axes, self.terms = tape, op, shape, axes, terms
        self.meta = tape.meta[op.outs[0]]

    def of(self, number: int) -> int:
        """The same sum of another value of the same shape."""
        return self.tape.new(self.op.target, (Ref(number), *self.op.args[1:]), self.meta)

    def of_pair(self, inner: Op) -> int | None:
        """Of a product or difference with one part that all terms share."""
        x, y = inner.args
        if self._full(x) and self._shared(y):
            rest = self._reduced(y)
            if inner.target in _SUMMANDS:
                rest = self._times(rest)
            return self.tape.new(inner.target, (Ref(self.of(x.index)), rest), self.meta)
        if self._full(y) and self._shared(x) and inner.target in (aten.mul.Tensor, aten.add.Tensor):
            rest = self._reduced(x)
            if inner.target in _SUMMANDS:
                rest = self._times(rest)
            return self.tape.new(inner.target, (rest, Ref(self.of(y.index))), self.meta)
        if self._full(y) and self._shared(x) and inner.target == aten.sub.Tensor:
            rest = self._times(self._reduced(x))
            return self.tape.new(aten.sub.Tensor, (rest, Ref(self.of(y.index))), self.meta)
        return None

    def of_expansion(self, source: int) -> int | None:
        """Of an expanded tensor: each term as often as it was repeated."""
        if self._shared(Ref(source)):
            number = self._reduced(Ref(source))
            whole = self.tape.new(aten.mul.Tensor, (number, self.terms), self.tape.meta[number.index])
            return self.tape.new(aten.expand.default, (Ref(whole), list(self.meta.shape)), self.meta)
        return None

    def _full(self, part: Any) -> bool:
        return isinstance(part, Ref) and self.tape.meta[part.index] == Meta(self.shape, self.meta.dtype)

    def _shared(self, part: Any) -> bool:
        """Whether a part is the same along every axis that is summed over."""
        if not isinstance(part, Ref):
            return isinstance(part, int | float) and not isinstance(part, bool)
        meta = self.tape.meta[part.index]
        missing = len(self.shape) - len(meta.shape)
        alike = all(a < missing or meta.shape[a - missing] == 1 for a in self.axes)
        return alike and meta.dtype == self.meta.dtype

    def _reduced(self, part: Any) -> Any:
        """A shared part without the axes that are summed over, where the sum drops them."""
        if not isinstance(part, Ref):
            return part
        shape = self.tape.meta[part.index].shape
        missing = len(self.shape) - len(shape)
        if len(self.meta.shape) == len(self.shape):
            return part
        kept = [size for i, size in enumerate(shape) if i + missing not in self.axes]
        if kept == list(shape):
            return part
        return Ref(self.tape.new(aten.reshape.default, (part, kept), Meta(tuple(kept), self.meta.dtype)))

    def _times(self, part: Any) -> Any:
        """A shared summand, once for every term."""
        if not isinstance(part, Ref):
            return part * self.terms
        return Ref(self.tape.new(aten.mul.Tensor, (part, self.terms), self.tape.meta[part.index]))
