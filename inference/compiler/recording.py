"""Record a run: every tensor operation below autograd and vmap, written on a tape.

A program is run once, with real numbers, under a mode that sees each operation as torch finally carries it
out. ``torch.fx``'s ``make_fx`` does the same; it first imports torch's compiler, which costs more than a
second, and takes ten times as long per operation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from inference.compiler.in_place import Sharing, functional, replayed
from inference.compiler.operations import aliases, batchable
from inference.compiler.tape import Meta, Op, Ref, Tape

_LARGE = 2**16  # elements; results of this size are let go of as soon as nobody else holds them
_READ_OUT = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_SHAPES = frozenset({  # operations that look at their tensor's shape only
    torch.ops.aten.zeros_like.default, torch.ops.aten.ones_like.default, torch.ops.aten.full_like.default,
    torch.ops.aten.new_zeros.default, torch.ops.aten.new_ones.default, torch.ops.aten.new_full.default,
})  # fmt: skip
_IN_PLACE = frozenset({
    "masked_fill_", "add_", "sub_", "mul_", "div_", "neg_", "exp_", "log_", "sqrt_", "clamp_", "clamp_min_",
    "clamp_max_", "sigmoid_", "tanh_", "logical_and_", "logical_or_", "logical_not_", "bitwise_and_",
    "bitwise_or_", "zero_", "index_put_",
})  # fmt: skip


class RandomStoryError(ValueError):
    """A function that was to be traced draws random numbers of its own."""


@dataclass(frozen=True)
class Recording:
    """What was recorded.

    Attributes:
        tape: the operations.
        spec: how the outputs make up what the function returned.
        read: positions of the inputs from which numbers left their tensors: those numbers are in the tape.
    """

    tape: Tape
    spec: Any
    read: frozenset[int]

    def unflatten(self, outputs: Sequence[Tensor]) -> Any:
        """The outputs in the form in which the function returned them."""
        return tree_unflatten(list(outputs), self.spec)


class _Recorder(TorchDispatchMode):
    """Writes down operations; values are told apart by the tensor objects that carry them.

    Attributes:
        mutated: whether some operation changed a tensor in place.
        read: numbers of values that left their tensors (``.item()``, a branch).
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.held: dict[
            int, tuple[int, Tensor]
        ] = {}  # identity -> number, and the tensor that keeps it valid
        self.large: list[tuple[Tensor, int]] = []
        self.ops: list[Op] = []
        self.constants: dict[int, Tensor] = {}
        self.meta: dict[int, Meta] = {}
        self.mutated = False
        self.shared: set[int] = set()  # values that share memory with another
        self.read: list[int] = []
        self.inputs = tuple(self._number(x) for x in inputs)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would otherwise import its compiler when the first operation is recorded, for a second."""
        return False

    def _number(self, value: Tensor) -> int:
        number = len(self.meta)
        self.meta[number] = Meta(tuple(value.shape), value.dtype)
        self.held[id(value)] = number, value
        return number

    def known(self, value: Tensor) -> int:
        """The number of a tensor; one that was there before the run is a constant."""
        found = self.held.get(id(value))
        if found is not None:
            return found[0]
        number = self._number(value)
        self.constants[number] = value
        return number

    def _reference(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return Ref(self.known(value))
        if isinstance(value, tuple | list):
            return type(value)([self._reference(part) for part in value])
        return value

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RandomStoryError("it draws random numbers outside pyro.sample")
        references = tuple([self._reference(a) for a in args])
        named = {k: self._reference(v) for k, v in kwargs.items()}
        if _reads_out(func, args) and func is not torch.ops.aten._linalg_check_errors.default:
            masks = func.overloadpacket is torch.ops.aten.index  # the result's shape is read off them alone
            self.read += Op(func, references[1:2] if masks else references, named, ()).refs
        result = func(*args, **kwargs)
        self._write(func, references, named, result)
        return result

    def _write(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        several = isinstance(result, tuple | list)
        parts = result if several else (result,)
        if result is None and args and not func._schema.is_mutable:  # a check, which may raise
            self.ops.append(Op(func, args, kwargs, ()))
        if not any(isinstance(part, Tensor) for part in parts):
            if func._schema.is_mutable:
                raise ValueError(f"it changes tensors in place by {func}")
            return
        if func._schema.is_mutable:
            if self._written(func, args, kwargs, result):
                return
            self.mutated = True
        if not several and result.is_floating_point():
            func, args = self._pinned(func, args, result.dtype)
        if func is torch.ops.aten.lift_fresh.default:
            self._lifted(args[0].index, result)
        outs = tuple([self._result(part) if isinstance(part, Tensor) else -1 for part in parts])
        self.ops.append(self._chosen(Op(func, args, kwargs, outs, several)))
        if any(r.alias_info is not None for r in func._schema.returns):
            self.shared.update(outs, self.ops[-1].refs)

    def _lifted(self, number: int, made: Tensor) -> None:
        """Tell a tensor that torch made of numbers, which may be written to, from these numbers."""
        if number in self.constants:
            self.constants[number] = made.clone()
            self._number(made)

    def _pinned(self, func: Any, args: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, tuple[Any, ...]]:
        """The operation with integers made floating-point beforehand.

        What it returns of integers alone follows torch's default dtype, another one when the tape is run.
        """
        numbers = list(Op(func, args, {}, ()).refs)
        if not numbers or any(self.meta[n].dtype.is_floating_point for n in numbers):
            return func, args
        if func.overloadpacket is torch.ops.aten.where:
            made = [args[0], *(self._scalar(a, dtype) if not isinstance(a, Ref) else a for a in args[1:])]
            return torch.ops.aten.where.self, tuple(made)
        return func, tuple(self._cast(a, dtype) if isinstance(a, Ref) else a for a in args)

    def _chosen(self, op: Op) -> Op:
        """A number put where a mask is true: a choice, which vmap can batch."""
        if op.target is torch.ops.aten.masked_fill.Tensor:
            own, mask, value = op.args
        elif op.target is torch.ops.aten.index_put.default and len(op.args) == 3 and len(op.args[1]) == 1:
            own, (mask,), value = op.args
        else:
            return op
        out = self.meta[op.outs[0]]
        if not isinstance(mask, Ref) or self.meta[mask.index].dtype != torch.bool:
            return op
        if op.target is not torch.ops.aten.masked_fill.Tensor and self.meta[mask.index].shape != out.shape:
            return op
        if self.meta[value.index] != Meta((), out.dtype) or self.meta[own.index].dtype != out.dtype:
            return op
        return Op(torch.ops.aten.where.self, (mask, value, own), {}, op.outs)

    def _cast(self, value: Ref, dtype: torch.dtype) -> Ref:
        number = len(self.meta)
        self.meta[number] = Meta(self.meta[value.index].shape, dtype)
        self.ops.append(Op(torch.ops.aten._to_copy.default, (value,), {"dtype": dtype}, (number,)))
        return Ref(number)

    def _scalar(self, value: Any, dtype: torch.dtype) -> Ref:
        number = len(self.meta)
        self.meta[number] = Meta((), dtype)
        self.ops.append(Op(torch.ops.aten.full.default, ([], value), {"dtype": dtype}, (number,)))
        return Ref(number)

    def _written(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
        """Write an operation in place as one that returns its result, where nobody else sees the change."""
        if torch.Tag.inplace_view in func.tags:
            pure = self._renewed(func, args)
            self.shared.add(args[0].index)
        elif torch.Tag.out in func.tags:
            pure = self._returned(func, args, kwargs, result)
            kwargs = {k: v for k, v in kwargs.items() if k != "out"}
        else:
            pure = self._pure(func, args)
        if pure is None:
            return False
        number = len(self.meta)
        self.meta[number] = Meta(tuple(result.shape), result.dtype)
        self.held[id(result)] = number, result
        self.ops.append(self._chosen(Op(pure, args, kwargs, (number,))))
        if torch.Tag.inplace_view in func.tags:
            self.shared.add(number)
        return True

    def _renewed(self, func: Any, args: tuple[Any, ...]) -> Any:
        """The view that a tensor becomes when its shape is changed in place."""
        pure, own = functional(func), args[0].index
        views = pure is not None and any(r.alias_info is not None for r in pure._schema.returns)
        if not views or own in self.constants or own in self.inputs:
            raise ValueError(f"it changes a tensor's shape in place by {func}")
        return pure

    def _returned(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        """The operation that returns what this one writes to ``out=``, a tensor that nobody else sees."""
        own = kwargs.get("out")
        if not isinstance(own, Ref) or own.index in self.constants or own.index in self.inputs:
            return None
        before = self.meta[own.index]
        if own.index in self.shared and before.shape == tuple(result.shape):  # if resized, it is another
            return None
        dtypes = {self.meta[n].dtype for n in Op(func, args, {}, ()).refs}
        return functional(func) if dtypes <= {before.dtype} else None

    def _seen_elsewhere(self, number: int) -> bool:
        return number in self.shared or number in self.constants or number in self.inputs

    def _pure(self, func: Any, args: tuple[Any, ...]) -> Any:
        """The operation that returns what this one writes, where nobody else sees what is overwritten."""
        name = func._schema.name.removeprefix("aten::")
        if name not in _IN_PLACE or not isinstance(args[0], Ref):
            return None
        own = args[0].index
        if self._seen_elsewhere(own):
            return None
        others = [n for n in Op(func, args, {}, ()).refs if self.meta[n].dtype.is_floating_point]
        if any(self.meta[n].dtype != self.meta[own].dtype for n in others):
            return None
        return getattr(getattr(torch.ops.aten, name[:-1]), func._overloadname)

    def _result(self, value: Tensor) -> int:
        found = self.held.get(id(value))
        if found is not None:  # an operation in place returns what it changed
            return found[0]
        if value.numel() >= _LARGE:
            self._let_go()
            number = self._number(value)
            self.large.append((value, number))
            return number
        return self._number(value)

    def _let_go(self) -> None:
        """Release large results that nobody but this recorder holds: they cannot come back."""
        kept = []
        while self.large:
            value, number = self.large.pop()
            # Python holds it in `value`, in `held` and as getrefcount's argument; torch holds it once
            if sys.getrefcount(value) <= 3 and value._use_count() <= 1:  # type: ignore[attr-defined]
                del self.held[id(value)]
            else:
                kept.append((value, number))
        self.large = kept


def record(function: Callable[..., Any], *example: Any, gradients: bool = True) -> Recording:
    """Record ``function`` at example inputs (trees of tensors).

    Args:
        function: of trees of tensors; returns one.
        example: its arguments; they are copied, so that a tensor which ``function`` also knows from elsewhere
            is not taken for an input.
        gradients: whether the tape is to be differentiated. If not, what becomes of writes in place holds
            sizes as arguments of operations, where :mod:`inference.compiler.any_size` finds them.

    Raises:
        Exception: whatever the function raises.
        RandomStoryError: if it draws random numbers.

    Example:
        >>> import torch
        >>> def twice(inputs):
        ...     return 2.0 * inputs["x"]
        >>> tape = record(twice, {"x": torch.ones(3)}).tape
        >>> [str(op.target) for op in tape.ops], tape.run(torch.arange(3.0))
        (['aten.mul.Tensor'], (tensor([0., 2., 4.]),))
    """
    leaves, spec = tree_flatten(example)
    own = [x.detach().clone() if isinstance(x, Tensor) else x for x in leaves]
    recorder = _Recorder([x for x in own if isinstance(x, Tensor)])
    with recorder:
        result = function(*tree_unflatten(own, spec))
    outputs, shape = tree_flatten(result)
    tape = Tape(
        recorder.inputs,
        recorder.constants,
        recorder.ops,
        tuple(recorder.known(out) for out in outputs),
        recorder.meta,
    )
    if recorder.mutated:
        own = [x for x in own if isinstance(x, Tensor)]
        tape = _without_writes(tape, own) if gradients else _functionalized(tape, own)
    return Recording(tape, shape, _depends_on_read(recorder))


def _without_writes(tape: Tape, example: Sequence[Tensor]) -> Tape:
    """The same run with operations in place replaced by operations that return what they compute.

    Raises:
        ValueError: if it is an input or a tensor from outside that is changed, or a write cannot be followed.
    """
    recorder = _Recorder(example)
    with recorder:
        outputs = replayed(tape, example)
    numbers = tuple(recorder.known(out) for out in outputs)
    return Tape(recorder.inputs, recorder.constants, recorder.ops, numbers, recorder.meta)


def _functionalized(tape: Tape, example: Sequence[Tensor]) -> Tape:
    """The same, whatever the sizes; what was written is detached, so that the tape has no gradient.

    Raises:
        ValueError: if it is an input or a tensor from outside that is changed.
    """
    from torch.func import functionalize

    kept = {*tape.inputs, *tape.constants}
    views = aliases(tape, kept)
    for op in tape.ops:
        if op.target._schema.is_mutable and not views.isdisjoint(op.outs):  # type: ignore[attr-defined]
            raise ValueError("it changes a tensor in place that was there before")
    pure = functionalize(tape.run, remove="mutations")
    recorder = _Recorder(example)
    with recorder:
        outputs = pure(*example)
    numbers = tuple(recorder.known(out) for out in outputs)
    ops = [batchable(op, recorder.meta) for op in recorder.ops]
    return Tape(recorder.inputs, recorder.constants, ops, numbers, recorder.meta)


def _depends_on_read(recorder: _Recorder) -> frozenset[int]:
    """Positions of the inputs from which numbers were read out, which are then constants of the tape."""
    root = Sharing(recorder.ops if recorder.mutated else ()).root
    read = set(map(root, recorder.read))
    return frozenset(
        position
        for position, number in enumerate(recorder.inputs)
        if not _reached(recorder.ops, number, root).isdisjoint(read)
    )


def _reached(ops: Sequence[Op], number: int, root: Callable[[int], int]) -> set[int]:
    """The values, or what they share memory with, that depend on one."""
    found = {root(number)}
    for op in ops:
        if op.target not in _SHAPES and not found.isdisjoint(map(root, op.refs)):
            found.update(map(root, op.outs))
    return found


def _reads_out(func: Any, args: Sequence[Any]) -> bool:
    """Whether numbers leave their tensors: by ``.item()``, a branch, or as the shape of a result."""
    if not any(tag in func.tags for tag in _READ_OUT):
        return False
    if func.overloadpacket in (torch.ops.aten.index_put, torch.ops.aten.index_put_):
        return False
    if func.overloadpacket is torch.ops.aten.index:
        return any(x is not None and x.dtype == torch.bool for x in args[1])
    return True
