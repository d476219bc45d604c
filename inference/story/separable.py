"""Whether discrete sites can be summed out row by row: does the story mix the values of their rows?

Under enumeration a discrete site holds all its values in a dimension to the left, and its rows are told apart
by where they stand. What the story computes from it must then be computed row by row: ``b - b.mean()`` would
mix the values of one row instead of those of all rows, and a branch on ``b.sum() > 1`` would be taken once for
all values. Nothing in such a run fails, so that it is looked for, in two ways. The story is run on plain
values under an eye that follows them through every operation (:mod:`inference.story.followed`). And what every
site counts in the enumerated run, picked at some assignment of values, is compared with a plain run at this
assignment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from inference.story.followed import Followed
from inference.story.handlers import Known
from inference.story.observations import Observation
from inference.story.structure import Structure

_MANY = 20  # sites; of more, fewer assignments are compared
_EXHAUSTIVE = 16  # assignments that are all compared
_FAR = {torch.float32: 1e-3}  # relative difference of terms beyond rounding
_NEAR = 1e-7


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


@dataclass
class Look:
    """A story, what is known of it, and the discrete sites that are to be summed out.

    Attributes:
        observations: checked data; of half-seen sites among the summed ones only what is missing varies.
        summed: the discrete sites.
        dropped: sites that do not count.
        supports: site -> its values, (values,).
    """

    structure: Structure
    observations: Mapping[str, Observation]
    summed: tuple[str, ...]
    dropped: Collection[str]
    supports: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.summed:
            self.supports[name] = support_of(self.structure, name)
        self.generator = torch.Generator().manual_seed(0)

    def mixed(self, held: Collection[str] = ()) -> Mixed | None:
        """The sites that cannot be summed out row by row, with some held; ``None`` if all others can."""
        points = list(self.points())
        with torch.no_grad():
            found = self._followed(points[0], held)
            for point in points:
                found = found or self._compared(point, held)
        return found

    # ---- values

    def points(self) -> Iterator[dict[str, Tensor]]:
        """Values of all sites that draw one: those of the inspection, and of a run without data."""
        sites = self.structure.sample_sites
        yield {n: s.value for n, s in sites.items() if not s.observed}
        try:
            with self.structure.call.room(1), torch.no_grad():
                run: Any = poutine.trace(self.structure.call).get_trace()
        except Exception:  # an improper prior, or a draw that the story cannot go on with
            return
        if all(run.nodes.get(n, {}).get("value") is not None for n in sites):
            yield {n: run.nodes[n]["value"] for n, s in sites.items() if not s.observed}

    def seen(self, name: str) -> Tensor | None:
        one = self.observations.get(name)
        return None if one is None else one.seen

    def _values(self, index: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: self.supports[n][i].to(self.structure.sites[n].value.dtype) for n, i in index.items()}

    def _with_seen(self, index: dict[str, Tensor]) -> dict[str, Tensor]:
        """An assignment with the elements that were seen at what was seen."""
        for name, one in index.items():
            seen = self.seen(name)
            if seen is not None:
                own = self.observations[name].value[..., None] == self.supports[name]
                index[name] = torch.where(seen, own.to(torch.int8).argmax(-1), one)
        return index

    def _equal(self, position: int) -> dict[str, Tensor]:
        """All elements of every site at its value of some position, as far as it has as many."""
        return {
            n: torch.full(self.structure.sites[n].shape, position % len(v)) for n, v in self.supports.items()
        }

    def _random(self) -> dict[str, Tensor]:
        return {
            n: torch.randint(len(v), self.structure.sites[n].shape, generator=self.generator)
            for n, v in self.supports.items()
        }

    def _mostly(self, share: float) -> dict[str, Tensor]:
        """A share of the elements of every site at its last value, the others at its first."""
        last = self._equal(-1)
        return {
            n: torch.where(torch.rand(i.shape, generator=self.generator) < share, i, 0)
            for n, i in last.items()
        }

    def _assignments(self) -> Iterator[dict[str, Tensor]]:
        """Positions in the supports, element by element: extremes, where thresholds are crossed, and others."""
        count = 1
        for name, support in self.supports.items():
            count *= len(support) ** min(self.structure.sites[name].value.numel(), _EXHAUSTIVE)
            if count > _EXHAUSTIVE:
                break
        if count <= _EXHAUSTIVE:
            yield from self._every()
            return
        several = len(self.supports) <= _MANY
        most = max(len(v) for v in self.supports.values())
        chosen = [self._equal(0), self._equal(-1), self._random(), self._mostly(0.5)]
        if several:
            chosen += [self._equal(k) for k in range(1, min(most - 1, 4))]
            chosen += [self._mostly(share) for share in (0.1, 0.9)] + [self._random(), self._random()]
        yield from map(self._with_seen, chosen)

    def _every(self) -> Iterator[dict[str, Tensor]]:
        axes = [torch.arange(len(v)) for n, v in self.supports.items() for _ in range(self._numel(n))]
        for row in torch.cartesian_prod(*axes).reshape(-1, len(axes)):
            parts = row.split([self._numel(n) for n in self.supports])
            index = {
                n: p.reshape(self.structure.sites[n].shape) for n, p in zip(self.supports, parts, strict=True)
            }
            yield self._with_seen(index)

    def _numel(self, name: str) -> int:
        return int(self.structure.sites[name].value.numel())

    # ---- runs

    def run(
        self, known: Mapping[str, Tensor], summed: Collection[str] = (), *, packed: bool = True
    ) -> Any:
        """A run of the story at known values, the summed sites enumerated; without densities."""
        stand_in = {n: known[n] for n in self.dropped if n in known}
        with (
            self.structure.call.room(0),
            EnumMessenger(-1 - self.structure.nesting),
            Known(known, {}, summed, stand_in),
        ):
            run: Any = poutine.trace(self.structure.call).get_trace()
            counted = self._counted(run)
            run.compute_log_prob(lambda name, site: name in counted)
            if packed:
                run.pack_tensors()
        return run

    def _counted(self, run: Any) -> set[str]:
        return {
            n
            for n, s in self.structure.sites.items()
            if s.kind != "deterministic" and n not in self.dropped and n in run.nodes
        }

    # ---- what is followed

    def _followed(self, point: Mapping[str, Tensor], held: Collection[str]) -> Mixed | None:
        """Follow plain values through the story, for every plate in which they lie."""
        free = [n for n in self.summed if n not in held]
        plates = {p.name: p for n in free for p in self.structure.sites[n].plates if p.size > 1}
        starts = [self._equal(0), self._equal(-1), self._random()]
        for name in plates:
            for start in starts if len(self.summed) <= _MANY else starts[-1:]:
                found = self._followed_once(point, name, free, self._with_seen(start))
                if found is not None:
                    return found
        return None

    def _followed_once(
        self, point: Mapping[str, Tensor], plate: str, free: Sequence[str], start: dict[str, Tensor]
    ) -> Mixed | None:
        pairs = self._halves(plate, free, start)
        followed = {n: v for n, v in self._values(start).items() if n in pairs}
        others = {n: (followed[n], pairs[n]) for n in pairs}
        known = {**point, **self._values(start), **followed}
        stand_in = {n: known[n] for n in self.dropped if n in known}
        try:
            with self.structure.call.room(0), Followed(others) as eye, Known(known, {}, (), stand_in):
                run: Any = poutine.trace(self.structure.call).get_trace()
                parts = [
                    (n, part)
                    for n in self._counted(run)
                    for part in _density_parts(run.nodes[n])
                ]  # fmt: skip
        except Exception:  # a story that fails at these values: the comparison looks at others
            return None
        if eye.read:
            name, how = next(iter(eye.read.items()))
            return Mixed(frozenset(eye.read), f"reads its values in Python ({how})")
        marks = [mark for _, part in parts if (mark := eye.mark(part)) is not None and mark.mixed]
        if not marks:
            return None
        names = frozenset().union(*(mark.names for mark in marks))
        return Mixed(frozenset(names), f"mixes its values over the plate {plate!r} ({marks[0].mixed})")

    def _halves(self, plate: str, free: Sequence[str], start: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Two other sets of values of the sites in a plate: half of its rows changed, and the other half."""
        own = [n for n in free if self.structure.sites[n].within(self._plate(plate))]
        rows = torch.randperm(self._plate(plate).size, generator=self.generator)
        open_rows = self._open_rows(own, plate)
        rows = torch.cat([rows[open_rows[rows]], rows[~open_rows[rows]]])
        first = torch.zeros(len(rows), dtype=torch.bool)
        first[rows[::2]] = True
        found = {}
        for name in own:
            size, at = len(self.supports[name]), start[name]
            if size < 2:
                continue
            step = torch.randint(1, size, at.shape, generator=self.generator)
            shape = [1] * at.dim()
            shape[self._axis(name, plate)] = len(rows)
            half = first.reshape(shape)
            moved = self._with_seen({name: (at + step) % size})[name]
            pair = torch.where(half, moved, at), torch.where(half, at, moved)
            one, two = (self._values({name: index})[name] for index in pair)
            found[name] = one, two
        return found

    def _plate(self, name: str) -> Any:
        return next(p for s in self.structure.sites.values() for p in s.plates if p.name == name)

    def _axis(self, name: str, plate: str) -> int:
        """The axis (negative) of a plate in a discrete site's values."""
        return int(next(p.dim for p in self.structure.sites[name].plates if p.name == plate))

    def _open_rows(self, names: Sequence[str], plate: str) -> Tensor:
        """Which rows of a plate hold elements that were not seen."""
        found = torch.zeros(self._plate(plate).size, dtype=torch.bool)
        for name in names:
            seen = self.seen(name)
            if seen is None:
                return torch.ones_like(found)
            axis = self._axis(name, plate)
            found |= (~seen).movedim(axis, 0).flatten(1).any(1) if seen.dim() > 1 else ~seen
        return found

    # ---- what is compared

    def _compared(self, point: Mapping[str, Tensor], held: Collection[str]) -> Mixed | None:
        """Compare enumerated terms, picked at assignments, with plain runs there."""
        summed = tuple(n for n in self.summed if n not in held)
        shared: Any = None
        for index in self._assignments():
            values = {**point, **self._values(index)}
            plain = self.run(values)
            try:
                if shared is None or held:
                    shared = self.run(values, summed)
            except (RuntimeError, IndexError, ValueError, TypeError) as error:
                return Mixed(frozenset(summed), "cannot be run with all its values at once", error)
            differing = [n for n in self._counted(plain) if self._differs(plain, shared, n, summed, index)]
            if differing and not self._random_story(values, plain, differing):
                near = self.structure.sites
                names = {p for n in differing for p in {*near[n].parents, n} if p in summed}
                return Mixed(frozenset(names or summed), "mixes its values (a run at some of them differs)")
        return None

    def _random_story(self, values: Mapping[str, Tensor], plain: Any, names: Sequence[str]) -> bool:
        """Whether the story draws random numbers of its own, so that no two runs can be compared."""
        with self.structure.call.room(7):
            again = poutine.trace(Conditioned(self.structure.call, values)).get_trace()
            again.compute_log_prob(lambda name, site: name in names)
        return any(
            not torch.equal(again.nodes[n]["log_prob"].nan_to_num(), plain.nodes[n]["log_prob"].nan_to_num())
            for n in names
        )

    def _differs(
        self, plain: Any, shared: Any, name: str, summed: Sequence[str], index: Mapping[str, Tensor]
    ) -> bool:
        """Whether a site counts otherwise in the enumerated run than in the plain one."""
        order = sorted(set(plain.plate_to_symbol) | set(shared.plate_to_symbol))
        expected = _aligned(plain.nodes[name]["packed"]["log_prob"], plain, order)
        term = shared.nodes[name]["packed"]["log_prob"]
        symbols = {
            shared.nodes[n]["infer"]["_enumerate_symbol"]: n
            for n in summed
            if "_enumerate_symbol" in shared.nodes[n]["infer"]
        }
        dims = [s for s in term._pyro_dims if s in symbols]
        rest = [s for s in term._pyro_dims if s not in symbols]
        value = term.permute([term._pyro_dims.index(s) for s in [*dims, *rest]])
        places = [self._place(symbols[s], index[symbols[s]], order) for s in dims]
        found = _picked(value, rest, places, shared, order)
        if found is None:
            return True
        try:
            found, expected = torch.broadcast_tensors(found, expected)
        except RuntimeError:
            return True
        return _apart(found, expected)

    def _place(self, name: str, index: Tensor, order: Sequence[str]) -> Tensor:
        """A site's positions with one axis for each plate, in order."""
        plates = {p.name: p.dim for p in self.structure.sites[name].plates}
        own = [n for n in order if n in plates]
        moved = index.permute([plates[n] % index.dim() for n in own] + _rest(index, plates)) if own else index
        shape = iter(moved.shape)
        return moved.reshape([next(shape) if n in plates else 1 for n in order])


class Conditioned:
    """A story with all values known."""

    def __init__(self, call: Any, values: Mapping[str, Tensor]) -> None:
        self.call, self.values = call, values

    def __call__(self) -> Any:
        """Run it."""
        with Known(self.values):
            return self.call()


def support_of(structure: Structure, name: str) -> Tensor:
    """The values of a discrete site, (values,)."""
    values: Tensor = structure.sites[name].fn.enumerate_support(expand=False).reshape(-1)
    return values


def _rest(index: Tensor, plates: Mapping[str, int]) -> list[int]:
    used = {d % index.dim() for d in plates.values()}
    return [d for d in range(index.dim()) if d not in used]


def _density_parts(node: Any) -> list[Any]:
    """What a site's term is made of: its density, its mask and its scale."""
    return [node["fn"].log_prob(node["value"]), node["mask"], node["scale"]]


def _aligned(term: Any, run: Any, order: Sequence[str]) -> Tensor:
    """A packed term with one axis for each plate, in order; of size one where it is not in the plate."""
    dims = term._pyro_dims
    own = [n for n in order if run.plate_to_symbol.get(n) in dims]
    moved: Tensor = term.permute([dims.index(run.plate_to_symbol[n]) for n in own])
    shape = iter(moved.shape)
    return moved.reshape([next(shape) if n in own else 1 for n in order])


def _picked(
    value: Tensor, rest: Sequence[str], places: Sequence[Tensor], run: Any, order: Sequence[str]
) -> Tensor | None:
    """An enumerated term, enumerated dimensions first, at the positions that an assignment has in each row."""
    count = len(places)
    own = [n for n in order if run.plate_to_symbol.get(n) in rest]
    if len(own) < len(rest):
        return None
    value = value.permute([*range(count), *(count + rest.index(run.plate_to_symbol[n]) for n in own)])
    shape = iter(value.shape[count:])
    value = value.reshape([*value.shape[:count], *(next(shape) if n in own else 1 for n in order)])
    sizes = value.shape[count:]
    grid = []
    for axis, size in enumerate(sizes):
        shape_of = [1] * len(sizes)
        shape_of[axis] = size
        grid.append(torch.arange(size).reshape(shape_of))
    return value[(*places, *grid)] if places or grid else value


def _apart(found: Tensor, expected: Tensor) -> bool:
    """Whether terms differ by more than rounding."""
    tolerance = max(_FAR.get(t.dtype, _NEAR) for t in (found, expected))
    near = (found - expected).abs() <= tolerance * (1 + expected.abs())
    return not bool((near | (found == expected) | (found.isnan() & expected.isnan())).all())
