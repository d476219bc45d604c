"""A recorded function of one point, made to serve any number of points, of one data set or of many.

The recorded operations are batched by ``torch.vmap``, differentiated, recorded once more for any number of
draws (:mod:`inference.compiler.any_size`), shortened, and compiled into one Python function. What does not
depend on the point is computed once for given inputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from inference.compiler.any_size import UnlikeError, any_size, split
from inference.compiler.codegen import Run, compiled_for
from inference.compiler.simplify import simplify
from inference.compiler.tape import Tape
from inference.runtime.isolation import isolated


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

    Example:
        >>> import torch
        >>> from inference.compiler.recording import record
        >>> tape = record(lambda z, a: (a * z**2).sum(), torch.ones(2), torch.ones(2)).tape
        >>> value, grad = BatchedFunction(tape).bind([torch.tensor([1.0, 3.0])]).gradient(torch.ones(5, 2))
        >>> value.shape, grad[0]
        (torch.Size([5]), tensor([2., 6.]))
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.size = int(tape.meta[tape.inputs[0]].shape[0])  # type: ignore[arg-type]
        self._parts: dict[tuple[str, bool], CompiledPart] = {}
        self._lock = threading.RLock()

    def bind(self, inputs: Sequence[Tensor], *, sets: bool = False) -> BoundFunction:
        """The function of points alone.

        Args:
            inputs: of one data set, or of several, stacked along a leading axis.
            sets: whether they are stacked; points then have a leading axis of data sets too.
        """
        return BoundFunction(self, list(inputs), sets)

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
                made = {kind: _part(tape, tape.outputs, example)}
                if kind == "gradient" and ("value", sets) not in self._parts:
                    made["value"] = _part(tape, tape.outputs[:1], example)
        except (UnlikeError, RuntimeError, ValueError, TypeError, NotImplementedError):
            made = {kind: CompiledPart(lambda *given: given, function, recorded=False)}
        self._parts.update({(name, sets): part for name, part in made.items()})

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
                (grad,) = torch.autograd.grad(value.sum(), point)
            return value.detach(), grad

        return gradient if kind == "gradient" else whole


class BoundFunction:
    """A function of points, for given inputs.

    Attributes:
        points: what it is of.
        inputs: the data, arguments and masks of one data set, or of several, stacked.
    """

    def __init__(self, points: BatchedFunction, inputs: list[Tensor], sets: bool) -> None:
        self.points, self.inputs, self.sets = points, inputs, sets
        self._ready: dict[str, tuple[CompiledPart, Sequence[Tensor]]] = {}

    def value(self, z: Tensor) -> tuple[Tensor, ...]:
        """The outputs at points (draws, size); (sets, draws, size) for several data sets."""
        return self._call("value", z)

    def gradient(self, z: Tensor) -> tuple[Tensor, ...]:
        """The output at points and its gradient."""
        return self._call("gradient", z)

    def _call(self, kind: str, z: Tensor) -> tuple[Tensor, ...]:
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


def _part(tape: Tape, outputs: tuple[int, ...], example: Sequence[Tensor]) -> CompiledPart:
    """Part a recorded batch into what is computed once and what is computed for points, and compile it."""
    z, *inputs = example
    sets = len(tape.batched) > 1
    before, rest = split(simplify(tape, outputs), (0,) if sets and inputs else ())
    return CompiledPart(before.run, compiled_for(rest, [z, *before.run(*inputs)]))


def simplified(tape: Tape, outputs: tuple[int, ...] | None = None) -> BatchedFunction:
    """The function that a recorded run computes, for many points."""
    return BatchedFunction(simplify(tape, outputs, gradients=True))


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree of inputs, in the order in which they are recorded."""
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]
