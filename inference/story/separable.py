"""Whether discrete sites can be summed out row by row: does the story mix the values of their rows?

Under enumeration a discrete site holds all its values in a dimension to the left, and its rows are told apart
by where they stand. What the story computes from it must then be computed row by row: ``b - b.mean()`` would
mix the values of one row instead of those of all, and a branch on ``b.sum() > 1`` would be taken once for all
values. Nothing fails in such a run. So it is looked for, in two ways. The story is run on plain values that
are followed through every operation (:mod:`inference.story.followed`). And what every site counts in the
enumerated run, picked at some assignment of values, is compared with a plain run at this assignment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from inference.story.assignments import Assignments, Index
from inference.story.followed import Followed
from inference.story.handlers import Known

_AGAIN = 2  # assignments that are compared at a second point
_TOLERANCE = {torch.float64: 1e-5}  # relative; a story may compute parts of a term in single precision
_COARSE = 1e-3


@dataclass(frozen=True)
class Mixed:
    """Sites whose values cannot be summed out row by row.

    Attributes:
        names: the sites.
        how: what shows it, to be read after "the story".
        error: what a run under enumeration raised, if it did.
    """

    names: frozenset[str]
    how: str
    error: Exception | None = None


@dataclass(frozen=True)
class Look:
    """A look at a story for discrete sites whose rows it mixes.

    Attributes:
        assignments: of values to the sites that are to be summed out.
        dropped: sites that do not count.
    """

    assignments: Assignments
    dropped: frozenset[str]

    def mixed(self, held: Collection[str] = ()) -> Mixed | None:
        """The sites that cannot be summed out row by row, with some held; ``None`` if all others can."""
        some = self.assignments
        free = tuple(n for n in some.names if n not in held)
        with some.structure.call.room(0), torch.no_grad():
            points = list(self.points())
            found = self._followed(points[0], free)
            for number, point in enumerate(points):
                tried = some.some() if number == 0 else islice(some.some(), 1 if some.large else _AGAIN)
                found = found or self._compared(point, free, tried)
        return found

    def points(self) -> Iterator[dict[str, Tensor]]:
        """Values of all sites that draw one: those of the inspection, and of a run without data.

        Call this and :meth:`run` inside the story's room.
        """
        structure = self.assignments.structure
        names = [n for n, s in structure.sample_sites.items() if not s.observed]
        yield {n: structure.sites[n].value for n in names}
        try:
            run: Any = poutine.trace(structure.call).get_trace()
            yield {n: run.nodes[n]["value"] for n in names}
        except Exception:  # an improper prior, or a draw that the story cannot go on with
            return

    def run(self, known: Mapping[str, Tensor], summed: Collection[str] = ()) -> Any:
        """A run of the story at known values, the summed sites enumerated, with the densities that count."""
        structure = self.assignments.structure
        with EnumMessenger(-1 - structure.nesting), self._known(known, summed):
            run: Any = poutine.trace(structure.call).get_trace()
            counted = self._counted(run)
            run.compute_log_prob(lambda name, site: name in counted)
        return run

    def _known(self, known: Mapping[str, Tensor], summed: Collection[str] = ()) -> Known:
        return Known(known, {}, summed, {n: known[n] for n in self.dropped if n in known})

    def _counted(self, run: Any) -> list[str]:
        sites = self.assignments.structure.sites
        shown = {n for n, s in sites.items() if s.kind == "deterministic"}
        return [n for n in sites if n in run.nodes and n not in shown and n not in self.dropped]

    # ---- followed through a run on plain values

    def _followed(self, point: Mapping[str, Tensor], free: Sequence[str]) -> Mixed | None:
        """Follow values through the story, those of every plate's rows apart."""
        some = self.assignments
        plates = dict.fromkeys(p.name for n in free for p in some.site(n).plates if p.size > 1)
        starts = [some.random()] if some.large else [some.random(), some.equal(0), some.equal(-1)]
        for plate in plates:
            for start in starts:
                if (found := self._followed_once(point, plate, free, start)) is not None:
                    return found
        return None

    def _followed_once(
        self, point: Mapping[str, Tensor], plate: str, free: Sequence[str], start: Index
    ) -> Mixed | None:
        call = self.assignments.structure.call
        others = self.assignments.halves(plate, start, free)
        values = self.assignments.values(start)
        pairs = {n: (values[n], both) for n, both in others.items()}
        try:
            with Followed(pairs) as eye, self._known({**point, **values}):
                run: Any = poutine.trace(call).get_trace()
                parts = [part for n in self._counted(run) for part in _parts(run.nodes[n])]
        except Exception:  # a story that fails at these values; other assignments are compared
            return None
        if eye.read:
            how = next(iter(eye.read.values()))
            return Mixed(frozenset(eye.read), f"reads its values in Python ({how})")
        marks = [mark for part in parts if (mark := eye.mark(part)) is not None and mark.mixed]
        if not marks:
            return None
        names = frozenset[str]().union(*(mark.names for mark in marks))
        return Mixed(names, f"mixes its values over the plate {plate!r} ({marks[0].mixed})")

    # ---- compared with runs on plain values

    def _compared(
        self, point: Mapping[str, Tensor], free: Sequence[str], tried: Iterator[Index]
    ) -> Mixed | None:
        """Compare what sites count in the enumerated run, picked at assignments, with plain runs."""
        enumerated: Any = None
        for index in tried:
            values = {**point, **self.assignments.values(index)}
            try:
                plain = self.run(values)
            except Exception:  # a story that fails at these values
                continue
            try:
                if enumerated is None or len(free) < len(self.assignments.names):  # others are held
                    enumerated = self.run(values, free)
                    enumerated.pack_tensors()
                plain.pack_tensors()
            except (RuntimeError, IndexError, ValueError, TypeError, KeyError) as error:
                return Mixed(frozenset(free), "cannot be run with all its values at once", error)
            if self._counted(plain) != self._counted(enumerated):
                return Mixed(frozenset(free), "has other sites where its values are others")
            for name in self._counted(plain):
                if self._differs(name, plain, enumerated, free, index) and self._repeats(name, plain, values):
                    parents = self.assignments.structure.sites[name].parents | {name}
                    how = f"mixes its values: {name!r} has another density where all are known"
                    return Mixed(frozenset(parents & set(free)) or frozenset(free), how)
        return None

    def _repeats(self, name: str, plain: Any, values: Mapping[str, Tensor]) -> bool:
        """Whether a site counts the same again: not where the story draws random numbers of its own."""
        again = self.run(values).nodes[name]["log_prob"]
        return not _apart(again, plain.nodes[name]["log_prob"])

    def _differs(
        self, name: str, plain: Any, enumerated: Any, free: Sequence[str], index: Mapping[str, Tensor]
    ) -> bool:
        """Whether a site counts otherwise in the enumerated run than in the plain one."""
        order = sorted({*plain.plate_to_symbol, *enumerated.plate_to_symbol})
        infer = {n: enumerated.nodes[n]["infer"] for n in free}
        of_symbol = {one["_enumerate_symbol"]: n for n, one in infer.items() if "_enumerate_symbol" in one}
        term = enumerated.nodes[name]["packed"]["log_prob"]
        hidden = [s for s in term._pyro_dims if s in of_symbol]
        places = [self._place(of_symbol[s], index[of_symbol[s]], order) for s in hidden]
        found = _aligned(term, enumerated, order, hidden)
        expected = _aligned(plain.nodes[name]["packed"]["log_prob"], plain, order)
        if found is None or expected is None:
            return True
        grid = torch.meshgrid(*map(torch.arange, found.shape[len(hidden) :]), indexing="ij") if order else ()
        return _apart(found[(*places, *grid)] if hidden else found, expected)

    def _place(self, name: str, index: Tensor, order: Sequence[str]) -> Tensor:
        """A site's positions with one axis for each plate, in order."""
        dims = {p.name: p.dim for p in self.assignments.site(name).plates}
        own = [dims[n] % index.dim() for n in order if n in dims]
        moved = index.permute([*own, *(d for d in range(index.dim()) if d not in own)])
        sizes = iter(moved.shape)
        return moved.reshape([next(sizes) if n in dims else 1 for n in order])


def _parts(node: Any) -> list[Any]:
    """What a site's term is made of: its density, its mask and its scale."""
    return [node["fn"].log_prob(node["value"]), node["mask"], node["scale"]]


def _aligned(term: Any, run: Any, order: Sequence[str], hidden: Sequence[str] = ()) -> Tensor | None:
    """A packed term with enumerated dimensions first, then an axis for each plate, in order.

    An axis is of size one where the term does not lie in the plate. ``None`` where it has further dimensions.
    """
    dims = list(term._pyro_dims)
    own = [n for n in order if run.plate_to_symbol.get(n) in dims]
    axes = [*hidden, *(run.plate_to_symbol[n] for n in own)]
    if len(axes) < len(dims):
        return None
    moved: Tensor = term.permute([dims.index(s) for s in axes])
    sizes = iter(moved.shape[len(hidden) :])
    return moved.reshape([*moved.shape[: len(hidden)], *(next(sizes) if n in own else 1 for n in order)])


def _apart(found: Tensor, expected: Tensor) -> bool:
    """Whether terms differ by more than rounding."""
    tolerance = max(_TOLERANCE.get(t.dtype, _COARSE) for t in (found, expected))
    try:
        near = (found - expected).abs() <= tolerance * (1 + expected.abs())
    except RuntimeError:  # their shapes differ
        return True
    return not bool((near | (found == expected) | (found.isnan() & expected.isnan())).all())
