"""One tape for any number of draws: recorded at a few sizes, and joined where they differ.

Batching a recorded point by ``torch.vmap`` writes the number of draws into the sizes of views and expansions.
The run is therefore recorded for two numbers; an integer that differs is linear in it, and is read off at the
two. The tape that results is compared with plain Pyro at a third.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from inference.compiler.recording import record
from inference.compiler.tape import Meta, Op, Ref, Size, Tape

_FEW = ((2, 4), (3, 5))  # sizes at which batches are recorded, by position of the size


class UnlikeError(ValueError):
    """Runs of different sizes that are not one run with other sizes."""


def any_size(
    function: Callable[..., Sequence[Tensor]], inputs: Callable[..., Sequence[Tensor]], batched: Sequence[int]
) -> Tape:
    """Record a function for any sizes of its batches.

    Args:
        function: of the inputs.
        inputs: makes them for given sizes.
        batched: of the first input, the axis that has each size.

    Raises:
        UnlikeError: if the runs differ in more than sizes.

    Example:
        >>> import torch
        >>> tape = any_size(lambda x: (x.reshape(-1),), lambda n: (torch.ones(n, 3),), (0,))
        >>> tape.run(torch.zeros(10, 3))[0].shape
        torch.Size([30])
    """
    sizes = [tuple(reversed(s)) for s in product(*reversed(_FEW[: len(batched)]))]
    tapes = [record(function, *inputs(*s), gradients=False).tape for s in sizes]
    return _joined(tapes, sizes, tuple((0, axis) for axis in batched))


def _joined(tapes: list[Tape], sizes: list[tuple[int, ...]], batched: tuple[tuple[int, int], ...]) -> Tape:
    first = tapes[0]
    for other in tapes[1:]:
        if len(other.ops) != len(first.ops) or other.constants.keys() != first.constants.keys():
            raise UnlikeError("another number of draws takes other operations")
        for number, value in first.constants.items():
            if value.shape != other.constants[number].shape or not _equal(value, other.constants[number]):
                raise UnlikeError("a constant depends on the number of draws")
    ops = [_one_op(same, sizes) for same in zip(*(t.ops for t in tapes), strict=True)]
    meta = {
        n: Meta(_merged([t.meta[n].shape for t in tapes], sizes), first.meta[n].dtype) for n in first.meta
    }
    return Tape(first.inputs, first.constants, ops, first.outputs, meta, batched)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or bool(((one == other) | ((one != one) & (other != other))).all())


def _one_op(ops: Sequence[Op], sizes: list[tuple[int, ...]]) -> Op:
    first = ops[0]
    if any(o.target != first.target or o.outs != first.outs for o in ops):
        raise UnlikeError("another number of draws takes other operations")
    args = _merged([o.args for o in ops], sizes)
    kwargs = {k: _merged([o.kwargs[k] for o in ops], sizes) for k in first.kwargs}
    return Op(first.target, args, kwargs, first.outs, first.several)


def _merged(values: Sequence[Any], sizes: list[tuple[int, ...]]) -> Any:
    """Arguments of the same operation at several sizes, as one."""
    first = values[0]
    if isinstance(first, tuple | list):
        if any(len(v) != len(first) for v in values):
            raise UnlikeError("another number of draws takes other arguments")
        return type(first)([_merged(part, sizes) for part in zip(*values, strict=True)])
    if all(type(v) is type(first) and v == first for v in values):
        return first
    if isinstance(first, Ref) or not all(type(v) is int for v in values):
        raise UnlikeError("an argument depends on the number of draws")
    return Size(_linear(list(values), sizes))


def _linear(values: list[int], sizes: list[tuple[int, ...]]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The multilinear function of the sizes that has the given values."""
    count = len(sizes[0])
    monomials = [tuple(i for i in range(count) if bits >> i & 1) for bits in range(2**count)]
    matrix = [[float(torch.tensor([s[i] for i in m]).prod()) for m in monomials] for s in sizes]
    found = torch.linalg.solve(
        torch.tensor(matrix, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    )
    terms = tuple((round(float(c)), m) for c, m in zip(found, monomials, strict=True) if round(float(c)))
    if [Size(terms).at(s) for s in sizes] != values:
        raise UnlikeError("a size is not linear in the number of draws")
    return terms


def split(tape: Tape, early: Sequence[int] = ()) -> tuple[Tape, Tape]:
    """Part a tape into what does not depend on its first input and the rest.

    Args:
        tape: simplified.
        early: batch sizes that are known without the first input, being the leading axis of all others.

    Returns:
        A tape from the other inputs to what the rest needs of them, and the rest, from the first input
        and these.
    """
    late = {tape.inputs[0]}
    before: list[Op] = []
    after: list[Op] = []
    for op in tape.ops:
        if not late.isdisjoint(op.refs) or not _sizes(op) <= set(early):
            late.update(op.outs)
            after.append(op)
        else:
            before.append(op)
    given = {*tape.inputs[1:], *(n for op in before for n in op.outs)}
    needed = sorted({n for op in after for n in op.refs} | set(tape.outputs), key=int)
    passed = tuple(n for n in needed if n in given)
    first = tuple((0, 0) for _ in early) if early else ()
    prelude = Tape(tape.inputs[1:], tape.constants, before, passed, tape.meta, first)
    rest = Tape((tape.inputs[0], *passed), tape.constants, after, tape.outputs, tape.meta, tape.batched)
    return prelude, rest


def _sizes(op: Op) -> set[int]:
    """Which batch sizes stand among the arguments."""
    found: set[int] = set()

    def look(one: Ref | Size) -> Any:
        if isinstance(one, Size):
            found.update(f for _, factors in one.terms for f in factors)
        return one

    op.mapped(look)
    return found
