"""Discrete sites whose rows hang together: summed out over all values of all their rows at once.

Where a story mixes the rows of a discrete site (``b - b.mean()``), or uses them outside their plate, it is run
at every assignment of values to rows, and the densities of these runs are added up. That is exact, and costs
as many runs as there are assignments; what would cost too many is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from inference.story.observations import Observation
from inference.story.separable import Look, Mixed, support_of
from inference.story.structure import Structure

MOST = 4096  # assignments that are gone through in one batch of runs
LOOPED = 64  # assignments that are gone through one after another, where a run cannot be batched
_REDUCED = 8  # sites of which each is tried for whether it may be summed out row by row after all


@dataclass(frozen=True)
class Joint:
    """Discrete sites that are summed out jointly, over all assignments of values to their elements.

    Attributes:
        values: site -> (assignments, *site shape). Elements that were seen hold what was seen.
        batched: whether the story runs at many assignments at once, under ``torch.vmap``.
        plates: names of the plates whose rows hang together.
    """

    values: Mapping[str, Tensor]
    batched: bool
    plates: frozenset[str]

    @property
    def count(self) -> int:
        """How many assignments there are."""
        return len(next(iter(self.values.values())))

    def each(self, one: Callable[[Mapping[str, Tensor]], Any]) -> Any:
        """What a function of an assignment returns at every one, stacked: (assignments, ...).

        Args:
            one: site -> value (*site shape), to a tensor or a mapping of tensors.
        """
        if self.batched:
            return torch.vmap(one)(dict(self.values))
        parts = [one({n: v[i] for n, v in self.values.items()}) for i in range(self.count)]
        return tree_map(lambda *leaves: torch.stack(leaves), *parts)

    def hits(self, structure: Structure, name: str) -> Tensor:
        """Which value a site has at every assignment: (assignments, *site shape, values), 0 or 1."""
        return (self.values[name][..., None] == support_of(structure, name)).double()


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
    look = Look(structure, observations, tuple(summed), tuple(dropped))
    outside, names, first = _hanging(look)
    if not names:
        return None
    names = _fewest(look, names, frozenset(outside))
    _require_affordable(look, names, MOST, outside, first)
    values = _assignments(look, names)
    plates = _plates(structure, names)
    if _batches(look, values):
        return Joint(values, True, plates)
    _require_affordable(look, names, LOOPED, outside, first)
    return Joint(values, False, plates)


def told_apart(
    structure: Structure,
    observations: Mapping[str, Observation],
    summed: Collection[str],
    dropped: Collection[str] = (),
) -> bool:
    """Whether discrete sites can be summed out row by row; arguments as in :func:`joint_of`."""
    return not _hanging(Look(structure, observations, tuple(summed), tuple(dropped)))[1]


def _hanging(look: Look) -> tuple[dict[str, str], frozenset[str], Mixed | None]:
    """Sites that reach outside their plates, with what they reach; all whose rows hang together; and why."""
    outside = {n: child for n in look.summed if (child := reaches_outside(look.structure, n)) is not None}
    names, first = frozenset(outside), None
    while names != set(look.summed) and (found := look.mixed(names)) is not None:
        names, first = names | found.names, first or found
    return outside, names, first


def _plates(structure: Structure, names: Collection[str]) -> frozenset[str]:
    return frozenset(p.name for n in names for p in structure.sites[n].plates if p.size > 1)


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
    spare = sorted(names - needed, key=lambda n: -_count(look, [n]))
    for name in spare if 1 < len(names) <= _REDUCED else ():
        if len(names) > 1 and look.mixed(names - {name}) is None:
            names = names - {name}
    return names


def _free(look: Look, name: str) -> Tensor:
    """Which elements of a site have no value given, (elements,)."""
    seen, shape = look.seen(name), look.structure.sites[name].shape
    return torch.ones(shape, dtype=torch.bool).reshape(-1) if seen is None else ~seen.reshape(-1)


def _count(look: Look, names: Collection[str]) -> float:
    """How many assignments of values there are; infinity where that is beyond counting."""
    logs = [int(_free(look, n).sum()) * math.log(len(look.supports[n])) for n in names]
    return round(math.exp(total)) if (total := sum(logs)) < 700 else math.inf


def _assignments(look: Look, names: Collection[str]) -> dict[str, Tensor]:
    """All assignments of values to the elements that are not given: site -> (assignments, *site shape)."""
    own = [n for n in look.summed if n in names]
    free = {n: _free(look, n).nonzero().squeeze(-1) for n in own}
    axes = [torch.arange(len(look.supports[n])) for n in own for _ in free[n]]
    every = torch.cartesian_prod(*axes).reshape(-1, len(axes)) if axes else torch.zeros(1, 0).long()
    values = {}
    for name, index in zip(own, every.split([len(free[n]) for n in own], 1), strict=True):
        site = look.structure.sites[name]
        whole = site.value.reshape(-1) if look.seen(name) is None else look.observations[name].value.reshape(-1)
        whole = whole.expand(len(every), -1).clone()
        whole[:, free[name]] = look.supports[name][index].to(whole.dtype)
        values[name] = whole.reshape(-1, *site.shape)
    return values


def _batches(look: Look, values: Mapping[str, Tensor]) -> bool:
    """Whether the story's density at several assignments comes out of one batched run."""
    some = {n: v[[0, len(v) // 2, -1]] for n, v in values.items()}
    point = next(look.points())
    enumerated = tuple(n for n in look.summed if n not in values)

    def density(assigned: Mapping[str, Tensor]) -> Tensor:
        return look.run({**point, **assigned}, enumerated, packed=False).log_prob_sum()

    with torch.no_grad():
        alone = torch.stack([density({n: v[i] for n, v in some.items()}) for i in range(3)])
        try:
            together = torch.vmap(density)(some)
        except Exception:  # whatever a user's program does that cannot be batched
            return False
    return torch.allclose(alone, together, rtol=1e-6, atol=1e-6, equal_nan=True)


def _require_affordable(
    look: Look, names: frozenset[str], most: int, outside: Mapping[str, str], found: Mixed | None
) -> None:
    """Refuse to sum out jointly what has too many assignments, and say why it would have to be."""
    count = _count(look, names)
    if count <= most:
        return
    name = max(sorted(names), key=lambda n: _count(look, [n]))
    site = look.structure.sites[name]
    plates = [p.name for p in site.plates if p.size > 1]
    where = f" in the plate {' and '.join(map(repr, plates))}" if plates else ""
    if name in outside:
        why = f"{outside[name]!r} depends on it from outside its plate"
    else:
        why = f"the story {found.how if found else 'mixes its values'}"
    runs = "one by one, since they cannot be batched" if most == LOOPED else "in all"
    raise UnaffordableError(
        f"site {name!r}: {why}, so that all its {site.value.numel()} values{where} would have to be summed "
        f"out jointly: {count} assignments, of which {most} are gone through {runs}. Compute what depends on "
        f"{name!r} row by row, in tensor operations (no sums over rows, no Python branches); or draw its "
        f"values one by one (for i in pyro.plate(...)), sum them out in the story, or give {name!r} in data.",
        names,
        _plates(look.structure, names),
    ) from (found.error if found else None)
