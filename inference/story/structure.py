"""What a story is made of: its sites, plates and dependencies, read off one run.

The story is run once, conditioned on the data, with every value marked by the site it came from.
The marks that arrive in a site's density are the site's parents; everything that the rest of the
package needs to know about a story (which sites are local to a row, which may be summed out, which can
be dropped because nothing depends on them) follows from this graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference.story.call import Call


@dataclass(frozen=True)
class Plate:
    """A plate as a site sees it: its name, its dimension (negative) and its size."""

    name: str
    dim: int
    size: int


@dataclass(frozen=True)
class Site:
    """One site of a story.

    Attributes:
        kind: "sample", "deterministic" or "factor".
        fn: the distribution in the run that was inspected, plates included.
        value: its value in that run.
        plates: outermost (most negative dimension) first.
        parents: names of the sample sites on which its density depends directly.
        observed: whether the story itself observes it (``obs=``) or it is a factor.
    """

    name: str
    kind: str
    fn: Any
    value: Tensor
    plates: tuple[Plate, ...]
    parents: frozenset[str]
    observed: bool

    @property
    def shape(self) -> torch.Size:
        """Batch and event shape together."""
        return self.value.shape

    @property
    def discrete(self) -> bool:
        """Whether the site's values are discrete."""
        return self.kind == "sample" and bool(self.fn.support.is_discrete)

    @property
    def enumerable(self) -> bool:
        """Whether the site can be summed out exactly."""
        return self.discrete and self.fn.has_enumerate_support and self.fn.event_dim == 0

    def within(self, plate: Plate | None) -> bool:
        """Whether the site lies in a plate."""
        return plate is not None and any(p.name == plate.name for p in self.plates)


@dataclass(frozen=True)
class Structure:
    """The sites of a story as it was called, in order, and its parameters' names."""

    call: Call
    sites: Mapping[str, Site]
    params: tuple[str, ...]
    nesting: int

    @property
    def sample_sites(self) -> dict[str, Site]:
        """The sites that draw a value."""
        return {name: s for name, s in self.sites.items() if s.kind == "sample"}

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """All sites on which the named ones depend, themselves included."""
        found: set[str] = set()
        pending = [name for name in names if name in self.sites]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending.extend(p for p in self.sites[name].parents if p in self.sites)
        return found

    def children(self, name: str) -> set[str]:
        """The sites whose density depends directly on the named one."""
        return {n for n, s in self.sites.items() if name in s.parents and n != name}

    def shared_plates(self, names: Iterable[str]) -> list[Plate]:
        """The plates that all the named sites share, outermost first; none without names."""
        shared: list[Plate] | None = None
        for name in names:
            plates = self.sites[name].plates
            own = {p.name for p in plates}
            shared = list(plates) if shared is None else [p for p in shared if p.name in own]
        return shared or []

    def row_plate(self, names: Iterable[str]) -> Plate | None:
        """The data plate: the outermost plate that all the named sites share.

        Rows are the leading axis of data, so among shared plates the outermost one counts them.
        """
        return next(iter(self.shared_plates(names)), None)

    def leaves(self) -> list[str]:
        """Sample sites on which nothing depends: what the story is about when nothing was seen."""
        children = [s for s in self.sites.values() if s.kind != "deterministic"]
        parents = set().union(*(s.parents for s in children)) if children else set()
        return [name for name in self.sample_sites if name not in parents]
