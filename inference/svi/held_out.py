"""Rows that are held out of training: their ELBO is watched, and the best parameters are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.story.inspection import inspect_rows, inspect_story
from inference.story.observations import Observation, as_observations
from inference.story.plan import plan
from inference.story.structure import Structure
from inference.svi.minibatch import Rows

_DRAWS = 4  # evaluations, with the same random numbers at every look
_PATIENCE = 500  # steps without progress after which training draws to its end, and at least ...
_LOOKS = 5  # ... so many looks
_OFTEN = 50  # steps between looks, where that is cheap: ...
_SHARE = 0.1  # ... looks may take this share of the time
Subset = tuple[Structure, dict[str, Observation]]


@dataclass(frozen=True)
class HeldOut:
    """What was measured on the held-out rows, at the parameters that were kept.

    Attributes:
        elbo: mean per row, in nats; minus the loss where it is one on samples.
        stderr: of the guide's draws; the choice of rows is not counted.
        rows: the held-out rows.
        step: at which it was best.
    """

    elbo: float
    stderr: float
    rows: Rows
    step: int


class Watch:
    """Look at the held-out ELBO now and then, keep the best parameters, and say when it stops rising.

    Every look uses the same random numbers, so that two looks differ by the parameters and not by their
    noise; what is left of it is known from four evaluations.

    Args:
        rows: held out.
        loss: evaluates the loss on the present batch; without gradient.
        model: whose batch is set.
        params: what is trained.
        batch: rows of a step of training.
        summed: whether the loss is a sum over rows, as an ELBO is, and no mean over samples.
    """

    def __init__(
        self,
        rows: Rows,
        loss: Callable[[], float],
        model: Any,
        params: Sequence[Tensor],
        batch: int,
        *,
        summed: bool = True,
    ) -> None:
        self.rows, self.loss, self.model, self.params = rows, loss, model, list(params)
        count = rows.plate.size if rows.plate is not None else 1
        self.count = count if summed else 1
        # a step goes through its rows about three times, forward and back
        self.every = max(_OFTEN, math.ceil(_DRAWS * count / (3 * _SHARE * batch)))
        self.best: tuple[Tensor, int] | None = None
        self._kept: list[Tensor] = []
        self._risen = 0

    def due(self, step: int) -> bool:
        """Whether to look after this step."""
        return step % self.every == 0

    def look(self, step: int) -> bool:
        """Evaluate; return whether the ELBO has not risen for 500 steps and five looks.

        If so, the best parameters are put back, and the count begins anew.
        """
        values = self._evaluate()
        if self.best is None:
            self._keep(values, step)
            return False
        gain = values - self.best[0]
        noise = float(gain.std()) / math.sqrt(_DRAWS)
        if float(gain.mean()) > noise:
            self._risen = step
        if float(gain.mean()) > 0:
            self._keep(values, step)
        stale = step - self._risen >= max(_PATIENCE, _LOOKS * self.every)
        if stale:
            self._risen = step
            self._put_best_back()
        return stale

    def finish(self, step: int) -> HeldOut | None:
        """Look once more, put the best parameters back, and report."""
        self.look(step)
        if self.best is None:
            return None
        self._put_best_back()
        values, best = self.best
        return HeldOut(float(values.mean()), float(values.std()) / math.sqrt(_DRAWS), self.rows, best)

    def state(self) -> tuple[Any, ...]:
        """What later looks depend on."""
        return self.best, list(self._kept), self._risen

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take up what an earlier watch knew."""
        self.best, kept, self._risen = state
        self._kept = list(kept)

    def _put_best_back(self) -> None:
        with torch.no_grad():
            for p, kept in zip(self.params, self._kept, strict=True):
                p.copy_(kept)

    def _keep(self, values: Tensor, step: int) -> None:
        if bool(torch.isfinite(values).all()):
            self.best, self._kept = (values, step), [p.detach().clone() for p in self.params]

    def _evaluate(self) -> Tensor:
        values = []
        self.model.batch = self.rows.all.to(self.params[0].device)
        for draw in range(_DRAWS):
            with fixed_noise(draw), RowsOnly(self.rows.all.rows), torch.no_grad():
                values.append(-self.loss())
        return torch.tensor(values, dtype=torch.float64) / self.count


@contextmanager
def fixed_noise(seed: int) -> Iterator[None]:
    """Fixed random numbers for a block; the stream outside goes on as if nothing had been drawn."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


class RowsOnly(Messenger):
    """Count the sites in the data plate only: what the held-out rows say, given what all rows share."""

    def __init__(self, plate: str) -> None:
        super().__init__()
        self.plate = plate

    def _pyro_sample(self, msg: Any) -> None:
        if not any(frame.name == self.plate for frame in msg["cond_indep_stack"]):
            msg["scale"] = 0.0 * msg["scale"]


def hold_out(
    structure: Structure,
    observations: Mapping[str, Observation],
    held_out: Any,
    seed: int,
    *,
    guided: bool = False,
) -> tuple[Subset, Subset | None]:
    """Return the story and data of the fitted rows, and those of the held-out rows.

    Args:
        structure: of the story on all rows.
        observations: checked.
        held_out: share of the rows, drawn at random; or data of other rows; or ``None``.
        seed: of the draw.
        guided: whether a guide of the user's reads the story's arguments, too.

    Raises:
        ValueError: for a share that is not between 0 and 1 or leaves no row on one side, a story without a
            data plate, or held-out data without all of the sites in ``data``.
    """
    if held_out is None:
        return (structure, dict(observations)), None
    rows = Rows(structure, observations, plan(structure, observations), None, guided=guided)
    if rows.plate is None:
        raise ValueError("held_out: expected a data plate that all observed sites share, got none.")
    if isinstance(held_out, Mapping):
        return (structure, dict(observations)), _given(structure, observations, held_out)
    share = held_out if isinstance(held_out, float | int) and not isinstance(held_out, bool) else -1.0
    count = round(share * rows.plate.size)
    if not 0 < share < 1 or not 0 < count < rows.plate.size:
        raise ValueError(
            f"held_out: expected None, a mapping of data, or a share between 0 and 1 that leaves rows on "
            f"both sides, got {held_out!r} of {rows.plate.size} rows."
        )
    order = torch.randperm(rows.plate.size, generator=torch.Generator().manual_seed(seed))
    held, kept = (_subset(rows, index.sort().values) for index in (order[:count], order[count:]))
    return kept, held


def _subset(rows: Rows, index: Tensor) -> Subset:
    batch = rows.take(index)
    observations = {n: Observation(v, batch.seen.get(n)) for n, v in batch.values.items()}
    return inspect_story(batch.call, observations)


def _given(
    structure: Structure, observations: Mapping[str, Observation], held_out: Mapping[str, Any]
) -> Subset:
    if set(held_out) != set(observations):
        raise ValueError(
            f"held_out: expected data for {', '.join(sorted(observations))}, got "
            f"{', '.join(sorted(held_out))}."
        )
    call = replace(structure.call, counts_rows=structure.call.takes_rows)
    other, found = inspect_rows(call, as_observations(held_out, "held_out"), "held_out")
    for name, one in found.items():
        if one.seen is not None and observations[name].seen is None:
            raise ValueError(f"held_out[{name!r}]: expected no missing values, since data has none.")
        if one.seen is None and observations[name].seen is not None:
            found[name] = Observation(one.value, torch.ones_like(one.value, dtype=torch.bool))
    return other, found
