"""Rows of the data plate, all of them or a batch: what the story is called with, and how it is scaled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.utils._pytree import tree_map

from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import Observation
from inference.story.plan import Plan
from inference.story.row_arguments import RowArguments, row_arguments
from inference.story.structure import Plate, Structure
from inference.svi.loaders import batches


@dataclass(frozen=True)
class Batch:
    """Some rows: the call, the values and masks of the observed sites, and the scale of local sites."""

    call: Call
    values: Mapping[str, Tensor]
    seen: Mapping[str, Tensor]
    stand_in: Mapping[str, Tensor]
    rows: str
    scale: float

    def scaled(self) -> ScaleRows:
        """A messenger that scales the sites in the data plate."""
        return ScaleRows(self.rows, self.scale)

    def replaced(
        self,
        values: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        stand_in: Mapping[str, Tensor],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Batch:
        """A batch of the same shape with other tensors."""
        call = replace(self.call, args=args, kwargs=kwargs)
        return Batch(call, values, seen, stand_in, self.rows, self.scale)

    def to(self, device: torch.device | None) -> Batch:
        """The batch with its tensors on a device; unchanged for ``None``."""
        if device is None:
            return self
        parts = (
            dict(self.values),
            dict(self.seen),
            dict(self.stand_in),
            self.call.args,
            dict(self.call.kwargs),
        )
        return self.replaced(*tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, parts))


class ScaleRows(Messenger):
    """Scale the density of the sites in one plate; the others, global sites above all, stay."""

    def __init__(self, plate: str, scale: float) -> None:
        super().__init__()
        self.plate, self.scale = plate, scale

    def _pyro_sample(self, msg: Any) -> None:
        if any(frame.name == self.plate for frame in msg["cond_indep_stack"]):
            msg["scale"] = msg["scale"] * self.scale


class Rows:
    """The rows of a story's data plate.

    In a batch the argument ``n`` is the batch's row count, data and arguments that belong to single rows
    (:mod:`inference.story.row_arguments`) are sliced, and the sites in the data plate are scaled by rows /
    batch rows, so that the expectation over batches is the full data's.

    Args:
        structure: of the story on all rows.
        observations: checked.
        plan: what becomes of every site.
        batch_size: rows per batch; ``None`` (or no fewer than there are) takes all rows at once.
        loader: makes the batches instead.
        guided: whether a guide of the user's reads the arguments, too.

    Raises:
        ValueError: if the story has no data plate, or one that does not follow its arguments, or reads an
            argument across rows.
    """

    def __init__(
        self,
        structure: Structure,
        observations: Mapping[str, Observation],
        plan: Plan,
        batch_size: int | None,
        loader: Any = None,
        *,
        guided: bool = False,
    ) -> None:
        self.structure, self.observations, self.guided = structure, observations, guided
        observed = [n for n, s in structure.sample_sites.items() if n in observations or s.observed]
        self.plate: Plate | None = structure.row_plate(observed)
        name = self.plate.name if self.plate is not None else ""
        stand_in = {n: structure.sites[n].value for n in plan.dropped}
        values = {n: e.value for n, e in observations.items()}
        self.all = Batch(structure.call, values, plan.seen, stand_in, name, 1.0)
        self.loader, self._sizes, self._calls = loader, list[int](), dict[int, Call]()
        if loader is not None:
            with torch.random.fork_rng(devices=[]):
                first = next(batches(loader))
            batch_size = len(next(iter(first.values())))
        if batch_size is not None and self.plate is None:
            raise ValueError(
                "batch_size: expected a data plate that all observed sites share, got none. Put the rows "
                "in one pyro.plate."
            )
        self.size = batch_size if self.plate is not None and (batch_size or 0) < self.plate.size else None
        if self.size is not None:
            self._require_batches(self.size)

    def epoch(self) -> Iterator[Batch]:
        """Batches in a new order; rows left over wait for the next epoch."""
        if self.loader is not None:
            yield from self._loaded()
        elif self.size is not None and self.plate is not None:
            order = torch.randperm(self.plate.size, device="cpu")
            for index in order.split(self.size)[: self.plate.size // self.size]:
                yield self.take(index)
        else:
            yield self.all

    def epochs(self) -> Batches:
        """Batches without end."""
        return Batches(self)

    @property
    def per_epoch(self) -> int:
        """Steps in which every row is seen about once."""
        return 1 if self.size is None or self.plate is None else max(1, self.plate.size // self.size)

    def _loaded(self) -> Iterator[Batch]:
        """One epoch of the loader, scaled so that the sum over its batches is unbiased for all rows.

        Batches that cover all rows between them count once each, whatever their sizes.
        """
        total = 1 if self.plate is None else self.plate.size
        covers = sum(self._sizes) == total
        sizes: list[int] = []
        for values in batches(self.loader):
            count = len(next(iter(values.values())))
            sizes.append(count)
            # Copies: a guide that writes into its data must not change the loader's rows.
            site = {n: v.to(self.all.values[n], copy=True) for n, v in values.items()}
            call = self.structure.call.replace_rows(count)
            scale = len(self._sizes) if covers else total / count
            yield Batch(call, site, {}, self._stand_ins(count), self.all.rows, float(scale))
        self._sizes = sizes

    def _stand_ins(self, count: int) -> dict[str, Tensor]:
        index, sites = torch.arange(count, device="cpu"), self.structure.sites
        if self.plate is None:
            return dict(self.all.stand_in)
        return {n: _rows_of(v, sites[n], self.plate, index) for n, v in self.all.stand_in.items()}

    def take(self, index: Tensor) -> Batch:
        """The batch of the given rows."""
        if self.plate is None:
            return self.all
        full, rows = self.all, self.plate
        return Batch(
            self._call(index), self._cut(full.values, index), self._cut(full.seen, index),
            self._cut(full.stand_in, index), full.rows, rows.size / len(index),
        )  # fmt: skip

    def _cut(self, values: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        if not values or self.plate is None:
            return {}
        return {n: _rows_of(v, self.structure.sites[n], self.plate, index) for n, v in values.items()}

    @cached_property
    def _arguments(self) -> RowArguments:
        """Which arguments go along with the rows."""
        if self.plate is None:
            return RowArguments(0, frozenset(), counted=False)
        found = row_arguments(self.structure, self.observations, self.plate)
        if self.guided and found.untold:
            name = found.untold[0]
            raise ValueError(
                f"{name}: it has as many entries as there are rows, and no bearing on the story, so that "
                f"nothing tells whether the guide, which may read it, gets those of a batch's rows or all of "
                f"them. Give what all rows share a leading axis of 1 ({name}[None]), or leave it out."
            )
        return found

    def _call(self, index: Tensor) -> Call:
        count = len(index)
        if count not in self._calls:
            self._calls[count] = self._arguments.counting(self.structure.call, count)
        return self._arguments.select(self._calls[count], index)

    def _require_batches(self, size: int) -> None:
        if self.loader is not None and not self.structure.call.takes_rows:
            raise ValueError(
                "data: from a loader the story gets the batch's row count, expected an argument n, got none. "
                "Make covariates sites of the story, or give the data as a mapping with batch_size=..."
            )
        if self.loader is not None and self._arguments.own:
            raise ValueError(
                "data: from a loader the story gets the rows of a batch's data only, and one of its "
                "arguments has an entry for each row, too. Make it a site of the story, or give the data as "
                "a mapping with batch_size=..."
            )
        batch = self.take(torch.arange(size))
        structure, _ = inspect_story(batch.call)
        found = {p.size for s in structure.sites.values() for p in s.plates if p.name == batch.rows}
        if found != {size}:
            raise ValueError(
                f"batch_size: called with the arguments of {size} rows, the story's plate {batch.rows!r} "
                f"has size {sorted(found)}. The number of rows must come from an argument n, or from a "
                f"tensor argument with one leading entry per row."
            )


class Batches:
    """Batches without end, epoch after epoch; they know their place, and can go to it again."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._began, self._given = torch.random.get_rng_state(), 0
        self._epoch: Iterator[Batch] = iter(())

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        batch = next(self._epoch, None)
        while batch is None:
            self._began, self._given, self._epoch = torch.random.get_rng_state(), 0, self.rows.epoch()
            batch = next(self._epoch, None)
        self._given += 1
        return batch

    def place(self) -> tuple[Tensor, int]:
        """The random state at which the epoch began, and how many batches it has given."""
        return self._began, self._given

    def go_to(self, began: Tensor, given: int) -> None:
        """Begin that epoch again and leave out what it has given; the random state is then the epoch's."""
        torch.random.set_rng_state(began)
        self._began, self._given, self._epoch = began, given, self.rows.epoch()
        for _ in range(given):
            next(self._epoch)


def _rows_of(value: Tensor, site: Any, rows: Plate, index: Tensor) -> Tensor:
    own = next((p for p in site.plates if p.name == rows.name), None)
    if own is None:
        return value
    axis = value.dim() - site.fn.event_dim + own.dim
    return value.index_select(axis, index)
