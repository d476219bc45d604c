"""Shorten a tape: what is computed twice, in vain, for every draw anew, or in full where a part would do.

Plain Pyro expands parameters to the number of rows before it computes from them, computes constants at every
call, and divides every row by the same variance; recording adds the copies and views that autograd and vmap
need for themselves. Every rule here leaves the values as they are, up to rounding:

- operations that return what they were given are left out, and so is what nothing needs;
- what depends on constants alone is computed now;
- equal operations are done once;
- element-wise work is done before a tensor is expanded, not after (``Binomial(16, ink[y])`` would take
  logarithms of 10 x 1,437 x 64 probabilities of which 10 x 64 differ);
- what is the same for all terms of a sum is taken out of it;
- rows of regressions are folded (:mod:`inference.compiler.regressions`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from inference.compiler.algebra import rearranged
from inference.compiler.operations import (
    FILLS,
    NEUTRAL,
    POINTWISE,
    SAME,
    SAME_IF_SHAPE,
    VIEWS,
    aten,
    holds,
    key_of,
    only_dtype,
    sized,
)
from inference.compiler.regressions import certain, regression
from inference.compiler.sums import SUMS, pulled
from inference.compiler.tape import Meta, Op, Ref, Tape, broadcast


def simplify(
    tape: Tape, outputs: tuple[int, ...] | None = None, *, gradients: bool = False, exact: bool = False
) -> Tape:
    """A shorter tape with the same outputs.

    Args:
        tape: left as it is.
        outputs: which values are wanted; all of the tape's by default.
        gradients: whether the tape is to be differentiated: then ``detach`` stops gradients and stays.
        exact: whether numbers are to be computed as they were recorded: sums, products and regressions stay
            as they are, which agree up to rounding but not where numbers over- or underflow.
    """
    pass_ = _Pass(tape, gradients, exact)
    for op in tape.ops:
        pass_.take(op)
    wanted = tape.outputs if outputs is None else outputs
    made = Tape(
        tape.inputs,
        pass_.constants,
        pass_.ops,
        tuple(pass_.final(out) for out in wanted),
        pass_.meta,
        tape.batched,
    )
    return pruned(made)


def pruned(tape: Tape) -> Tape:
    """The tape without operations and constants that no output needs."""
    needed = set(tape.outputs)
    kept = []
    for op in reversed(tape.ops):
        if not op.outs or not needed.isdisjoint(op.outs):
            kept.append(op)
            needed.update(op.refs)
    constants = {n: v for n, v in tape.constants.items() if n in needed}
    return Tape(tape.inputs, constants, kept[::-1], tape.outputs, tape.meta, tape.batched)


class _Pass:
    """One walk along a tape, writing another."""

    def __init__(self, tape: Tape, gradients: bool, exact: bool) -> None:
        self.gradients = gradients
        rules = (self._fill, self._spread, self._identity, self._masked)
        again = (
            (partial(certain, self),) if exact else (partial(regression, self), self._pulled, self._chained)
        )
        last = () if exact else (partial(rearranged, self),)
        self.rules = (*rules, *again, self._lifted, *last)
        self.meta = dict(tape.meta)
        self.constants = dict(tape.constants)
        self.ops: list[Op] = []
        self.same: dict[int, int] = {}  # a value -> the one that stands for it
        self.made: dict[int, Op] = {}  # a value -> the operation that makes it
        self.seen: dict[Any, tuple[int, ...]] = {}
        self.uniform: dict[int, float] = {}  # values all of whose elements are one number
        self.live = set(tape.inputs[:1])  # what depends on the first input, the point
        self.next = max(self.meta, default=-1) + 1
        for number, value in self.constants.items():
            if value.numel() == 1 and not value.is_complex():
                self.uniform[number] = value.item()

    def final(self, number: int) -> int:
        """What stands for a value."""
        return self.same.get(number, number)

    def take(self, op: Op) -> None:
        """Write an operation of the old tape, or what takes its place."""
        op = op.mapped(lambda one: Ref(self.final(one.index)) if isinstance(one, Ref) else one)
        # where a copy was left out, memory may lie otherwise than a view needs it
        if op.target in (aten.view.default, aten._unsafe_view.default):
            op = replace(op, target=aten.reshape.default)
        if not self.live.isdisjoint(op.refs):
            self.live.update(op.outs)
        if not op.outs:
            self.ops.append(op)
        elif op.several:
            self.write(op)
        else:
            self.same[op.outs[0]] = self.put(op)

    def put(self, op: Op) -> int:
        """Write an operation of one result, or what takes its place; the number of its result."""
        for rule in self.rules:
            found = rule(op)
            if found is not None:
                return found
        return self.write(op)

    def write(self, op: Op) -> int:
        """Write an operation unless it was done before or can be done now; its first result's number."""
        key = key_of(op)
        if key is not None and key in self.seen:
            for out, earlier in zip(op.outs, self.seen[key], strict=True):
                self.same[out] = earlier
            return self.seen[key][0]
        if key is not None:
            self.seen[key] = op.outs
        if self._constant(op):
            return op.outs[0]
        self.ops.append(op)
        for out in op.outs:
            self.made[out] = op
        return op.outs[0]

    def new(self, target: Any, args: tuple[Any, ...], meta: Meta, **kwargs: Any) -> int:
        """Put a new operation; the number of its result."""
        number = self.next
        self.next += 1
        self.meta[number] = meta
        op = Op(target, args, kwargs, (number,))
        if not self.live.isdisjoint(op.refs):
            self.live.add(number)
        return self.put(op)

    def second(self, target: Any, args: tuple[Any, ...], metas: tuple[Meta, Meta]) -> int:
        """Put a new operation of two results, none of which depends on the point; the second's number."""
        outs = self.next, self.next + 1
        self.next += 2
        self.meta.update(zip(outs, metas, strict=True))
        self.write(Op(target, args, {}, outs, several=True))
        return self.final(outs[1])

    def _constant(self, op: Op) -> bool:
        """Do an operation on constants now."""
        if any(n not in self.constants for n in op.refs) or sized(op):
            return False
        if op.target == aten.expand.default or -1 in op.outs:  # an expansion is better seen by what follows
            return False
        ready = op.mapped(lambda one: self.constants[one.index] if isinstance(one, Ref) else one)
        result = ready.target(*ready.args, **ready.kwargs)
        for out, value in zip(op.outs, result if op.several else (result,), strict=True):
            self.constants[out] = value
            if value.numel() == 1 and not value.is_complex():
                self.uniform[out] = value.item()
        return True

    # ---- rules: each returns the number of what takes the operation's place, or None

    def _fill(self, op: Op) -> int | None:
        """A tensor of one number: a constant without shape, expanded."""
        value = FILLS[op.target](op) if op.target in FILLS else None
        if value is None or isinstance(value, Ref):
            return None
        return self.full(value, self.meta[op.outs[0]])

    def full(self, value: Any, meta: Meta) -> int:
        """A tensor all of whose elements are one number: a constant without shape, expanded."""
        small = Meta((), meta.dtype)
        key = ("full", repr(value), meta.dtype)
        if key not in self.seen:
            made = self.next
            self.next += 1
            self.meta[made], self.constants[made] = small, torch.tensor(value, dtype=meta.dtype)
            self.uniform[made] = float(value)
            self.seen[key] = (made,)
        return self._expanded(self.seen[key][0], meta)

    def _expanded(self, number: int, meta: Meta) -> int:
        """A value in another shape; no operation where it has it."""
        if self.meta[number].shape == meta.shape:
            return number
        made = self.new(aten.expand.default, (Ref(number), list(meta.shape)), meta)
        if number in self.uniform:
            self.uniform[made] = self.uniform[number]
        return made

    def _spread(self, op: Op) -> int | None:
        """Another shape of a tensor of one number; an expansion of an expansion."""
        if op.target not in VIEWS or not isinstance(op.args[0], Ref):
            return None
        source, meta = op.args[0].index, self.meta[op.outs[0]]
        if op.target == aten.detach.default and self.gradients and source in self.live:
            return None
        if source in self.uniform and op.target != aten.expand.default and holds(meta.dtype):
            return self.full(self.uniform[source], meta)
        if op.target == aten.expand.default:
            if source in self.uniform:
                self.uniform[op.outs[0]] = self.uniform[source]
            before = self.made.get(source)
            if before is not None and before.target == aten.expand.default:
                return self._expanded(before.args[0].index, meta)
        return None

    def _identity(self, op: Op) -> int | None:
        """An operation that returns what it was given."""
        first = op.args[0] if op.args else None
        if not isinstance(first, Ref):
            return None
        target, before, after = op.target, self.meta[first.index], self.meta[op.outs[0]]
        if target in SAME:
            return first.index
        if target == aten.detach.default:
            return None if self.gradients and first.index in self.live else first.index
        if before != after:
            return self._neutral(op, after)
        if target in SAME_IF_SHAPE or (target == aten._to_copy.default and only_dtype(op)):
            return first.index
        if target == aten.permute.default and list(op.args[1]) == list(range(len(before.shape))):
            return first.index
        if target == aten.sum.default and before.shape == ():
            return first.index
        if target == aten.pow.Tensor_Scalar and op.args[1] == 1:
            return first.index
        return self._neutral(op, after)

    def _neutral(self, op: Op, after: Meta) -> int | None:
        """``x + 0``, ``x * 1`` and the like, where ``x`` has the shape of the result."""
        if op.target not in NEUTRAL or len(op.args) != 2 or op.kwargs.get("alpha", 1) != 1:
            return None
        element, both = NEUTRAL[op.target]
        x, y = op.args
        if self._number(y) == element and isinstance(x, Ref) and self.meta[x.index] == after:
            return x.index
        if both and self._number(x) == element and isinstance(y, Ref) and self.meta[y.index] == after:
            return y.index
        return None

    def _number(self, value: Any) -> float | None:
        """The number that an argument is, or that all its elements are."""
        if isinstance(value, Ref):
            return self.uniform.get(value.index)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def _chained(self, op: Op) -> int | None:
        """The sum of a stack of numbers: one addition after the other."""
        if op.target != aten.sum.default or len(op.args) != 1 or op.kwargs:
            return None
        before = self.made.get(op.args[0].index)
        if before is None or before.target != aten.stack.default or not before.args[0]:
            return None
        parts = [ref.index for ref in before.args[0]]
        meta = self.meta[op.outs[0]]
        if any(self.meta[p] != meta for p in parts):
            return None
        total = parts[0]
        for part in parts[1:]:
            total = self.new(aten.add.Tensor, (Ref(total), Ref(part)), meta)
        return total

    def _lifted(self, op: Op) -> int | None:
        """Element-wise work on expanded tensors: done before the expansion."""
        if op.target not in POINTWISE:
            return None
        sources = {n: self._source(n) for n in op.refs}
        if all(n == s for n, s in sources.items()):
            return None
        meta = self.meta[op.outs[0]]
        small = broadcast(*(self.meta[s].shape for s in sources.values()))
        if small is None:
            return None
        early = op.mapped(lambda one: Ref(sources[one.index]) if isinstance(one, Ref) else one)
        number = self.new(op.target, early.args, Meta(small, meta.dtype), **early.kwargs)
        if number in self.constants and all(n in self.uniform for n in sources.values()):
            self.uniform[number] = self.constants[number].reshape(-1)[0].item()
        return self._expanded(number, meta)

    def _source(self, number: int) -> int:
        made = self.made.get(number)
        return made.args[0].index if made is not None and made.target == aten.expand.default else number

    def _pulled(self, op: Op) -> int | None:
        """A sum whose terms share a factor, a summand or a sign: taken out of it."""
        return pulled(self, op) if op.target in SUMS else None

    def _masked(self, op: Op) -> int | None:
        """A choice by a mask that is the same everywhere."""
        if op.target == aten.masked_fill.Scalar:
            kept, mask = op.args[0].index, self.uniform.get(op.args[1].index)
            same = mask == 0 and self.meta[kept] == self.meta[op.outs[0]]
            return kept if same else None
        if op.target == aten.where.self and all(isinstance(a, Ref) for a in op.args):
            mask = self.uniform.get(op.args[0].index)
            chosen = None if mask is None else op.args[1 if mask else 2].index
            return chosen if chosen is not None and self.meta[chosen] == self.meta[op.outs[0]] else None
        return None
