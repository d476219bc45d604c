"""Train one restart: a conditioned copy of the story and a guide of its own, stepped by Pyro's SVI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.autoguide import AutoGuide, AutoLaplaceApproximation
from torch import Tensor

from inference.density import LogDensity
from inference.guides import autoguides
from inference.guides.gaussian import Gaussian
from inference.guides.start import best_start, mode, overdispersed
from inference.handlers import Known
from inference.isolation import isolated
from inference.minibatch import Batch, Rows
from inference.optimization import CAP, Schedule, choose_loss, choose_optimizer
from inference.programs import own_copy, stored, trained, with_data
from inference.proposals import require_match
from inference.structure import Structure

_REPORT = 25  # steps per row of the history


@dataclass(frozen=True)
class Asked:
    """What the caller asked of SVI; arguments as in ``inference.fit``."""

    guide: Any
    loss: Any = None
    optim: Any = None
    batch_size: int | None = None
    steps: int | None = None

    def needed(self, structure: Structure) -> bool:
        """Whether the ladder does not serve: a guide program, parameters, or options of SVI."""
        options = (self.loss, self.optim, self.batch_size)
        return callable(self.guide) or bool(structure.params) or any(o is not None for o in options)


@dataclass(frozen=True)
class Trained:
    """One restart after training: copies of the programs, and their parameters' values."""

    story: Callable[..., Any]
    guide: Callable[..., Any] | None
    params: Mapping[str, Tensor]
    elbo: float
    converged: bool
    steps: int


class _Conditioned:
    """The story on a batch of rows, data observed: what SVI and autoguides see as the model."""

    def __init__(self, story: Callable[..., Any], density: LogDensity, batch: Batch) -> None:
        self.story, self.density, self.batch = story, density, batch

    def __call__(self) -> Any:
        batch = self.batch
        with batch.scaled(), Known(batch.values, batch.seen, self.density.plan.summed, batch.stand_in):
            return replace(batch.call, story=self.story)()

    def hidden(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """A model conditioned on the data, summed-out sites hidden: for autoguides."""

        def conditioned(*args: Any, **kwargs: Any) -> Any:
            summed = self.density.plan.summed
            values = {n: v for n, v in self.batch.values.items() if n not in summed}
            known = Known(values, self.batch.seen, (), self.batch.stand_in)
            with poutine.block(hide=list(summed)), known:
                return model(*args, **kwargs)

        return conditioned

    def guided(self, guide: Callable[..., Any] | None) -> Callable[[], Any]:
        """The guide on the same batch; called like the story, and with ``data=`` where it has that name."""

        def run_guide() -> Any:
            if guide is None:
                return None
            call = self.batch.call
            with self.batch.scaled():
                return guide(*call.args, **with_data(guide, call.kwargs, self.batch.values))

        return run_guide


def train(
    density: LogDensity, rows: Rows, guide: Any, asked: Asked, seed: int, report: Callable[..., None]
) -> Trained:
    """One restart: a copy of story and guide, trained in a parameter store of its own."""
    start = _start(density, seed) if autoguides.is_class(guide) else {}
    with isolated(seed), torch.enable_grad():
        model = _Conditioned(own_copy(rows.structure.call.story), density, rows.all)
        own = _own_guide(guide, model, start) if density.size else None
        if own is not None:
            _set_up(own, model, rows)
        optimizer = choose_optimizer(asked.optim)
        loss = choose_loss(asked.loss, bool(density.plan.summed), rows.structure.nesting)
        svi = SVI(model, model.guided(own), optimizer, loss=loss)
        schedule = _loop(svi, model, rows, asked, report)
        model.batch = rows.all
        if isinstance(own, AutoLaplaceApproximation):
            own = own.laplace_approximation(*model.batch.call.args, **model.batch.call.kwargs)
            model.guided(own)()
        fitted = None if own is None else trained(own)
        return Trained(
            trained(model.story), fitted, stored(), schedule.elbo, schedule.converged, schedule.steps
        )


def _own_guide(guide: Any, model: _Conditioned, start: Mapping[str, Tensor]) -> Any:
    """A copy of the guide for one restart."""
    if autoguides.is_class(guide):
        return autoguides.from_class(guide, model.story, model.hidden, start)
    if isinstance(guide, AutoGuide):
        return autoguides.conditioned_copy(guide, model.hidden)
    return own_copy(guide)


def _set_up(guide: Any, model: _Conditioned, rows: Rows) -> None:
    """Run the guide once, aside, and check it against the story; autoguides find their sites here."""
    local = rows.size is not None and not isinstance(guide, AutoGuide)
    model.batch = next(rows.epochs()) if local else rows.all
    with pyro.get_param_store().scope():
        run = poutine.trace(model.guided(guide)).get_trace()
    count = int(rows.size) if local and rows.size is not None else None
    require_match(run, model.density, None if count is None else (model.batch.rows, count))
    inside = [n for n in model.density.names if model.density.structure.sites[n].within(rows.plate)]
    if rows.size is not None and isinstance(guide, AutoGuide) and inside:
        raise ValueError(
            f"guide: with batch_size, {type(guide).__name__} would give all batches the same unknowns "
            f"{inside[0]!r} of their rows. Write a guide that computes them from the rows (data=)."
        )


def _loop(svi: SVI, model: _Conditioned, rows: Rows, asked: Asked, report: Callable[..., None]) -> Schedule:
    """Step until the schedule ends it, or the number of steps is reached."""
    schedule = Schedule(svi.optim, ours=asked.optim is None)
    recent: list[float] = []
    batches = rows.epochs()
    for step in range(1, (asked.steps or CAP) + 1):
        model.batch = next(batches)
        elbo = -float(svi.step())
        recent.append(elbo)
        if len(recent) == _REPORT or step == 1:
            report(step, sum(recent) / len(recent))
            recent = []
        if not math.isfinite(elbo):
            raise ValueError(
                f"guide: the ELBO is {elbo} at step {step}. Look for a guide that leaves the support of a "
                f"site, a scale that is not positive, or a rate that is too large (optim)."
            )
        if schedule.add(elbo):
            break
    schedule.finish()
    return schedule


def _start(density: LogDensity, seed: int) -> dict[str, Tensor]:
    """Starting values of the unknown sites: an overdispersed point, or the mode above it.

    A mode is taken only if a narrow Gaussian there has the better ELBO: the modes of hierarchical stories
    are degenerate.
    """
    if not density.size:
        return {}
    generator = torch.Generator().manual_seed(seed)
    point = overdispersed(density, generator)
    e = torch.randn(32, density.size, generator=generator, dtype=torch.float64)
    narrow = 0.1 * torch.ones(density.size, dtype=torch.float64)
    spread = [Gaussian(p, narrow) for p in (point, mode(density, point))]
    chosen = best_start(density, spread, e).loc
    return {n: v[0] for n, v in density.constrain(chosen[None]).items() if n in density.names}
