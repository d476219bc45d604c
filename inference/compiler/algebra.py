"""Signs, factors and offsets of a tape: gathered, so that each costs one operation, or none per draw.

``-(x ** 2) / (2 * sigma ** 2)`` is a square times one number where ``sigma`` is known; its gradient is a
product with another. What does not depend on the point, a factor here, is computed once per fit.
"""

from __future__ import annotations

from typing import Any

import torch

from inference.compiler.operations import aten
from inference.compiler.tape import Meta, Op, Ref, Writer, broadcast

_TIMES = (aten.mul.Tensor, aten.mul.Scalar)
_OVER = (aten.div.Tensor, aten.div.Scalar)
_PLUS = (aten.add.Tensor, aten.add.Scalar)
_MINUS = (aten.sub.Tensor, aten.sub.Scalar)
_POSITIVE = frozenset({aten.exp.default, aten.sigmoid.default, aten.softplus.default, aten.abs.default})


def rearranged(tape: Writer, op: Op) -> int | None:
    """What takes the place of an operation, or ``None`` where nothing can be gathered."""
    meta = tape.meta[op.outs[0]]
    if op.target in (aten.lt.Scalar, aten.ge.Scalar) and op.args[1] == 0:
        return _sign_known(tape, op, meta)
    if op.kwargs or meta.dtype != torch.float64 or not _alike(tape, op, meta):
        return None
    if op.target == aten.neg.default:
        return _negated(tape, op.args[0], meta)
    if op.target in _TIMES + _OVER:
        return _product(tape, op, meta)
    if op.target in _PLUS + _MINUS:
        return _sum(tape, op, meta)
    return None


def _alike(tape: Writer, op: Op, meta: Meta) -> bool:
    """Whether all tensors have the dtype of the result."""
    return all(tape.meta[n].dtype == meta.dtype for n in op.refs)


def _fixed(tape: Writer, value: Any) -> bool:
    """Whether an argument does not depend on the point."""
    return not (isinstance(value, Ref) and value.index in tape.live)


def _made(tape: Writer, value: Any) -> Op | None:
    """What makes an argument, if that is an operation of floating-point numbers of its own dtype."""
    op = tape.made.get(value.index) if isinstance(value, Ref) else None
    return op if op is not None and not op.kwargs and _alike(tape, op, tape.meta[value.index]) else None


def _negative(tape: Writer, value: Any) -> Any:
    """``x`` where the argument is ``-x``, else ``None``."""
    op = _made(tape, value)
    return op.args[0] if op is not None and op.target == aten.neg.default else None


def _minus(tape: Writer, value: Any) -> Any:
    """An argument with its sign changed."""
    if not isinstance(value, Ref):
        return -value
    return Ref(tape.new(aten.neg.default, (value,), tape.meta[value.index]))


def _times(tape: Writer, x: Any, y: Any) -> Any:
    """The product of two arguments, numbers or tensors."""
    if not isinstance(x, Ref) and not isinstance(y, Ref):
        return x * y
    x, y = (x, y) if isinstance(x, Ref) else (y, x)
    shapes = [tape.meta[v.index].shape for v in (x, y) if isinstance(v, Ref)]
    meta = Meta(broadcast(*shapes) or (), tape.meta[x.index].dtype)
    return Ref(tape.new(aten.mul.Tensor, (x, y), meta))


def _negated(tape: Writer, x: Any, meta: Meta) -> int | None:
    inner = _made(tape, x)
    if inner is None:
        return None
    if inner.target == aten.neg.default:
        return int(inner.args[0].index)
    if inner.target in _TIMES and _fixed(tape, inner.args[1]):
        return tape.new(aten.mul.Tensor, (inner.args[0], _minus(tape, inner.args[1])), meta)
    if inner.target == aten.mul.Tensor:
        for one, other in (inner.args, inner.args[::-1]):
            if _smaller(tape, one, meta) and not _smaller(tape, other, meta):
                return tape.new(aten.mul.Tensor, (other, _minus(tape, one)), meta)
    if inner.target == aten.sub.Tensor and all(isinstance(a, Ref) for a in inner.args):
        return tape.new(aten.sub.Tensor, inner.args[::-1], meta)
    return None


def _product(tape: Writer, op: Op, meta: Meta) -> int | None:
    x, y = op.args
    if op.target in _OVER:
        if _fixed(tape, y) and not _fixed(tape, x):
            return tape.new(aten.mul.Tensor, (x, _inverse(tape, y)), meta)
    elif _fixed(tape, x) and not _fixed(tape, y):
        return tape.new(aten.mul.Tensor, (y, x), meta)
    for one, other, first in ((x, y, True), (y, x, False)):
        positive = _negative(tape, one)
        if positive is None or _fixed(tape, one) or _smaller(tape, one, meta):
            continue
        if _fixed(tape, other):
            return tape.new(aten.mul.Tensor, (positive, _minus(tape, other)), meta)
        args = (positive, other) if first else (other, positive)
        return tape.new(aten.neg.default, (Ref(tape.new(op.target, args, meta)),), meta)
    found = _moved(tape, op, meta) if op.target == aten.mul.Tensor else None
    if found is not None:
        return found
    inner = _made(tape, x)
    if op.target in _TIMES and _fixed(tape, y) and not _fixed(tape, x) and inner is not None:
        if inner.target in _TIMES and _fixed(tape, inner.args[1]) and not _fixed(tape, inner.args[0]):
            return tape.new(aten.mul.Tensor, (inner.args[0], _times(tape, inner.args[1], y)), meta)
    return None


def _smaller(tape: Writer, value: Any, meta: Meta) -> bool:
    """Whether an argument is a tensor that is broadcast to the shape of the result."""
    return isinstance(value, Ref) and tape.meta[value.index].shape != meta.shape


def _moved(tape: Writer, op: Op, meta: Meta) -> int | None:
    """A number times a large tensor times a small one: the number is multiplied with the small one."""
    for one, other in (op.args, op.args[::-1]):
        inner = _made(tape, one)
        if inner is None or inner.target not in _TIMES or _fixed(tape, one) or _smaller(tape, one, meta):
            continue
        large, number = inner.args
        single = not isinstance(number, Ref) or tape.meta[number.index].shape == ()
        if (
            single
            and _fixed(tape, number)
            and _smaller(tape, other, meta)
            and not _smaller(tape, large, meta)
        ):
            return tape.new(aten.mul.Tensor, (large, _times(tape, other, number)), meta)
    return None


def _inverse(tape: Writer, value: Any) -> Any:
    if not isinstance(value, Ref):
        return 1.0 / value if value else torch.inf
    return Ref(tape.new(aten.reciprocal.default, (value,), tape.meta[value.index]))


def _sum(tape: Writer, op: Op, meta: Meta) -> int | None:
    x, y = op.args
    added = op.target in _PLUS
    positive = _negative(tape, y)
    if positive is not None and not _fixed(tape, y) and isinstance(x, Ref):
        return tape.new(aten.sub.Tensor if added else aten.add.Tensor, (x, positive), meta)
    positive = _negative(tape, x)
    if positive is not None and added and not _fixed(tape, x) and isinstance(y, Ref):
        return tape.new(aten.sub.Tensor, (y, positive), meta)
    return _offset(tape, x, y, added, meta) if meta.shape == () else None


def _offset(tape: Writer, x: Any, y: Any, added: bool, meta: Meta) -> int | None:
    """Numbers that do not depend on the point, moved to the end and added once.

    Only in sums of numbers: among them are the log densities of all sites. Elsewhere the order of additions
    may matter, where large numbers cancel.
    """
    if _fixed(tape, y) and not added:
        return tape.new(aten.add.Tensor, (x, _minus(tape, y)), meta)
    if _fixed(tape, x) and not _fixed(tape, y) and added:
        return tape.new(aten.add.Tensor, (y, x), meta)
    inner, rest = _with_offset(tape, x)
    if inner is not None and _fixed(tape, y):
        return tape.new(aten.add.Tensor, (inner, _plus(tape, rest, y)), meta)
    target = aten.add.Tensor if added else aten.sub.Tensor
    if inner is not None:
        whole = tape.new(target, (inner, y), meta)
        return tape.new(aten.add.Tensor, (Ref(whole), rest), meta)
    inner, rest = _with_offset(tape, y)
    if inner is not None:
        whole = tape.new(target, (x, inner), meta)
        return tape.new(aten.add.Tensor, (Ref(whole), rest if added else _minus(tape, rest)), meta)
    return None


def _with_offset(tape: Writer, value: Any) -> tuple[Any, Any]:
    """``x, k`` where the argument is ``x + k`` and ``k`` does not depend on the point."""
    op = _made(tape, value)
    if op is None or _fixed(tape, value) or op.target not in _PLUS or not _fixed(tape, op.args[1]):
        return None, None
    shapes = [tape.meta[a.index].shape for a in op.args if isinstance(a, Ref)]
    return op.args if all(s == () for s in shapes) else (None, None)


def _plus(tape: Writer, x: Any, y: Any) -> Any:
    if not isinstance(x, Ref) and not isinstance(y, Ref):
        return x + y
    x, y = (x, y) if isinstance(x, Ref) else (y, x)
    return Ref(tape.new(aten.add.Tensor, (x, y), tape.meta[x.index]))


def _sign_known(tape: Writer, op: Op, meta: Meta) -> int | None:
    """Whether a number that cannot be negative is: distributions ask it of scales and of what is positive."""
    inner = tape.made.get(op.args[0].index)
    if inner is None or inner.target not in _POSITIVE:
        return None
    return tape.full(op.target == aten.ge.Scalar, meta)
