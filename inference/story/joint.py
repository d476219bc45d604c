"""Discrete sites whose rows hang together: summed out over all values of all their rows at once.

Where a story mixes the rows of a discrete site (``b - b.mean()``), or uses them outside their plate, it is
run at every assignment of values to rows, and the densities of these runs are added up. That is exact, and
costs as many runs as there are assignments; what would cost too many is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.utils._pytree import tree_map

from inference.story.assignments import Assignments
from inference.story.observations import Observation
from inference.story.separable import Look, Mixed
from inference.story.structure import Structure
from inference.story.support import bounds_of

MOST = 4096  # assignments that are gone through in one batch of runs
LOOPED = 64  # assignments that are gone through one after another, where a run cannot be batched
_NUMBERS = 2**22  # of the largest site, at all assignments together
_REDUCED = 8  # sites of which each is tried for whether it may be summed out row by row after all


@dataclass(frozen=True)
class Joint:
    """Discrete sites that are summed out jointly, over all assignments of values to their elements.

    Attributes:
        values: site -> (assignments, *site shape). Elements that were seen hold what was seen.
        batched: whether the story runs at many assignments at once, under ``torch.vmap``.
        plates: names of the plates whose rows hang together.
        why: what makes them hang together, in words.
    """

    values: Mapping[str, Tensor]
    batched: bool
    plates: frozenset[str]
    why: str

    @property
    def count(self) -> int:
        """How many assignments there are."""
        return len(next(iter(self.values.values())))

    @property
    def first(self) -> dict[str, Tensor]:
        """One of the assignments: site -> value."""
        return {n: v[0] for n, v in self.values.items()}

    def each(self, one: Callable[[Mapping[str, Tensor]], Any]) -> Any:
        """What a function of an assignment returns at every one, stacked: (assignments, ...).

        Args:
            one: site -> value (*site shape), to a tensor or a tree of tensors.
        """
        if self.batched:
            return torch.vmap(one)(dict(self.values))
        parts = [one({n: v[i] for n, v in self.values.items()}) for i in range(self.count)]
        return tree_map(lambda *leaves: torch.stack(leaves), *parts)

    def hits(self, structure: Structure, name: str) -> Tensor:
        """Which value a site has at every assignment: (assignments, *site shape, values), 0 or 1."""
        support = structure.sites[name].fn.enumerate_support(expand=False).reshape(-1)
        return (self.values[name][..., None] == support).double()


class UnaffordableError(ValueError):
    """Discrete sites have too many assignments to be summed out jointly.

    Attributes:
        names: the sites.
        plates: names of the plates whose rows hang together.
    """

    def __init__(self, message: str, names: frozenset[str], plates: frozenset[str]) -> None:
        super().__init__(message)
        self.names, self.plates = names, plates


def joint_of(
    structure: Structure,
    observations: Mapping[str, Observation],
    summed: Collection[str],
    dropped: Collection[str] = (),
) -> Joint | None:
    """The discrete sites that must be summed out jointly; ``None`` where rows can be told apart.

    Args:
        structure: of the story.
        observations: checked data; what was seen of a site stays as it is.
        summed: discrete sites that are to be summed out, all enumerable.
        dropped: sites that do not count.

    Raises:
        UnaffordableError: naming the site, its plate and what to do.
    """
    look = _look(structure, observations, summed, dropped)
    outside, names, first = _hanging(look)
    if not names:
        return None
    names = _fewest(look, names, frozenset(outside))
    name, why = _reason(look, names, outside, first)
    plates = frozenset(p.name for n in names for p in structure.sites[n].plates if p.size > 1)
    count, error = look.assignments.count(names), first.error if first is not None else None
    largest = max(site.value.numel() for site in structure.sites.values())
    if count > min(MOST, _NUMBERS // max(1, largest)):
        raise UnaffordableError(_refusal(look, name, why, count, "too many"), names, plates) from error
    values = look.assignments.every(names)
    _require_one_form(look, values, {n for n, e in observations.items() if e.complete})
    batched = _batches(look, values)
    if not batched and count > LOOPED:
        slow = f"more than the {LOOPED} that are gone through where the story cannot be run on many at once"
        raise UnaffordableError(_refusal(look, name, why, count, slow), names, plates) from error
    return Joint(values, batched, plates, f"site {name!r}: {why}")


def told_apart(
    structure: Structure,
    observations: Mapping[str, Observation],
    summed: Collection[str],
    dropped: Collection[str] = (),
) -> bool:
    """Whether discrete sites can be summed out row by row; arguments as in :func:`joint_of`."""
    return not _hanging(_look(structure, observations, summed, dropped))[1]


def _look(
    structure: Structure,
    observations: Mapping[str, Observation],
    summed: Collection[str],
    dropped: Collection[str],
) -> Look:
    return Look(Assignments(structure, observations, tuple(summed)), frozenset(dropped))


def _hanging(look: Look) -> tuple[dict[str, str], frozenset[str], Mixed | None]:
    """Sites that reach outside their plates, with what they reach; all whose rows hang together; and why."""
    structure, summed = look.assignments.structure, look.assignments.names
    outside = {n: child for n in summed if (child := reaches_outside(structure, n)) is not None}
    names, first = frozenset(outside), None
    while names != set(summed) and (found := look.mixed(names)) is not None:
        names, first = names | found.names, first or found
    return outside, names, first


def reaches_outside(structure: Structure, name: str) -> str | None:
    """A site that depends on the named one without lying in all of its plates, if there is one.

    Pyro's contraction would take the named site for a single one, shared by its whole plate.
    """
    own = {p.name for p in structure.sites[name].plates if p.size > 1}
    for child in sorted(structure.children(name)):
        site = structure.sites[child]
        if site.kind != "deterministic" and not own <= {p.name for p in site.plates}:
            return child
    return None


def _fewest(look: Look, names: frozenset[str], needed: frozenset[str]) -> frozenset[str]:
    """The sites without those that may be summed out row by row once the others are held."""
    spare = sorted(names - needed, key=lambda n: -look.assignments.count([n]))
    for name in spare if len(names) <= _REDUCED else ():
        if len(names) > 1 and look.mixed(names - {name}) is None:
            names = names - {name}
    return names


def _reason(
    look: Look, names: Collection[str], outside: Mapping[str, str], first: Mixed | None
) -> tuple[str, str]:
    """The site with the most assignments, and why its rows hang together."""
    name = max(sorted(names), key=lambda n: look.assignments.count([n]))
    if name in outside:
        return name, f"{outside[name]!r} depends on it from outside its plate"
    return name, f"the story {first.how if first is not None else 'mixes its values'}"


def _refusal(look: Look, name: str, why: str, count: float, limit: str) -> str:
    """What to say where a sum over all assignments would be too long."""
    site = look.assignments.site(name)
    plates = [repr(p.name) for p in site.plates if p.size > 1]
    where = f" in the plate {' and '.join(plates)}" if plates else ""
    return (
        f"site {name!r}: {why}, so that all its {site.value.numel()} values{where} would have to be summed "
        f"out jointly: {count:.3g} assignments, {limit}. Compute what depends on {name!r} row by row, in "
        f"tensor operations (indexing, torch.where; no sums over rows, Python branches or .item()); or draw "
        f"its values one by one (for i in pyro.plate(...)), sum them out in the story, or give {name!r} in "
        f"data."
    )


def _require_one_form(look: Look, values: Mapping[str, Tensor], seen: Collection[str]) -> None:
    """Refuse sites, and ranges of unknowns, that follow what is summed out."""
    structure, names = look.assignments.structure, ", ".join(map(repr, sorted(values)))
    below = set[str]().union(*(structure.children(name) for name in values)) - set(seen)
    ranged = [
        n for n, s in structure.sample_sites.items() if n in below and not s.discrete and not s.observed
    ]
    found: dict[str, list[Tensor]] = {}
    with structure.call.room(0), torch.no_grad():
        point = next(look.points())
        for place in (0, len(next(iter(values.values()))) // 2, -1):
            run = look.run({**point, **{n: v[place] for n, v in values.items()}})
            other = set(structure.sites).symmetric_difference(n for n, m in run.nodes.items() if _draws(m))
            if other:
                raise ValueError(
                    f"site {min(other)!r}: the story has it or not by the values of {names}, which would be "
                    f"summed out; expected the same sites in every run. Give {names} in data."
                )
            for name in ranged:
                own = [torch.as_tensor(b) for b in bounds_of(run.nodes[name]["fn"].support)]
                before = found.setdefault(name, own)
                if any(not torch.equal(b, o) for b, o in zip(before, own, strict=True)):
                    raise ValueError(
                        f"site {name!r}: its support depends on {names}, which would be summed out; expected "
                        f"a support that does not. Give {name!r} a fixed support and scale it in the story, "
                        f"or give one of them in data."
                    )


def _draws(node: Any) -> bool:
    return bool(node["type"] == "sample" and not site_is_subsample(node))


def _batches(look: Look, values: Mapping[str, Tensor]) -> bool:
    """Whether the story's density at several assignments comes out of one batched run."""
    count = len(next(iter(values.values())))
    some = {n: v[[0, count // 2, -1]] for n, v in values.items()}
    enumerated = tuple(n for n in look.assignments.names if n not in values)

    def density(assigned: Mapping[str, Tensor]) -> Tensor:
        run = look.run({**point, **assigned}, enumerated)
        return torch.as_tensor(run.log_prob_sum())

    with look.assignments.structure.call.room(0), torch.no_grad():
        point = next(look.points())
        try:
            alone = torch.stack([density({n: v[i] for n, v in some.items()}) for i in range(3)])
            together = torch.vmap(density)(some)
        except Exception:  # whatever a user's program does that cannot be batched
            return False
    return torch.allclose(alone, together, rtol=1e-6, atol=1e-6, equal_nan=True)
