"""Assignments of values to the elements of discrete sites: all of them, or some that tell much."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from inference.story.observations import Observation
from inference.story.structure import Site, Structure

_ALL = 16  # assignments that are all looked at
_MANY = 20  # sites; of more, fewer assignments are looked at
_NUMBERS = 2**15  # of the largest site; of more, too

Index = dict[str, Tensor]  # site -> positions in its support, in its shape


class Assignments:
    """Values that discrete sites may take together.

    An assignment is a mapping of sites to positions in their supports, in the sites' shapes. Elements that
    were seen are at what was seen.

    Args:
        structure: of the story.
        observations: checked data.
        names: the discrete sites, all enumerable, latent or half-seen.
    """

    def __init__(
        self, structure: Structure, observations: Mapping[str, Observation], names: Sequence[str]
    ) -> None:
        self.structure, self.names = structure, tuple(names)
        self.given = {n: observations[n] for n in names if n in observations}
        self.generator = torch.Generator().manual_seed(0)

    def site(self, name: str) -> Site:
        """The site."""
        return self.structure.sites[name]

    @cached_property
    def supports(self) -> dict[str, Tensor]:
        """Site -> its values, (values,)."""
        return {n: self.site(n).fn.enumerate_support(expand=False).reshape(-1) for n in self.names}

    @cached_property
    def large(self) -> bool:
        """Whether a run of the story takes long, so that it is run at fewer assignments."""
        most = max(site.value.numel() for site in self.structure.sites.values())
        return len(self.names) > _MANY or most > _NUMBERS

    def seen(self, name: str) -> Tensor | None:
        """Which elements of a site were seen; ``None`` where none was."""
        one = self.given.get(name)
        return None if one is None else one.seen

    def free(self, name: str) -> Tensor:
        """Positions (flat) of the elements whose value is not given."""
        seen = self.seen(name)
        return (
            torch.arange(self.site(name).value.numel())
            if seen is None
            else (~seen.reshape(-1)).nonzero()[:, 0]
        )

    def count(self, names: Collection[str]) -> float:
        """How many assignments of some sites there are; infinity where that is beyond counting."""
        size = sum(len(self.free(n)) * math.log(len(self.supports[n])) for n in names)
        return round(math.exp(size)) if size < 700 else math.inf

    def values(self, index: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values at positions in the supports, in the sites' dtypes."""
        return {n: self.supports[n][i].to(self.site(n).value.dtype) for n, i in index.items()}

    def every(self, names: Collection[str]) -> dict[str, Tensor]:
        """The values of some sites at all of their assignments: site -> (assignments, *site shape).

        Example:
            >>> import pyro, pyro.distributions as dist
            >>> from inference.story.call import Call
            >>> from inference.story.inspection import inspect_story
            >>> def coins():
            ...     with pyro.plate("toss", 2):
            ...         pyro.sample("heads", dist.Bernoulli(0.5))
            >>> structure, _ = inspect_story(Call.bind(coins))
            >>> Assignments(structure, {}, ["heads"]).every(["heads"])["heads"].tolist()
            [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
        """
        own = [n for n in self.names if n in names]
        axes = [torch.arange(len(self.supports[n])) for n in own for _ in self.free(n)]
        table = torch.cartesian_prod(*axes).reshape(-1, len(axes)) if axes else torch.zeros(1, 0).long()
        found: Index = {}
        for name, part in zip(own, table.split([len(self.free(n)) for n in own], 1), strict=True):
            whole = torch.zeros(len(table), self.site(name).value.numel(), dtype=torch.long)
            whole[:, self.free(name)] = part
            found[name] = self._with_seen(name, whole.reshape(-1, *self.site(name).shape))
        return self.values(found)

    def some(self) -> Iterator[Index]:
        """Assignments at which what mixes elements shows: all of few, else random ones and extremes.

        A threshold on a sum, a share, a maximum is crossed between the extremes, wherever it lies.
        """
        if self.count(self.names) <= _ALL:
            yield from self._few()
            return
        yield from (self.random(), self._mostly(0.5))
        if not self.large:
            yield from (self.equal(0), self.equal(-1), self.random())

    def _few(self) -> Iterator[Index]:
        places = [(n, int(i)) for n in self.names for i in self.free(n)]
        for chosen in itertools.product(*(range(len(self.supports[n])) for n, _ in places)):
            index = self.equal(0)
            for (name, place), position in zip(places, chosen, strict=True):
                index[name].view(-1)[place] = position
            yield index

    def equal(self, position: int) -> Index:
        """All elements of every site at one position; of sites with fewer values, counted round."""
        full = {n: torch.full(self.site(n).shape, position % len(v)) for n, v in self.supports.items()}
        return {n: self._with_seen(n, i) for n, i in full.items()}

    def random(self) -> Index:
        """Every element at a random position."""
        return {
            n: self._with_seen(n, torch.randint(len(v), self.site(n).shape, generator=self.generator))
            for n, v in self.supports.items()
        }

    def _mostly(self, share: float) -> Index:
        """A share of the elements of every site at its last value, the others at its first."""
        last = {n: torch.rand(self.site(n).shape, generator=self.generator) < share for n in self.names}
        return {n: self._with_seen(n, chosen * (len(self.supports[n]) - 1)) for n, chosen in last.items()}

    def halves(self, plate: str, start: Index, names: Collection[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Two other values of some sites: half of a plate's rows changed, and the other half.

        Args:
            plate: name of the plate; sites outside it are left out.
            start: the assignment that is changed.
            names: the sites.

        Returns:
            Site -> two tensors of values, in its shape.
        """
        own = [n for n in names if any(p.name == plate for p in self.site(n).plates)]
        own = [n for n in own if len(self.supports[n]) > 1]
        half = self._half(plate, own)
        found = {}
        for name in own:
            size, at = len(self.supports[name]), start[name]
            step = torch.randint(1, size, at.shape, generator=self.generator)
            moved = self._with_seen(name, (at + step) % size)
            rows = half.reshape([-1 if d == self._axis(name, plate) else 1 for d in range(-at.dim(), 0)])
            one, two = torch.where(rows, moved, at), torch.where(rows, at, moved)
            found[name] = self.values({name: one})[name], self.values({name: two})[name]
        return found

    def _half(self, plate: str, names: Sequence[str]) -> Tensor:
        """Half of a plate's rows; also half of those with elements that were not seen."""
        size = next(p.size for s in self.structure.sites.values() for p in s.plates if p.name == plate)
        free = torch.zeros(size, dtype=torch.bool)
        for name in names:
            seen = self.seen(name)
            seen = torch.zeros(self.site(name).shape, dtype=torch.bool) if seen is None else seen
            free |= (~seen).movedim(self._axis(name, plate), 0).reshape(size, -1).any(1)
        order = torch.randperm(size, generator=self.generator)
        order = torch.cat([order[free[order]], order[~free[order]]])
        half = torch.zeros(size, dtype=torch.bool)
        half[order[::2]] = True
        return half

    def _axis(self, name: str, plate: str) -> int:
        """The axis (negative) of a plate in the values of a site."""
        return next(p.dim for p in self.site(name).plates if p.name == plate)

    def _with_seen(self, name: str, index: Tensor) -> Tensor:
        seen = self.seen(name)
        if seen is None:
            return index
        own = (self.given[name].value[..., None] == self.supports[name]).to(torch.int8).argmax(-1)
        return torch.where(seen, own, index)
