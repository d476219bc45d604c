"""Rows of regressions on a tape: least squares folded into a few numbers, logits in few passes over the rows.

Let X hold the columns that a mean is made of and y what is seen. Then ``|y - X w|^2 = |c - R w|^2``, where
R and c are the triangular factor of ``[X, y]``, parted: one row more than there are columns, however many the
data have (Golub and Van Loan, Matrix Computations, section 5.3). No squares of the data are formed, so that
nothing is lost where y is far from zero. Likewise ``sum_i y_i (X w)_i = (X' y)' w``.
"""

from __future__ import annotations

from typing import Any

import torch

from inference.compiler.operations import aten
from inference.compiler.tape import Meta, Op, Ref, Writer

_ROWS = 256  # fewer cost less than the operations that would take their place
_PER_COLUMN = 4  # rows, at least, for each column
_BLOCK = (
    2**14
)  # rows that are gone through at a time, of so many that a draw of all of them leaves the cache ...
_BLOCKS = 64  # ... but no more blocks than these: each takes operations
_LINEAR = 40.0  # softplus(x) = x beyond it, to 4e-18; torch's own limit of 20 leaves 2e-9


def regression(tape: Writer, op: Op) -> int | None:
    """What takes the place of an operation on the rows of a regression, or ``None`` where it is none."""
    if op.target == aten.binary_cross_entropy_with_logits.default:
        return _cross_entropy(tape, op)
    if op.target == aten.sum.default and isinstance(op.args[0], Ref):
        return _folded(tape, op)
    return None


def _cross_entropy(tape: Writer, op: Op) -> int | None:
    """``softplus(x) - y x`` for the cross entropy of logits x; torch's takes twelve operations in a batch."""
    x, y, *rest = op.args
    meta = tape.meta[op.outs[0]]
    if rest != [None, None, 0] or op.kwargs or meta.dtype != torch.float64:
        return None
    if any(tape.meta[v.index] != meta for v in (x, y)):
        return None
    soft = tape.new(aten.softplus.default, (x, 1, _LINEAR), meta)
    return tape.new(aten.sub.Tensor, (Ref(soft), Ref(tape.new(aten.mul.Tensor, (x, y), meta))), meta)


def certain(tape: Writer, op: Op) -> int | None:
    """``y softplus(-x) + (1 - y) softplus(x)`` for the cross entropy of logits x, which may be infinite.

    What is certain has density 1, what is impossible none; torch's formula is ``inf - inf`` for the first.
    """
    if op.target != aten.binary_cross_entropy_with_logits.default:
        return None
    x, y, *rest = op.args
    meta = tape.meta[op.outs[0]]
    if rest != [None, None, 0] or op.kwargs or any(tape.meta[v.index] != meta for v in (x, y)):
        return None

    def part(share: Ref, logits: Ref) -> Ref:
        none = Ref(tape.new(aten.eq.Scalar, (share, 0), Meta(meta.shape, torch.bool)))
        soft = Ref(tape.new(aten.softplus.default, (logits, 1, _LINEAR), meta))
        product = Ref(tape.new(aten.mul.Tensor, (share, soft), meta))
        return Ref(tape.new(aten.where.self, (none, Ref(tape.full(0.0, meta)), product), meta))

    yes = part(y, Ref(tape.new(aten.neg.default, (x,), meta)))
    no = part(Ref(tape.new(aten.rsub.Scalar, (y, 1), meta)), x)
    return tape.new(aten.add.Tensor, (yes, no), meta)


def _folded(tape: Writer, op: Op) -> int | None:
    """What takes the place of the sum of all elements of a vector over rows, or ``None``."""
    source, meta = op.args[0].index, tape.meta[op.outs[0]]
    inner, shape = tape.made.get(source), tape.meta[source].shape
    if inner is None or len(op.args) > 1 or op.kwargs or meta.dtype != torch.float64:
        return None
    if len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < _ROWS or source not in tape.live:
        return None
    if inner.target == aten.pow.Tensor_Scalar and inner.args[1] == 2:
        return _least_squares(tape, op, inner.args[0].index)
    if inner.target == aten.mul.Tensor:
        return _dot(tape, inner, meta)
    if inner.target == aten.sub.Tensor and not inner.kwargs:
        return _parted(tape, op, inner, meta)
    if inner.target in (aten.softplus.default, aten.exp.default):
        return _blocked(tape, inner, shape[0], meta)
    return None


def _blocked(tape: Writer, inner: Op, rows: int, meta: Meta) -> int | None:
    """Of a function of X w: block after block of the rows, each of which stays in the cache."""
    product = tape.made.get(inner.args[0].index)
    if product is None or product.target != aten.mv.default or product.args[0].index in tape.live:
        return None
    matrix, weights = product.args
    columns, total, size = tape.meta[matrix.index].shape[1], None, max(_BLOCK, -(-rows // _BLOCKS))
    if rows < 4 * size:
        return None
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        one = Meta((stop - start,), meta.dtype)
        part = tape.new(
            aten.slice.Tensor, (matrix, 0, start, stop), Meta((stop - start, columns), meta.dtype)
        )
        mean = tape.new(aten.mv.default, (Ref(part), weights), one)
        value = tape.new(inner.target, (Ref(mean), *inner.args[1:]), one)
        added = tape.new(aten.sum.default, (Ref(value),), meta)
        total = added if total is None else tape.new(aten.add.Tensor, (Ref(total), Ref(added)), meta)
    return total


def _least_squares(tape: Writer, op: Op, residual: int) -> int | None:
    """Of squared residuals: those of the triangular factor."""
    inner, meta = tape.made.get(residual), tape.meta[residual]
    if inner is None or inner.target != aten.sub.Tensor or inner.kwargs:
        return None
    for seen, mean in (inner.args, inner.args[::-1]):
        if not isinstance(seen, Ref) or seen.index in tape.live or tape.meta[seen.index] != meta:
            continue
        terms = _terms(tape, mean, meta)
        if terms is not None:
            return _of_factor(tape, op, seen, terms)
    return None


Term = tuple[Ref, Ref]  # columns (rows, k) that do not depend on the point, and their coefficients (k,)


def _of_factor(tape: Writer, op: Op, seen: Ref, terms: list[Term]) -> int | None:
    dtype = torch.float64
    (rows,), widths = tape.meta[seen.index].shape, [tape.meta[x.index].shape[1] for x, _ in terms]
    if not isinstance(rows, int):
        return None
    columns = sum([w for w in widths if isinstance(w, int)])
    if rows < _PER_COLUMN * columns:
        return None

    def put(target: Any, args: tuple[Any, ...], *shape: int) -> Ref:
        return Ref(tape.new(target, args, Meta(shape, dtype)))

    last = put(aten.reshape.default, (seen, [rows, 1]), rows, 1)
    whole = put(aten.cat.default, ([*(x for x, _ in terms), last], 1), rows, columns + 1)
    square = Meta((columns + 1, columns + 1), dtype)
    factor = Ref(tape.second(aten.linalg_qr.default, (whole, "r"), (Meta((0,), dtype), square)))
    left = put(aten.slice.Tensor, (factor, 1, 0, columns), columns + 1, columns)
    right = put(aten.select.int, (factor, 1, columns), columns + 1)
    weights = terms[0][1]
    if len(terms) > 1:
        weights = put(aten.cat.default, ([w for _, w in terms],), columns)
    mean = put(aten.mv.default, (left, weights), columns + 1)
    squares = put(
        aten.pow.Tensor_Scalar,
        (put(aten.sub.Tensor, (right, mean), columns + 1), 2),
        columns + 1,
    )
    return tape.new(op.target, (squares,), tape.meta[op.outs[0]])


def _terms(tape: Writer, value: Any, meta: Meta) -> list[Term] | None:
    """A mean as columns times coefficients; ``None`` where it is not linear in what depends on the point."""
    if (
        not isinstance(value, Ref)
        or value.index not in tape.live
        or tape.meta[value.index].dtype != meta.dtype
    ):
        return None
    rows = meta.shape[0]
    if tape.meta[value.index].shape in ((), (1,)):
        return [_constant(tape, value, rows)]
    op = tape.made.get(value.index)
    if op is None or op.kwargs or tape.meta[value.index] != meta:
        return None
    if op.target == aten.mv.default and op.args[0].index not in tape.live:
        return [(op.args[0], op.args[1])]
    if op.target == aten.sum.dim_IntList and op.args[1:] in (([1],), ([-1],)):
        return _by_rows(tape, op.args[0].index)
    if op.target == aten.mul.Tensor:
        for fixed, coefficient in (op.args, op.args[::-1]):
            if _column(tape, fixed, meta) and tape.meta[coefficient.index].shape in ((), (1,)):
                column = Ref(tape.new(aten.reshape.default, (fixed, [rows, 1]), Meta((rows, 1), meta.dtype)))
                return [(column, _single(tape, coefficient))]
    if op.target == aten.add.Tensor:
        parts = [_terms(tape, part, meta) for part in op.args]
        if parts[0] is not None and parts[1] is not None:
            return parts[0] + parts[1]
    return None


def _by_rows(tape: Writer, number: int) -> list[Term] | None:
    """A product ``(X * w).sum(-1)``, written without ``@``."""
    op, meta = tape.made.get(number), tape.meta[number]
    if op is None or op.target != aten.mul.Tensor or len(meta.shape) != 2:
        return None
    for fixed, weights in (op.args, op.args[::-1]):
        alike = isinstance(weights, Ref) and tape.meta[weights.index] == Meta(meta.shape[1:], meta.dtype)
        if alike and _column(tape, fixed, meta):
            return [(fixed, weights)]
    return None


def _column(tape: Writer, value: Any, meta: Meta) -> bool:
    return isinstance(value, Ref) and value.index not in tape.live and tape.meta[value.index] == meta


def _constant(tape: Writer, value: Ref, rows: Any) -> Term:
    """A number that all rows share: a column of ones."""
    ones = tape.new(aten.ones.default, ([rows, 1],), Meta((rows, 1), torch.float64), dtype=torch.float64)
    return Ref(ones), _single(tape, value)


def _single(tape: Writer, value: Ref) -> Ref:
    return Ref(tape.new(aten.reshape.default, (value, [1]), Meta((1,), torch.float64)))


def _dot(tape: Writer, inner: Op, meta: Meta) -> int | None:
    """Of y times X w: X' y times w."""
    for seen, mean in (inner.args, inner.args[::-1]):
        if not isinstance(mean, Ref) or not isinstance(seen, Ref) or seen.index in tape.live:
            continue
        product = tape.made.get(mean.index)
        if product is None or product.target != aten.mv.default or product.args[0].index in tape.live:
            continue
        if tape.meta[seen.index] != tape.meta[mean.index]:
            continue
        matrix, weights = product.args
        rows, columns = tape.meta[matrix.index].shape
        across = Ref(tape.new(aten.t.default, (matrix,), Meta((columns, rows), meta.dtype)))
        small = Meta((columns,), meta.dtype)
        sums = Ref(tape.new(aten.mv.default, (across, seen), small))
        return tape.new(aten.sum.default, (Ref(tape.new(aten.mul.Tensor, (sums, weights), small)),), meta)
    return None


def _parted(tape: Writer, op: Op, inner: Op, meta: Meta) -> int | None:
    """Of a difference one part of which can be folded: the difference of the sums."""
    whole = tape.meta[op.args[0].index]
    if any(not isinstance(v, Ref) or tape.meta[v.index] != whole for v in inner.args):
        return None
    for position, part in enumerate(inner.args):
        product = tape.made.get(part.index)
        small = None if product is None or product.target != aten.mul.Tensor else _dot(tape, product, meta)
        if small is not None:
            sums = [Ref(small), Ref(tape.new(op.target, (inner.args[1 - position],), meta))]
            return tape.new(aten.sub.Tensor, tuple(sums if position == 0 else sums[::-1]), meta)
    return None
