"""Negative codes: an argument by which a story indexes, where a negative number would silently wrap around.

pandas codes a missing category as -1, and ``a[-1]`` is the last one: rows without a school would count for
the last school. What a story indexes by is seen in the run in which it is looked at. Whether a negative index
comes from an argument is then found out by trying: the story is run again with the argument's least numbers
raised, and the index is the argument's where that mends it. So nothing is guessed from values: year offsets
may be negative, and literals of the story's own (``a[-1]``) stay what they are. Only a negative index is
followed up so; without one it costs a look at each index, and nothing where no argument is an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from pyro.ops.provenance import detach_provenance
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from inference.story.arguments import Path, is_table, paths, sequence_of, spoken
from inference.story.call import Call

_SHOWN = 5  # rows in a message
_SCALARS = (int, float, str, bytes, type(None))
_INDEX_AT = {  # operation -> where among its arguments the index stands
    "__getitem__": 1, "__setitem__": 1, "__index__": 0, "index_select": 2, "gather": 2, "take": 1, "put_": 1,
    "put": 1, "take_along_dim": 1, "one_hot": 0, "index_put": 1, "index_put_": 1, "index_add": 2,
    "index_add_": 2, "index_copy": 2, "index_copy_": 2, "index_fill": 2, "index_fill_": 2, "scatter": 2,
    "scatter_": 2, "scatter_add": 2, "scatter_add_": 2, "scatter_reduce": 2, "scatter_reduce_": 2,
    "embedding": 0, "embedding_bag": 0,
}  # fmt: skip
_KEYWORDS = ("index", "indices", "input")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Use:
    """An index that a story used: by which operation, of what shape, its least number, how many negative."""

    operation: str
    shape: tuple[int, ...]
    least: int
    negative: int

    def same_as(self, other: Use) -> bool:
        """Whether another run's use is the same statement, as far as one can tell."""
        return (self.operation, self.shape) == (other.operation, other.shape)


class Indexing(TorchFunctionMode):
    """Notes what tensors are indexed by, in ``uses``; ``failed`` is the position of one that raised.

    Example:
        >>> import torch
        >>> with Indexing() as seen:
        ...     last = torch.arange(3.0)[torch.tensor([0, -1])]
        >>> seen.uses
        [Use(operation='__getitem__', shape=(2,), least=-1, negative=1)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.uses: list[Use] = []
        self.failed: int | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name not in _INDEX_AT:
            return func(*args, **kwargs)
        self.uses += [_use(name, index) for index in _indices(name, args, kwargs)]
        try:
            return func(*args, **kwargs)
        except (IndexError, RuntimeError):
            self.failed = len(self.uses) - 1
            raise


def _indices(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[np.ndarray | Tensor]:
    """The integers that an operation indexes by; masks, slices and the like are none."""
    place = _INDEX_AT[name]
    if name == "embedding" and len(args) > 1 and not _floating(args[1]):  # torch's own has the weight first
        place = 1
    index = args[place] if place < len(args) else next((kwargs[k] for k in _KEYWORDS if k in kwargs), None)
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, Tensor):
            part = detach_provenance(part)
            if part.numel() and not (part.is_floating_point() or part.dtype in (torch.bool, torch.uint8)):
                yield part
        elif isinstance(part, list | int | np.ndarray) and not isinstance(part, bool):
            with suppress(ValueError, TypeError):  # a ragged list, or one of tensors
                found = np.asarray(part)
                if found.dtype.kind == "i" and found.size:
                    yield found


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _use(name: str, index: np.ndarray | Tensor) -> Use:
    least = int(index.min())
    return Use(name, tuple(index.shape), least, int((index < 0).sum()) if least < 0 else 0)


@dataclass(frozen=True)
class Suspect:
    """Numbers in the arguments by which the story may index: a tensor, a list's whole numbers, a column.

    Attributes:
        name: what to call it.
        positions: of its leaves among those of the arguments.
        values: as a tensor.
        column: where it stands in a table of pandas; ``None`` elsewhere.
    """

    name: str
    positions: tuple[int, ...]
    values: Tensor
    column: int | None = None

    def put(self, call: Call, values: Tensor) -> Call:
        """The call with other numbers in their place."""
        leaves, form = tree_flatten((call.args, dict(call.kwargs)))
        if self.column is not None:
            leaves[self.positions[0]] = _with_codes(leaves[self.positions[0]], self.column, values.numpy())
            args, kwargs = tree_unflatten(leaves, form)
            return replace(call, args=args, kwargs=kwargs)
        alone = isinstance(leaves[self.positions[0]], Tensor)
        for position, value in zip(self.positions, [values] if alone else values.tolist(), strict=True):
            leaves[position] = value
        args, kwargs = tree_unflatten(leaves, form)
        return replace(call, args=args, kwargs=kwargs)


def _suspects(call: Call) -> list[Suspect]:
    """Tensors of whole numbers in the arguments, lists of them, and columns of tables."""
    found, lists = [], dict[Path, list[int]]()
    leaves = paths(call.args, call.kwargs)
    for position, (path, leaf) in enumerate(leaves):
        within = sequence_of(path)
        if isinstance(leaf, Tensor) and leaf.numel() and leaf.dtype != torch.bool:
            if not leaf.is_floating_point() or bool((leaf == leaf.floor()).all()):
                found.append(Suspect(spoken(call.signature, path), (position,), leaf.detach()))
        elif is_table(leaf) and hasattr(leaf, "iloc"):
            found += _columns(spoken(call.signature, path), position, leaf)
        elif isinstance(leaf, int | np.integer) and not isinstance(leaf, bool) and within is not None:
            lists.setdefault(within, []).append(position)
    for path, positions in lists.items():
        values = torch.tensor([leaves[p][1] for p in positions])
        found.append(Suspect(spoken(call.signature, path), tuple(positions), values))
    return found


def _columns(name: str, position: int, table: Any) -> list[Suspect]:
    """The columns of a table of pandas that hold whole numbers, or categories."""
    found = []
    alone = not hasattr(table, "columns")
    frame = table.to_frame() if alone else table
    for place in range(frame.shape[1]):
        codes = _codes(frame.iloc[:, place])
        if codes is not None and len(codes):
            called = name if alone else f"{name}[{frame.columns[place]!r}]"
            found.append(Suspect(called, (position,), torch.tensor(codes), place))
    return found


def _codes(column: Any) -> np.ndarray | None:
    """The whole numbers of a column, or the codes of its categories, of which -1 is a missing one."""
    if hasattr(column, "cat"):
        return np.asarray(column.cat.codes, np.int64)
    if column.dtype.kind not in "iu" or column.isna().any():
        return None
    return np.asarray(column, np.int64)


def _with_codes(table: Any, place: int, codes: np.ndarray) -> Any:
    """A copy of a table with other numbers, or categories, in one column."""
    import pandas as pd

    alone = not hasattr(table, "columns")
    column = table if alone else table.iloc[:, place]
    made: Any = codes
    if hasattr(column, "cat"):
        known = np.minimum(codes, len(column.cat.categories) - 1)
        made = pd.Categorical.from_codes(known, dtype=column.dtype)
    series = pd.Series(made, index=column.index, name=column.name)
    if alone:
        return series
    columns = [series if k == place else table.iloc[:, k] for k in range(table.shape[1])]
    return pd.concat(columns, axis=1)


def run_watched(call: Call, run: Callable[[], Result], again: Callable[[Call], Any]) -> Result:
    """Run a story once, and refuse negative codes in its arguments by which it indexes.

    Args:
        call: with the arguments as they came.
        run: runs the story, called so, on copies.
        again: runs it another time, with the same random numbers and data.

    Raises:
        ValueError: naming the argument, the rows, how many there are, and what to do.
    """
    if all(isinstance(value, _SCALARS) for value in (*call.args, *call.kwargs.values())):
        return run()
    seen = Indexing()
    try:
        with seen:
            result = run()
    except (IndexError, RuntimeError) as error:
        if seen.failed is not None:
            _refuse_negative(call, seen.uses, again)
            _refuse_beyond(call, seen, again, error)
        raise
    _refuse_negative(call, seen.uses, again)
    return result


def goes_beyond(call: Call, other: Call) -> bool:
    """Whether whole numbers in a call's arguments lie below or above those of another, looked at before."""
    mine, theirs = (_suspects(one) for one in (call, other))
    return len(mine) != len(theirs) or any(
        bool(a.values.min() < b.values.min()) or bool(a.values.max() > b.values.max())
        for a, b in zip(mine, theirs, strict=True)
    )


def _uses(call: Call, again: Callable[[Call], Any]) -> Indexing:
    """What another run indexes by, as far as it comes."""
    with Indexing() as seen, suppress(Exception):  # other numbers may be none that the story can work with
        again(call)
    return seen


def _refuse_negative(call: Call, uses: Sequence[Use], again: Callable[[Call], Any]) -> None:
    """Refuse the argument whose least numbers, when they are raised, leave an index less negative."""
    for least in sorted({use.least for use in uses if use.negative}):
        for suspect in _suspects(call):
            bound = int(suspect.values.min()) - least  # raised to it, less a constant, no number is below 0
            raised = suspect.put(call, suspect.values.clamp(min=bound))
            for use, other in zip(uses, _uses(raised, again).uses, strict=False):
                if not use.same_as(other):
                    break
                if use.least == least and other.negative < use.negative:
                    raise ValueError(_negative(suspect, least, bound))


def _refuse_beyond(call: Call, seen: Indexing, again: Callable[[Call], Any], error: Exception) -> None:
    """Name the argument that an index beyond the last level comes from: with zeros in its place, none is."""
    place = seen.failed or 0
    for suspect in _suspects(call):
        other = _uses(suspect.put(call, torch.zeros_like(suspect.values)), again)
        if len(other.uses) > place and other.failed != place and seen.uses[place].same_as(other.uses[place]):
            said = str(error).split("\nTrace Shapes:")[0]
            low, high = int(suspect.values.min()), int(suspect.values.max())
            raise ValueError(
                f"{suspect.name}: the story indexes by it, expected codes from 0 to one less than there are "
                f"levels, got numbers from {low} to {high} ({said}). Count the levels that the story makes, "
                f"or code the argument anew (pandas.factorize, numpy.unique(return_inverse=True))."
            ) from error


def _negative(suspect: Suspect, least: int, bound: int) -> str:
    """The sentence for an argument with numbers below a bound, which make a negative index."""
    name, values = suspect.name, suspect.values
    below = values < bound
    came = ", ".join(f"{int(v)}" for v in values[below].unique()[:_SHOWN])
    where = ""
    if values.dim():
        rows = [tuple(r) if len(r) > 1 else r[0] for r in below.nonzero()[:_SHOWN].tolist()]
        more = ", ..." if int(below.sum()) > _SHOWN else ""
        where = f" in {int(below.sum())} of {values.numel()} rows ({', '.join(map(str, rows))}{more})"
    wraps = "A negative index counts from the end, so that these rows would be taken for the last level's."
    if bound > 0:
        return (
            f"{name}: the story indexes by what it computes from it, expected codes from 0 on, got {least} "
            f"where {name} is {came}{where}. {wraps} Codes that start at 1 want one taken off, codes that "
            f"start at 0 none: shift {name}, or the story's index."
        )
    return (
        f"{name}: the story indexes by it, expected codes from 0 to one less than there are levels, got "
        f"{came}{where}. {wraps} -1 is what pandas codes a missing category as: drop those rows (and their "
        f"data), or give missing categories a level of their own."
    )
