"""Any rows of a story, each as often as wanted, in one run: the way to many draws without a loop.

Rows of the data plate are independent given what they share. A story of n rows, of which S draws are
wanted, is therefore run once with S n rows, the data repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from inference.story.call import Call
from inference.story.observations import Observation
from inference.story.row_arguments import RowArguments, row_arguments
from inference.story.structure import Plate, Structure

_ELEMENTS = 2**20  # numbers of all sites in one run; a network's layers hold some ten times as many


@dataclass(frozen=True)
class RowStory:
    """A story of rows with what was seen in them, to be run on any selection of the rows.

    Attributes:
        structure: of the story on all rows.
        observations: checked, all of it in the data plate.
        plate: the data plate.
        arguments: which of the story's belong to single rows.
    """

    structure: Structure
    observations: Mapping[str, Observation]
    plate: Plate
    arguments: RowArguments

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.plate.size

    @cached_property
    def chunk(self) -> int:
        """Rows per run, which bounds the memory."""
        numbers = sum(site.value.numel() for site in self.structure.sites.values())
        return max(1, _ELEMENTS * self.rows // max(1, numbers))

    def chunks(self, index: Tensor) -> Iterator[Tensor]:
        """Split a selection of rows into runs."""
        yield from index.split(self.chunk)

    def call(self, index: Tensor) -> Call:
        """What the story is called with for the selected rows."""
        call, device = self.structure.call, self.structure.call.device
        selected = self.arguments.select(self.arguments.counting(call, len(index)), index)
        if device is None:
            return selected
        parts = (selected.args, dict(selected.kwargs))
        args, kwargs = tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, parts)
        return replace(selected, args=args, kwargs=kwargs)

    def axis(self, name: str) -> int | None:
        """Which axis of a site counts the rows; ``None`` for a site outside the data plate."""
        site = self.structure.sites[name]
        own = next((p for p in site.plates if p.name == self.plate.name), None)
        if own is None:
            return None
        if site.kind == "deterministic":  # which of its dimensions are an event's is not known
            return 0 if site.value.dim() > 0 and len(site.value) == self.rows else None
        return len(site.shape) - int(site.fn.event_dim) + own.dim

    def take(self, values: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        """The selected rows of site values, where the story's networks are."""
        taken, device = {}, self.structure.call.device
        for name, value in values.items():
            axis = self.axis(name)
            own = value if axis is None else value.index_select(axis, index.to(value.device))
            taken[name] = own if device is None else own.to(device)
        return taken

    def values(self, index: Tensor) -> dict[str, Tensor]:
        """What was seen in the selected rows, missing elements filled with stand-ins."""
        return self.take({n: e.value for n, e in self.observations.items()}, index)

    def seen(self, index: Tensor) -> dict[str, Tensor]:
        """Masks of the half-seen sites in the selected rows."""
        return self.take({n: e.seen for n, e in self.observations.items() if e.seen is not None}, index)

    def place(self, name: str, value: Tensor) -> Tensor:
        """A value of a site in the site's dtype, where the story's networks are."""
        like = self.structure.sites[name].value
        return value.to(self.structure.call.device or like.device, like.dtype)

    def shape(self, name: str, rows: int) -> list[int]:
        """The shape of a site for another number of rows."""
        shape, axis = list(self.structure.sites[name].shape), self.axis(name)
        return shape if axis is None else [*shape[:axis], rows, *shape[axis + 1 :]]

    def spread(self, name: str, value: Tensor, draws: int) -> Tensor:
        """Give a site's value for draws x rows, drawn in one run, an axis of draws in front."""
        axis = self.axis(name)
        if axis is None:
            return value.expand(draws, *value.shape)
        return value.unflatten(axis, (draws, -1)).movedim(axis, 0)

    def joined(self, name: str, parts: list[Tensor]) -> Tensor:
        """Put the runs of a selection together again."""
        axis = self.axis(name)
        return parts[0] if axis is None else torch.cat(parts, axis)


def row_story_of(structure: Structure, observations: Mapping[str, Observation]) -> RowStory | None:
    """The rows of a story, or ``None`` where they cannot be run one by one.

    They can where all sites that draw a value, or record one, lie in one plate outside all others, nothing
    is observed by the story itself, and the number of rows follows from the arguments.
    """
    sites = structure.sites
    plate = structure.row_plate(structure.sample_sites)
    factors = any(s.kind == "factor" or s.observed for s in sites.values())
    if plate is None or factors or not structure.sample_sites:
        return None
    if any(p.name != plate.name and p.dim < plate.dim for s in sites.values() for p in s.plates):
        return None
    try:
        arguments = row_arguments(structure, observations, plate)
    except ValueError:  # it reads across rows
        return None
    if not arguments.own and not arguments.counted:  # a plate of a fixed size
        return None
    return RowStory(structure, observations, plate, arguments)
