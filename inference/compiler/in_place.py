"""Writes in place as the out-of-place operations they are: a recorded run replayed without any.

A story may fill a tensor bit by bit (``p = zeros(n, 5); p[:, 0] = ...``), as Pyro's own ``OrderedLogistic``
does. ``torch.func.functionalize`` gives such a run its values, but not its gradient: it detaches what was
written before it reads it again.

Here a view of memory that is written to is made when it is read, out of what the memory holds by then
(:mod:`inference.compiler.written_memory`). Which elements it sees is found by applying the view to the
elements' own numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.compiler.operations import aten
from inference.compiler.tape import Op, Ref, Size, Tape
from inference.compiler.written_memory import Elements, WrittenMemory

# views of elements in another form, and one that follows strides, which a copy may change
_OPAQUE = frozenset({
    aten.as_strided.default, aten.view.dtype, aten.view_as_real.default, aten.view_as_complex.default,
    aten._conj.default, aten._neg_view.default,
})  # fmt: skip
_RENAMED = {aten.pow_.Scalar: aten.pow.Tensor_Scalar, aten.pow_.Tensor: aten.pow.Tensor_Tensor}


class Sharing:
    """Which values of a run share memory.

    What ``lift_fresh`` returns is a copy here: torch calls it on the tensors that it makes of numbers. So is
    what ``detach`` returns of a value that depends on the point: the two have other gradients.

    Args:
        ops: in order.
        live: the values that depend on the point beforehand.

    Attributes:
        written: the values (of several that share memory, the first) that are written to.
        torn: whether a detached copy is written to, or read after what it was detached from was written to.
    """

    def __init__(self, ops: Sequence[Op], live: Sequence[int] = ()) -> None:
        self._roots: dict[int, int] = {}
        self._live = set(live)
        self._detached: dict[int, int] = {}  # a detached copy -> what it was detached from
        self._stale: set[int] = set()
        self.written: set[int] = set()
        self.torn = False
        for op in ops:
            self._take(op)

    def root(self, number: int) -> int:
        """The value whose memory a value shows."""
        return self._roots.get(number, number)

    def _take(self, op: Op) -> None:
        used = {self.root(n) for n in op.refs}
        changed = {self.root(n) for n in _target_numbers(op)}
        self.written |= changed
        self.torn = self.torn or not used.isdisjoint(self._stale) or not changed.isdisjoint(self._detached)
        self._stale |= {copy for copy, source in self._detached.items() if source in changed}
        depends = not used.isdisjoint(self._live)
        if is_view(op):
            source = self.root(op.args[0].index)
            if op.target is aten.detach.default and depends:
                self._detached.update(dict.fromkeys(op.outs, source))
            else:
                self._roots.update({out: source for out in op.outs if out != source})
        if depends:
            self._live.update(changed, map(self.root, op.outs))


def functional(target: Any) -> Any:
    """What returns the values that an operation writes in place, or to ``out=``; ``None`` for want of it."""
    if target in _RENAMED:
        return _RENAMED[target]
    schema, packet = target._schema, target.overloadpacket
    if torch.Tag.out in target.tags:
        wanted = [(a.name, str(a.type)) for a in schema.arguments if not _is_written(a)]
        others = [getattr(packet, name) for name in packet.overloads()]
        same = [o for o in others if [(a.name, str(a.type)) for a in o._schema.arguments] == wanted]
        return next((o for o in same if not o._schema.is_mutable), None)
    name = schema.name.removeprefix("aten::")
    return getattr(getattr(aten, name[:-1], None), target._overloadname, None)


def replayed(tape: Tape, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run the operations of a tape without writing in place; its outputs.

    Args:
        tape: as recorded, with operations in place.
        inputs: of the tape.

    Raises:
        ValueError: if an input or a tensor from outside is changed, or a write cannot be followed.
    """
    return _Replay(tape, inputs).run()


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def is_view(op: Op) -> bool:
    """Whether the results show memory of the first argument."""
    schema = op.target._schema  # type: ignore[attr-defined]
    if schema.is_mutable or op.target is aten.lift_fresh.default or len(op.outs) < 1:
        return False
    return any(r.alias_info is not None for r in schema.returns)


def _target_numbers(op: Op) -> list[int]:
    """The numbers of the values that an operation writes to."""
    found = []
    for position, argument in enumerate(op.target._schema.arguments):  # type: ignore[attr-defined]
        if _is_written(argument):
            one = op.args[position] if position < len(op.args) else op.kwargs.get(argument.name)
            if not isinstance(one, Ref):
                raise ValueError(f"it changes several tensors at once ({op.target})")
            found.append(one.index)
    return found


@dataclass(frozen=True)
class _View:
    """What a value shows of memory that is written to, and the operation that made it."""

    elements: Elements
    op: Op | None = None
    position: int | None = None  # among several results


class _Replay:
    """One run of a tape. Views of memory that is written to are made when they are read."""

    def __init__(self, tape: Tape, inputs: Sequence[Tensor]) -> None:
        self.tape = tape
        self.values: dict[int, Tensor] = {**tape.constants, **dict(zip(tape.inputs, inputs, strict=True))}
        self.sharing = Sharing(tape.ops, tape.inputs[:1])
        self.written = self.sharing.written
        if not self.written.isdisjoint(self.values):
            raise ValueError("it changes a tensor in place that was there before")
        if self.sharing.torn:
            raise ValueError("it writes to memory that a detached tensor shares")
        self.views: dict[int, _View] = {}
        self.memories: dict[int, WrittenMemory] = {}
        self.made: dict[int, tuple[int, Tensor]] = {}  # a view -> version of its memory, and its value

    def run(self) -> list[Tensor]:
        last = self.tape.last_uses()
        for position, op in enumerate(self.tape.ops):
            self._take(op)
            for number in last.get(position, ()):
                self.values.pop(number, None)
                self.made.pop(number, None)
        return [self._read(out) for out in self.tape.outputs]

    def _take(self, op: Op) -> None:
        if _mutates(op):
            self._write(op)
        elif is_view(op) and self.sharing.root(op.outs[0]) in self.written:
            self._see(op)
        else:
            ready = self._ready(op)
            result = ready.target(*ready.args, **ready.kwargs)
            self._keep(op, result if op.several else (result,))

    def _ready(self, op: Op) -> Op:
        def value(one: Ref | Size) -> Any:
            return self._read(one.index) if isinstance(one, Ref) else one

        return op.mapped(value)

    def _keep(self, op: Op, results: Sequence[Tensor]) -> None:
        for number, value in zip(op.outs, results, strict=False):
            if number < 0:
                continue
            if number in self.written:
                fresh = value.clone() if op.target is aten.lift_fresh.default else value
                self.memories[number] = WrittenMemory(fresh)
                self.views[number] = _View(np.arange(value.numel()).reshape(value.shape))
            else:
                self.values[number] = value

    def _see(self, op: Op) -> None:
        """A view of memory that is written to: which elements it shows."""
        source = self.views[op.args[0].index]
        if op.target in _OPAQUE:
            raise ValueError(f"it writes to memory that is also seen by {op.target}")
        target = aten.reshape.default if op.target is aten.view.default else op.target
        with torch.utils._python_dispatch._disable_current_modes():
            shown = target(torch.from_numpy(source.elements), *op.args[1:], **op.kwargs)
            elements = [one.numpy() for one in shown] if op.several else [shown.numpy()]
        for position, number in enumerate(op.outs):
            self.views[number] = _View(elements[position], op, position if op.several else None)

    def _read(self, number: int) -> Tensor:
        """The value of a number now."""
        view = self.views.get(number)
        if view is None:
            return self.values[number]
        memory = self.memories[self.sharing.root(number)]
        version, value = self.made.get(number, (-1, None))
        if version != memory.version or value is None:
            value = self._seen(memory, view)
            self.made[number] = memory.version, value
        return value

    def _seen(self, memory: WrittenMemory, view: _View) -> Tensor:
        if view.op is None:
            return memory.joined()
        if not memory.whole:
            return memory.read(view.elements)
        if view.op.target is aten.detach.default:  # of what did not depend on the point then
            return self._read(view.op.args[0].index)
        target = aten.reshape.default if view.op.target is aten.view.default else view.op.target
        found = target(self._read(view.op.args[0].index), *view.op.args[1:], **view.op.kwargs)
        return found if view.position is None else found[view.position]

    def _write(self, op: Op) -> None:
        numbers = _target_numbers(op)
        values = self._new_values(op, numbers)
        for number, value in zip(numbers, values, strict=True):
            memory, view = self.memories[self.sharing.root(number)], self.views[number]
            value = value if value.dtype == memory.dtype else value.to(memory.dtype)
            value = value if value.shape == view.elements.shape else value.expand(view.elements.shape)
            memory.write(view.elements, value)
            self.made[number] = memory.version, value

    def _new_values(self, op: Op, numbers: list[int]) -> Sequence[Tensor]:
        ready = self._ready(op)
        special = _SPECIAL.get(op.target.overloadpacket)  # type: ignore[attr-defined]
        if special is not None:
            found = special(*ready.args, **ready.kwargs)
            if found is not None:
                return (found,)
        target = functional(op.target)
        if target is None:
            raise ValueError(f"it changes a tensor by {op.target}, which has no form that returns the result")
        outs = {a.name for a in op.target._schema.arguments if _is_written(a) and a.kwarg_only}  # type: ignore[attr-defined]
        result = target(*ready.args, **{k: v for k, v in ready.kwargs.items() if k not in outs})
        return result if len(numbers) > 1 else (result,)


def _mutates(op: Op) -> bool:
    return bool(op.target._schema.is_mutable)  # type: ignore[attr-defined]


# ---- writes that have no form that vmap can batch


def _copied(own: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    return source


def _filled(own: Tensor, value: Any = 0) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.full(own.shape, value, dtype=own.dtype)


def _masked(own: Tensor, mask: Tensor, value: Any) -> Tensor:
    return torch.where(mask, value if isinstance(value, Tensor) else _filled(own, value), own)


def _scattered(own: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The first elements of ``source`` in the places of the mask, in order."""
    mask = mask.expand(own.shape)
    place = (mask.reshape(-1).long().cumsum(0) - 1).clamp(0, max(source.numel() - 1, 0))
    return torch.where(mask, source.reshape(-1).index_select(0, place).reshape(own.shape), own)


def _put(
    own: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor | None:
    """Values under a mask of the leading axes; ``None`` for indices of other kinds."""
    if len(indices) != 1 or indices[0] is None or indices[0].dtype != torch.bool:
        return None
    mask, rest = indices[0], own.shape[indices[0].dim() :]
    if values.dim() > len(rest) and values.shape[0] != 1:
        rows = values.expand(values.shape[0], *rest)
        place = (mask.reshape(-1).long().cumsum(0) - 1).clamp(0, max(len(rows) - 1, 0))
        values = rows.index_select(0, place).reshape(own.shape)
    elif values.dim() > len(rest):
        values = values[0]
    chosen = mask.reshape(*mask.shape, *(1 for _ in rest))
    return torch.where(chosen, own + values if accumulate else values, own)


def _index_filled(own: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    size = own.shape[dim]
    chosen = (torch.arange(size)[:, None] == index.reshape(-1) % size).any(1)
    after = own.dim() - 1 - dim % own.dim()
    return _masked(own, chosen.reshape(size, *(1 for _ in range(after))), value)


def _put_flat(own: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    flat = own.reshape(-1).index_put((index.reshape(-1),), source.reshape(-1), accumulate)
    return flat.reshape(own.shape)


_SPECIAL: dict[Any, Any] = {
    aten.copy_: _copied,
    aten.fill_: _filled,
    aten.zero_: _filled,
    aten.index_fill_: _index_filled,
    aten.put_: _put_flat,
    aten.masked_fill_: _masked,
    aten.masked_scatter_: _scattered,
    aten.index_put_: _put,
}
