"""A tape: the tensor operations of one run, as data that can be looked at, rewritten and run again.

What :mod:`inference.compiler.recording` writes, :mod:`inference.compiler.simplify` shortens and
:mod:`inference.compiler.codegen` turns into a Python function. Values are numbered; an operation refers to
earlier values by :class:`Ref`. Where an integer among the arguments follows the number of draws, it is a
:class:`Size`, so that one tape serves any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ref:
    """A value of the tape, by its number."""

    index: int


@dataclass(frozen=True)
class Size:
    """An integer that is linear in each of the batch sizes: sum of coefficient x product of sizes.

    ``terms`` holds (coefficient, indices of the sizes that are multiplied), none with coefficient zero.

    Example:
        >>> Size(((1, ()), (8, (0,)))).at((64,))
        513
    """

    terms: tuple[tuple[int, tuple[int, ...]], ...]

    def at(self, sizes: Sequence[int]) -> int:
        """The integer at given batch sizes."""
        total = 0
        for coefficient, factors in self.terms:
            for factor in factors:
                coefficient *= sizes[factor]
            total += coefficient
        return total


Number = int | Size
Shape = tuple[Number, ...]


@dataclass(frozen=True)
class Meta:
    """What is known of a value beforehand."""

    shape: Shape
    dtype: torch.dtype


@dataclass(frozen=True)
class Op:
    """One operation: ``outs`` are the numbers of its results, -1 for a result that is no tensor.

    One without results is a check that raises, such as that of a factorization.

    ``several`` tells an operation that returns a tuple from one that returns a tensor.
    """

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outs: tuple[int, ...]
    several: bool = False

    @property
    def refs(self) -> Iterator[int]:
        """The numbers of the values it reads."""
        return walk((self.args, tuple(self.kwargs.values())))

    def mapped(self, change: Callable[[Ref | Size], Any]) -> Op:
        """The operation with its references and sizes replaced."""
        kwargs = {k: swap(v, change) for k, v in self.kwargs.items()}
        return replace(self, args=swap(self.args, change), kwargs=kwargs)


@dataclass
class Tape:
    """Operations in order, from inputs and constants to outputs.

    Attributes:
        inputs: numbers of the input values, in the order in which they are given.
        constants: values that are no input, by number.
        ops: in order.
        outputs: numbers of the results.
        meta: shape and dtype of every value.
        batched: which axis sizes batch size k is read from: (position among the inputs, axis).
    """

    inputs: tuple[int, ...]
    constants: dict[int, Tensor]
    ops: list[Op]
    outputs: tuple[int, ...]
    meta: dict[int, Meta]
    batched: tuple[tuple[int, int], ...] = ()
    _next: int = field(default=0, repr=False)

    def new(self, meta: Meta) -> int:
        """A number for a new value."""
        self._next = max(self._next, max(self.meta, default=-1) + 1) if not self._next else self._next
        self.meta[self._next] = meta
        self._next += 1
        return self._next - 1

    def depends(self, roots: Sequence[int]) -> set[int]:
        """All values that depend on the given ones, themselves included."""
        found = set(roots)
        for op in self.ops:
            if not found.isdisjoint(op.refs):
                found.update(op.outs)
        return found

    def sizes(self, inputs: Sequence[Tensor]) -> tuple[int, ...]:
        """The batch sizes of given inputs."""
        return tuple(inputs[position].shape[axis] for position, axis in self.batched)

    def last_uses(self) -> dict[int, list[int]]:
        """Position of an operation -> the values that nothing needs after it."""
        last = {n: position for position, op in enumerate(self.ops) for n in (*op.outs, *op.refs)}
        kept = {-1, *self.outputs, *self.constants, *self.inputs}
        found: dict[int, list[int]] = {}
        for number, position in last.items():
            if number not in kept:
                found.setdefault(position, []).append(number)
        return found

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the operations one by one, as they were recorded.

        Slow, and differentiable: what :func:`inference.compiler.codegen.compiled` makes of a tape is faster.
        """
        values: dict[int, Any] = {**self.constants, **dict(zip(self.inputs, inputs, strict=True))}
        sizes = self.sizes(inputs)

        def take(one: Ref | Size) -> Any:
            return values[one.index] if isinstance(one, Ref) else one.at(sizes)

        last = self.last_uses()
        for position, op in enumerate(self.ops):
            ready = op.mapped(take)
            result = ready.target(*ready.args, **ready.kwargs)
            if op.outs:
                values.update(zip(op.outs, result if op.several else (result,), strict=True))
            del ready, result
            for number in last.get(position, ()):
                del values[number]
        return tuple(values[out] for out in self.outputs)


def walk(value: Any) -> Iterator[int]:
    """The numbers of all references within arguments."""
    if isinstance(value, Ref):
        yield value.index
    elif isinstance(value, tuple | list):
        for part in value:
            yield from walk(part)


def swap(value: Any, change: Callable[[Ref | Size], Any]) -> Any:
    """Arguments with their references and sizes replaced."""
    if isinstance(value, Ref | Size):
        return change(value)
    if isinstance(value, tuple):
        return tuple(swap(part, change) for part in value)
    if isinstance(value, list):
        return [swap(part, change) for part in value]
    return value


def broadcast(*shapes: Shape) -> Shape | None:
    """The common shape, ``None`` if there is none. (torch's own function imports sympy when first called.)

    Example:
        >>> broadcast((3, 1), (4,))
        (3, 4)
    """
    common: list[Number] = []
    for axis in range(1, max(map(len, shapes), default=0) + 1):
        sizes = {shape[-axis] for shape in shapes if len(shape) >= axis} - {1}
        if len(sizes) > 1:
            return None
        common.append(sizes.pop() if sizes else 1)
    return tuple(reversed(common))


class Writer(Protocol):
    """What a rule that rewrites a tape needs to know of the one that is being written."""

    meta: dict[int, Meta]
    made: dict[int, Op]
    live: set[int]

    def new(self, target: Any, args: tuple[Any, ...], meta: Meta, **kwargs: Any) -> int:
        """Put a new operation; the number of its result."""
        ...

    def second(self, target: Any, args: tuple[Any, ...], metas: tuple[Meta, Meta]) -> int:
        """Put a new operation of two results, none of which depends on the point; the second's number."""
        ...

    def full(self, value: Any, meta: Meta) -> int:
        """A tensor all of whose elements are one number."""
        ...
