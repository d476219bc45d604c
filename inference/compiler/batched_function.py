"""A recorded function of one point, made to serve any number of points, of one data set or of many.

The recorded operations are batched by ``torch.vmap``, differentiated, recorded once more for any number of
draws (:mod:`inference.compiler.any_size`), shortened, and compiled into one Python function. What does not
depend on the point is computed once for given inputs.

Where the short function gives no number, the careful one is asked: the operations as they were recorded, and
derivatives at the edge (:mod:`inference.compiler.zero_wins`). A sum that was rearranged may be ``inf - inf``
where the one that was written is not, and the gradient of a density that is finite may be ``0 * inf``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from inference.compiler.any_size import UnlikeError, any_size, split
from inference.compiler.codegen import Run, compiled_for
from inference.compiler.simplify import simplify
from inference.compiler.tape import Tape
from inference.compiler.zero_wins import ZeroWins
from inference.runtime.isolation import isolated

Told = Callable[..., None]  # points, values, and gradients if they were asked for

_AT_A_TIME = 2**20  # elements of the largest intermediate that the careful function may make: 8 MiB


@dataclass(frozen=True)
class CompiledPart:
    """One function of points: what is computed once for given inputs, and what is computed for points.

    Attributes:
        before: inputs -> what ``run`` needs of them.
        run: points and these -> outputs.
        recorded: whether ``run`` is a compiled tape; else vmap runs the operations one by one.
    """

    before: Callable[..., Sequence[Tensor]]
    run: Run
    recorded: bool = True


class BatchedFunction:
    """A recorded function of (point, inputs), for many points at once.

    Args:
        tape: from a point and inputs to outputs; simplified for gradients.
        recorded: the tape as it was recorded, of a density: asked where the other gives NaN.
        exact: whether nothing may be rearranged and derivatives at the edge are taken with care.

    Example:
        >>> import torch
        >>> from inference.compiler.recording import record
        >>> tape = record(lambda z, a: (a * z**2).sum(), torch.ones(2), torch.ones(2)).tape
        >>> value, grad = BatchedFunction(tape).bind([torch.tensor([1.0, 3.0])]).gradient(torch.ones(5, 2))
        >>> value.shape, grad[0]
        (torch.Size([5]), tensor([2., 6.]))
    """

    def __init__(self, tape: Tape, recorded: Tape | None = None, *, exact: bool = False) -> None:
        self.tape, self.recorded, self.exact = tape, recorded, exact
        self.size = int(tape.meta[tape.inputs[0]].shape[0])  # type: ignore[arg-type]
        self._parts: dict[tuple[str, bool], CompiledPart] = {}
        self._lock = threading.RLock()

    @cached_property
    def careful(self) -> BatchedFunction | None:
        """The function that is asked where this one gives no number; ``None`` where NaN may stand."""
        if self.recorded is None:
            return None
        with isolated(0):  # what depends on constants alone is computed now, in float64
            return BatchedFunction(simplify(self.recorded, gradients=True, exact=True), exact=True)

    def largest(self) -> int:
        """Elements of the largest intermediate at one point."""
        live = self.tape.depends(self.tape.inputs[:1])
        shapes = [self.tape.meta[number].shape for number in live]
        return max(math.prod([n for n in shape if isinstance(n, int)]) for shape in shapes)

    def bind(
        self, inputs: Sequence[Tensor], *, sets: bool = False, report: Told | None = None
    ) -> BoundFunction:
        """The function of points alone.

        Args:
            inputs: of one data set, or of several, stacked along a leading axis.
            sets: whether they are stacked; points then have a leading axis of data sets too.
            report: of a density, called with (points, values, gradients if asked for) where even the careful
                function may have given no number at some of them.
        """
        return BoundFunction(self, list(inputs), sets, report)

    def part(self, kind: str, sets: bool, inputs: Sequence[Tensor]) -> CompiledPart:
        """The function of a kind ("value", "gradient"); recorded when first asked for."""
        with self._lock:
            if (kind, sets) not in self._parts:
                self._record(kind, sets, [x[0] for x in inputs] if sets else inputs)
            return self._parts[kind, sets]

    def _record(self, kind: str, sets: bool, inputs: Sequence[Tensor]) -> None:
        function = self._batched(kind, sets)
        try:
            with isolated(0), torch._C.DisableTorchFunction():
                tape = any_size(
                    function, lambda *sizes: self._example(sizes, inputs, sets), (0, 1) if sets else (0,)
                )
                example = self._example((3, 2) if sets else (3,), inputs, sets)
                made = {kind: self._part(tape, tape.outputs, example)}
                if kind == "gradient" and ("value", sets) not in self._parts:
                    made["value"] = self._part(tape, tape.outputs[:1], example)
        except (UnlikeError, RuntimeError, ValueError, TypeError, NotImplementedError):
            made = {kind: CompiledPart(lambda *given: given, function, recorded=False)}
        self._parts.update({(name, sets): part for name, part in made.items()})

    def _part(self, tape: Tape, outputs: tuple[int, ...], example: Sequence[Tensor]) -> CompiledPart:
        """Part a recorded batch into what is computed once and what is computed for points; compile it."""
        z, *inputs = example
        sets = len(tape.batched) > 1
        before, rest = split(simplify(tape, outputs, exact=self.exact), (0,) if sets and inputs else ())
        return CompiledPart(before.run, compiled_for(rest, [z, *before.run(*inputs)]))

    def _example(self, sizes: Sequence[int], inputs: Sequence[Tensor], sets: bool) -> list[Tensor]:
        z = torch.rand(*sizes, self.size, dtype=torch.float64) - 0.5
        return [z, *(x.expand(sizes[0], *x.shape) if sets else x for x in inputs)]

    def _batched(self, kind: str, sets: bool) -> Run:
        """The function by vmap, differentiated by autograd."""

        def values(z: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
            return torch.vmap(lambda point: self.tape.run(point, *inputs))(z)

        whole: Run = torch.vmap(values) if sets else values

        def gradient(z: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                point = z.detach().requires_grad_()
                (value,) = whole(point, *inputs)
                if not value.requires_grad:  # a density that is flat, or whose unknowns were detached
                    return value, torch.zeros_like(point)
                with ZeroWins() if self.exact else nullcontext():
                    (grad,) = torch.autograd.grad(value.sum(), point)
            return value.detach(), grad

        return gradient if kind == "gradient" else whole


class BoundFunction:
    """A function of points, for given inputs.

    Attributes:
        points: what it is of.
        inputs: the data, arguments and masks of one data set, or of several, stacked.
        report: who is told of points without a number.
    """

    def __init__(
        self, points: BatchedFunction, inputs: list[Tensor], sets: bool, report: Told | None = None
    ) -> None:
        self.points, self.inputs, self.sets, self.report = points, inputs, sets, report
        self._ready: dict[str, tuple[CompiledPart, Sequence[Tensor]]] = {}
        self._careful: BoundFunction | None = None
        self._at_the_edge = False  # whether the quick function has no gradient anywhere
        self._lock = threading.Lock()

    def value(self, z: Tensor) -> tuple[Tensor, ...]:
        """The outputs at points (draws, size); (sets, draws, size) for several data sets."""
        return self._call("value", z)

    def gradient(self, z: Tensor) -> tuple[Tensor, ...]:
        """The output at points and its gradient."""
        return self._call("gradient", z)

    def _call(self, kind: str, z: Tensor) -> tuple[Tensor, ...]:
        at_the_edge = self._at_the_edge
        found = self._carefully(kind, z) if at_the_edge else self._run(kind, z)
        if self.points.recorded is None or all_numbers(*found):
            return found
        if not at_the_edge:
            found = self._mended(kind, z, found)
        if self.report is not None:
            self.report(z, *found)
        return found

    def _run(self, kind: str, z: Tensor) -> tuple[Tensor, ...]:
        if kind not in self._ready:
            part = self.points.part(kind, self.sets, self.inputs)
            with torch.no_grad():
                self._ready[kind] = part, tuple(part.before(*self.inputs))
        part, given = self._ready[kind]
        if not part.recorded:
            with torch.no_grad():
                return part.run(z, *given)
        with torch.inference_mode():
            found = part.run(z, *given)
        return tuple(
            [out.clone() for out in found]
        )  # a tensor made in inference mode takes no part in gradients

    def _mended(self, kind: str, z: Tensor, found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What was found, with the careful function's answer at the points without a number."""
        lost = undefined(*found)
        if not bool(lost.any()):
            return found
        if kind == "gradient" and bool(lost.all()) and lost.numel() > 1:
            self._at_the_edge = True  # as where an impossible count is among those that are summed out
        columns = lost.any(0) if self.sets else lost
        again = self._carefully(kind, z[..., columns, :])
        lost = lost[..., columns]
        value = found[0].clone()
        value[..., columns] = torch.where(lost, again[0], value[..., columns])
        if kind == "value":
            return (value,)
        grad = found[1].clone()
        grad[..., columns, :] = torch.where(lost[..., None], again[1], grad[..., columns, :])
        return value, grad

    def _carefully(self, kind: str, z: Tensor) -> tuple[Tensor, ...]:
        """What the careful function says, some points at a time: it may need more memory."""
        with self._lock:
            if self._careful is None:
                careful = self.points.careful
                assert careful is not None
                self._careful = careful.bind(self.inputs, sets=self.sets)
        axis = z.dim() - 2
        most = _AT_A_TIME // (self._careful.points.largest() * (len(z) if self.sets else 1))
        parts = [self._careful._run(kind, some) for some in z.split(max(1, most), axis)]
        return tuple([torch.cat(same, axis) for same in zip(*parts, strict=True)])


def all_numbers(value: Tensor, grad: Tensor | None = None) -> bool:
    """Whether nothing is NaN or +inf, nor any gradient infinite, as far as sums tell; mostly they do."""
    if grad is None:
        return float(value.sum()) < math.inf  # which NaN is not either
    return math.isfinite(float(value.sum() + grad.sum()))


def undefined(value: Tensor, grad: Tensor | None = None) -> Tensor:
    """At which points a log density is NaN or +inf, or finite and without a gradient: flaws, unlike -inf.

    Args:
        value: (...).
        grad: (..., size).

    Example:
        >>> import torch
        >>> undefined(torch.tensor([-1.0, torch.nan, -torch.inf])).tolist()
        [False, True, False]
    """
    lost = ~(value < torch.inf)
    if grad is not None:
        lost = lost | (value.isfinite() & ~grad.isfinite().all(-1))
    return lost


def simplified(
    tape: Tape, outputs: tuple[int, ...] | None = None, *, density: bool = False
) -> BatchedFunction:
    """The function that a recorded run computes, for many points.

    Args:
        tape: as it was recorded.
        outputs: which values are wanted; all of the tape's by default.
        density: whether it is a density, of which NaN is to be looked into.
    """
    recorded = replace(tape, outputs=tape.outputs if outputs is None else outputs) if density else None
    return BatchedFunction(simplify(tape, outputs, gradients=True), recorded)


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree of inputs, in the order in which they are recorded."""
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]
