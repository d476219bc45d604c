"""Importance weights row by row, with a guide that reads the rows as the proposal.

A guide that computes its sites from the rows (``data=``) proposes values for rows it was never fitted
to. Of every row S values are drawn, the story is run once with S times the rows, and the log weights
log p(row, z) - log q(z | row) answer questions about that row: the log of their mean is log p(row), in
expectation from below (Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders").

Discrete sites that the guide was trained to read, or draws itself, are conditioned on each of their
values in turn; others are summed out within the run. Where elements of a site are missing that the guide
reads, they are first drawn in turns with the latent sites (Rezende, Mohamed and Wierstra 2014,
"Stochastic backpropagation", appendix F), and the proposal is the mixture of the guides for all
fillings: the weights stay exact, whatever the fillings (Cappe, Guillin, Marin and Robert 2004,
"Population Monte Carlo").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from inference.answers.row_story import RowStory
from inference.density.enumeration import row_log_prob
from inference.story.handlers import Known
from inference.story.plan import enumerating
from inference.story.programs import Baked, with_data
from inference.story.structure import Plate

ROW_DRAWS = 256  # of every row
_FROM_PRIOR = 1000  # of every row, where there is no guide
_PER_VALUE = 64  # of every row and value, where discrete sites are conditioned on value by value
_FILLINGS = 32  # of every row with missing elements; the guide is evaluated for each draw and filling
_SWEEPS = 10  # of drawing missing elements and latent sites in turns
_COMBINATIONS = 1000  # of values of discrete sites, at most

Assumed = Mapping[str, Tensor]
Runs = tuple[Tensor, dict[str, Tensor]]  # one number per row, and site values


@dataclass(frozen=True)
class WeighedRows:
    """Draws of every row and their log weights, for every combination of assumed values.

    Attributes:
        log_w: (combinations, draws, rows, *other plates), in nats.
        values: site -> one (draws, *site shape) per combination; the proposed sites.
        combinations: what was assumed.
    """

    log_w: Tensor
    values: Mapping[str, list[Tensor]]
    combinations: list[Assumed]

    def log_mean(self) -> tuple[Tensor, Tensor]:
        """Log of the mean weight of each row, combinations summed, and its standard error, in nats."""
        each, error = log_mean(self.log_w, 1)
        total = each.logsumexp(0)
        share = torch.nan_to_num((each - total).exp())
        return total, (share * error).square().sum(0).sqrt()


@dataclass(frozen=True)
class RowProposal:
    """Which sites of some rows are drawn, assumed and summed out, and by what.

    Attributes:
        row_story: the story on the rows, with what was seen.
        guide: a program with its parameters; ``None`` proposes from the story itself.
        proposed: continuous local sites that are drawn.
        assumed: discrete local sites that are conditioned on value by value.
        summed: discrete local sites that are summed out within a run.
        dropped: sites that do not matter.
        read: sites that the guide reads; those that are not given are filled in.
        plates: which the answer keeps, the data plate first.
        masked: sites of which the guide knows that elements may be missing, and which (``seen=``).
    """

    row_story: RowStory
    guide: Baked | None
    proposed: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    summed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    plates: tuple[Plate, ...] = ()
    masked: tuple[str, ...] = ()

    @property
    def draws(self) -> int:
        """Draws of every row, by default."""
        if not self.proposed:
            return 1
        if self.guide is None:
            return _FROM_PRIOR
        return _FILLINGS if self.filled else _PER_VALUE if self.assumed else ROW_DRAWS

    @property
    def filled(self) -> tuple[str, ...]:
        """Sites with missing elements that the guide reads."""
        if self.guide is None or not self.proposed:
            return ()
        half = {
            n for n, e in self.row_story.observations.items() if e.seen is not None and n not in self.masked
        }
        missing = {n for n in self.read if n not in self.row_story.observations}
        return tuple(n for n in self.read if n in half | missing and n not in {*self.assumed, *self.summed})

    def combinations(self) -> list[Assumed]:
        """All combinations of values of the assumed sites.

        Raises:
            ValueError: if there are more than 1,000.
        """
        sites = self.row_story.structure.sites
        supports = [sites[n].fn.enumerate_support(expand=False).reshape(-1) for n in self.assumed]
        count = math.prod(len(s) for s in supports)
        if count > _COMBINATIONS:
            raise ValueError(
                f"given: {', '.join(self.assumed)} have {count} combinations of values, expected at most "
                f"{_COMBINATIONS}. Give some of them."
            )
        return [dict(zip(self.assumed, values, strict=True)) for values in product(*supports)]

    def weigh(self, rows: Tensor, draws: int) -> WeighedRows:
        """Draw and weigh ``draws`` values of every given row; call inside the story's room."""
        row_story, index = self.row_story, rows.repeat(draws)
        log_w, combinations = [], self.combinations()
        values: dict[str, list[Tensor]] = {n: [] for n in self.proposed}
        for assumed in combinations:
            mixed = bool(self.filled)
            part, drawn = self._mixed(rows, draws, assumed) if mixed else self._plain(index, assumed)
            log_w.append(part.unflatten(0, (draws, len(rows))))
            for name in self.proposed:
                values[name].append(row_story.spread(name, drawn[name], draws))
        return WeighedRows(torch.stack(log_w), values, combinations)

    def propose(self, draws: int) -> dict[str, Tensor]:
        """Draw the proposed sites of all rows, without weights: site -> (draws, rows, ...)."""
        row_story = self.row_story

        def draw(part: Tensor) -> Runs:
            return part, self._propose(part, {}, row_story.values(part))[0]

        _, drawn = self._over(torch.arange(row_story.rows).repeat(draws), draw)
        spread = {n: row_story.spread(n, v, draws) for n, v in drawn.items()}
        return {n: v.movedim((row_story.axis(n) or 0) + 1, 1) for n, v in spread.items()}

    def _plain(self, index: Tensor, assumed: Assumed) -> Runs:
        def one(part: Tensor) -> Runs:
            values = self.row_story.values(part)
            drawn, run = self._propose(part, assumed, values)
            log_p = self.log_joint(part, assumed, drawn)
            return log_p if run is None else log_p - self._log_q(run, len(part)), drawn

        return self._over(index, one)

    def _over(self, index: Tensor, one: Callable[[Tensor], Runs]) -> Runs:
        """Run a function of a selection chunk by chunk."""
        results = [one(part) for part in self.row_story.chunks(index)]
        names = results[0][1]
        values = {n: self.row_story.joined(n, [v[n] for _, v in results]) for n in names}
        return torch.cat([log for log, _ in results]), values

    def log_joint(self, index: Tensor, assumed: Assumed, values: Mapping[str, Tensor]) -> Tensor:
        """Log density of what was seen (and of the drawn sites, if a guide drew them), row by row."""
        proposed = set() if self.guide is None else set(self.proposed)
        counted = {*self.row_story.observations, *self.assumed, *self.summed, *proposed}
        run, impossible = self.run_story(index, assumed, values)
        log_p = row_log_prob(run, counted, self.sized(len(index)))
        ruled_out = impossible.reshape(-1, *[1] * (log_p.dim() - 1))
        return torch.where(ruled_out, -torch.inf, log_p)

    def run_story(self, index: Tensor, assumed: Assumed, values: Mapping[str, Tensor]) -> tuple[Any, Tensor]:
        """A run of the story on the selected rows, all sites known or summed out.

        Returns:
            The trace, and the rows that contradict what is assumed.
        """
        known, seen, impossible = self._conditioned(index, assumed)
        stand_in = {n: self.row_story.structure.sites[n].value for n in self.dropped}
        with (
            EnumMessenger(-1 - self.row_story.structure.nesting),
            Known({**known, **values}, seen, self.summed, self.row_story.take(stand_in, index)),
            enumerating(self.summed),
        ):
            return poutine.trace(self.row_story.call(index)).get_trace(), impossible

    def sized(self, rows: int) -> list[Plate]:
        """The plates of an answer for another number of rows."""
        name = self.row_story.plate.name
        return [replace(p, size=rows) if p.name == name else p for p in self.plates]

    def _conditioned(self, index: Tensor, assumed: Assumed) -> tuple[dict[str, Tensor], Any, Tensor]:
        """Values and masks of selected rows with some sites assumed, and the rows where that cannot be."""
        values, seen = self.row_story.values(index), self.row_story.seen(index)
        impossible = torch.zeros(len(index), dtype=torch.bool, device=self.row_story.structure.call.device)
        for name, value in assumed.items():
            if name in seen:
                wrong = seen.pop(name) & (values[name] != self.row_story.place(name, value))
                impossible |= wrong.reshape(len(index), -1).any(-1)
            shape = self.row_story.shape(name, len(index))
            values[name] = self.row_story.place(name, value).expand(shape)
        return values, seen, impossible

    def _propose(
        self, index: Tensor, assumed: Assumed, data: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Any]:
        """Draw the proposed sites of the selected rows; also the run of the guide, if one drew them.

        ``data`` are the values in these rows, filled in where elements are missing.
        """
        if not self.proposed:
            return {}, None
        if self.guide is None:
            known, seen, _ = self._conditioned(index, assumed)
            with Known(known, seen, resample=True):
                run: Any = poutine.trace(self.row_story.call(index)).get_trace()
            return {n: run.nodes[n]["value"] for n in self.proposed}, None
        run = self.run_guide(index, assumed, data)
        return {n: run.nodes[n]["value"] for n in self.proposed}, run

    def run_guide(
        self,
        index: Tensor,
        assumed: Assumed,
        data: Mapping[str, Tensor],
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Any:
        """Run the guide on the selected rows, with those of its sites that are known (or drawn) observed."""
        guide: Any = self.guide
        known, seen, _ = self._conditioned(index, assumed)
        offered = {**known, **data, **{n: known[n] for n in assumed if n in self.read}}
        offered = {n: v for n, v in offered.items() if n in self.read or n in self.row_story.observations}
        call = self.row_story.call(index).fresh()
        kwargs = with_data(guide, call.kwargs, offered, seen)
        with Known({**known, **(drawn or {})}):
            return poutine.trace(guide).get_trace(*call.args, **kwargs)

    def _log_q(self, run: Any, rows: int) -> Tensor:
        return row_log_prob(run, set(self.proposed), self.sized(rows))

    def _mixed(self, rows: Tensor, draws: int, assumed: Assumed) -> Runs:
        """Draws from the mixture of the guides for ``draws`` fillings of every row."""
        row_story, index, count = self.row_story, rows.repeat(draws), len(rows)

        def draw(part: Tensor) -> Runs:
            data = self._fill(part, assumed)
            drawn, _ = self._propose(part, assumed, data)
            return self.log_joint(part, assumed, drawn), {**data, **drawn}

        log_p, values = self._over(index, draw)
        fillings = {n: values[n] for n in self.filled}
        drawn = {n: values[n] for n in self.proposed}
        every = torch.arange(len(index))  # a filling and a row
        pairs = torch.cartesian_prod(torch.arange(draws), every)  # every filling, at the draws from all

        def density(part: Tensor) -> Runs:
            filling, drawn_at = pairs[part].T
            data = row_story.take(fillings, filling * count + drawn_at % count)
            run = self.run_guide(index[drawn_at], assumed, data, row_story.take(drawn, drawn_at))
            return self._log_q(run, len(part)), {}

        each = self._over(torch.arange(len(pairs)), density)[0].unflatten(0, (draws, len(index)))
        return log_p - log_mean(each, 0)[0], drawn

    def _fill(self, index: Tensor, assumed: Assumed) -> dict[str, Tensor]:
        """Draw missing elements and latent sites in turns, beginning with the stand-ins."""
        row_story = self.row_story
        first = {
            n: row_story.structure.sites[n].value for n in self.filled if n not in row_story.observations
        }
        data = {
            **row_story.take(first, index),
            **{n: v for n, v in row_story.values(index).items() if n in self.filled},
        }
        known, seen, _ = self._conditioned(index, assumed)
        for _ in range(_SWEEPS):
            drawn, _ = self._propose(index, assumed, data)
            with Known({**known, **drawn}, seen, resample=True):
                run: Any = poutine.trace(row_story.call(index)).get_trace()
            data = {n: run.nodes[n]["value"] for n in self.filled}
        return data


def log_mean(log_w: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Log of the mean along one dimension, and its standard error by the delta method, in nats."""
    count = log_w.shape[dim]
    mean = log_w.logsumexp(dim) - math.log(count)
    relative = torch.nan_to_num((log_w - mean.unsqueeze(dim)).exp())
    spread = relative.std(dim) if count > 1 else torch.zeros_like(mean)
    return mean, spread / math.sqrt(count)
