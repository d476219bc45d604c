"""Pyro's SVI behind ``fit``: hand-written guides, Pyro's autoguides, parameters, minibatches.

The story is conditioned on the data from outside, discrete sites are summed out by ``TraceEnum_ELBO``,
and every restart trains a copy of its own in a parameter store of its own. The fitted guides are then
weighed against the same log density, by the same rules, as the guides of the ladder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from inference.calls import story_name
from inference.certificate import Certificate
from inference.density import LogDensity
from inference.evidence import Evidence
from inference.guides import autoguides
from inference.guides.gaussian import Gaussian
from inference.guides.start import overdispersed
from inference.handlers import Known
from inference.isolation import isolated
from inference.minibatch import Batch, Rows
from inference.optimization import CAP, Schedule, choose_loss, choose_optimizer
from inference.programs import FittedGuide, bake, own_copy, stored, trained, with_data
from inference.progress import Progress
from inference.proposals import Drawn, gaussian, point_mass, require_match, weigh, wider
from inference.structure import Structure, inspect_story
from inference.weighing import Replicate

_REPORT = 25  # steps per row of the history
_ROWS = 1000  # rows of the history that are kept


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


@dataclass(frozen=True)
class Outcome:
    """All restarts: what the certificate and the posterior are made of."""

    density: LogDensity
    replicates: list[Replicate]
    gaussians: list[Gaussian]
    guide: FittedGuide | None
    name: str
    converged: list[bool]
    history: list[tuple[str, int, float]]
    flaws: list[str]
    notes: list[str]
    gradient_calls: int
    point: bool


def beside(story: Any) -> Any:
    """The function ``guide`` that stands beside a story in its module, else "auto"."""
    module = sys.modules.get(getattr(story, "__module__", ""))
    found = getattr(module, "guide", None)
    named = getattr(module, getattr(story, "__name__", ""), None) is story
    own = getattr(found, "__module__", None) == getattr(story, "__module__", "")
    return found if named and own and callable(found) and found is not story else "auto"


def run(
    structure: Structure,
    evidence: Mapping[str, Evidence],
    asked: Asked,
    *,
    restarts: int,
    draws: int,
    seeds: list[int],
    progress: bool | None,
) -> Outcome:
    """Train every restart, then weigh its guide's draws against the story's density.

    Raises:
        ValueError: for a guide that does not match the story, or options that do not fit.
    """
    initial = _initial(structure)
    density = _density(structure, evidence, initial)
    rows = Rows(structure, evidence, density.plan, asked.batch_size)
    guide = _program(asked.guide, density)
    name = _name(guide) if density.size else "none"
    if density.plan.filled:
        raise ValueError(
            f"data: missing elements of {density.plan.filled[0]!r}, on which other sites depend, are "
            f"inferred by the named guides only. Use guide='auto' without loss, optim and batch_size."
        )
    fits: list[Trained] = []
    with Progress(restarts, progress) as bar:
        for seed in seeds:
            fits.append(_train(density, rows, guide, asked, seed, lambda *row: bar.step(name, *row)))
            bar.restart_done()
    best = max(fits, key=lambda one: one.elbo)
    if structure.params:
        density = _density(replace(structure, call=replace(structure.call, story=best.story)), evidence,
                           {n: best.params[n] for n in structure.params})  # fmt: skip
    history = bar.history[:: -(-len(bar.history) // _ROWS) or 1]
    return _weighed(density, fits, best, name, history, structure.params, draws, seeds)


def _weighed(
    density: LogDensity,
    fits: list[Trained],
    best: Trained,
    name: str,
    history: list[tuple[str, int, float]],
    params: tuple[str, ...],
    draws: int,
    seeds: list[int],
) -> Outcome:
    notes = [f"pyro.param {', '.join(params)}: point estimates; the draws do not show their uncertainty."]
    flaws = [density.flaw] if density.flaw else []
    replicates, gaussians, points = [], [], []
    for one, seed in zip(fits, seeds, strict=True):
        if one.guide is None:
            continue
        generator = torch.Generator().manual_seed(seed)
        fitted = FittedGuide(one.guide, one.params, density.data)
        drawn = Drawn(fitted, density)
        replicates.append(weigh(drawn, draws, generator))
        around = gaussian(drawn.sample(max(1000, 4 * density.size), generator))
        points.append(point_mass(fitted, density))
        if around is not None:
            gaussians.append(around)
            flaws += wider(density, around, replicates[-1], draws, generator)
    points = [p for p in points if p]
    guide = None if best.guide is None else FittedGuide(best.guide, best.params, density.data)
    return Outcome(
        density, replicates, gaussians, guide, name, [one.converged for one in fits], history,
        points[:1] or flaws[:1], notes if params else [], 0, bool(points),
    )  # fmt: skip


def without_weights(certificate: Certificate, reason: str) -> Certificate:
    """The certificate of draws that have no density, so that no weight can be given."""
    return replace(
        certificate, trusted=False, method="svi", khat=None, ess=None, log_evidence=None,
        log_evidence_stderr=None, reasons=(reason,),
    )  # fmt: skip


def _initial(structure: Structure) -> dict[str, Tensor]:
    """Starting values of the story's parameters."""
    if not structure.params:
        return {}
    with isolated(0):
        replace(structure.call, story=own_copy(structure.call.story))()
        return stored()


def _density(
    structure: Structure, evidence: Mapping[str, Evidence], params: Mapping[str, Tensor]
) -> LogDensity:
    if structure.params:
        structure, checked = inspect_story(bake(structure.call, params), evidence)
        return LogDensity(structure, checked)
    return LogDensity(structure, evidence)


def _program(guide: Any, density: LogDensity) -> Any:
    if isinstance(guide, str):
        return autoguides.by_name(guide, density.size)
    if isinstance(guide, type) and not autoguides.is_class(guide):
        raise ValueError(
            f"guide: expected a function, a module or an autoguide, got the class {guide.__name__}. "
            f"Construct it first."
        )
    return guide


def _name(guide: Any) -> str:
    return story_name(getattr(guide, "func", guide))


class _Conditioned:
    """The story on a batch of rows, data observed; what SVI and autoguides see as the model."""

    def __init__(self, story: Callable[..., Any], density: LogDensity, batch: Batch) -> None:
        self.story, self.density, self.batch = story, density, batch

    def __call__(self) -> Any:
        with self.batch.scaled(), self.known():
            return replace(self.batch.call, story=self.story)()

    def known(self) -> Known:
        return Known(self.batch.values, self.batch.seen, self.density.plan.summed, self.batch.stand_in)

    def hidden(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """A model conditioned on the data, summed-out sites hidden; for autoguides."""

        def conditioned(*args: Any, **kwargs: Any) -> Any:
            with poutine.block(hide=list(self.density.plan.summed)), self.known():
                return model(*args, **kwargs)

        return conditioned


def _own_guide(guide: Any, model: _Conditioned, start: Mapping[str, Tensor]) -> Any:
    """This restart's own copy of the guide."""
    if autoguides.is_class(guide):
        return autoguides.from_class(guide, model.story, model.hidden, start)
    if isinstance(guide, AutoGuide):
        return autoguides.conditioned_copy(guide, model.hidden)
    return own_copy(guide)


def _train(
    density: LogDensity, rows: Rows, guide: Any, asked: Asked, seed: int, report: Callable[..., None]
) -> Trained:
    """One restart: a copy of story and guide, trained in a parameter store of its own."""
    start = _start(density, seed)
    with isolated(seed), torch.enable_grad():
        batches = rows.epochs()
        model = _Conditioned(own_copy(rows.structure.call.story), density, rows.all)
        own = _own_guide(guide, model, start) if density.size else None

        def run_guide() -> Any:
            if own is None:
                return None
            with model.batch.scaled():
                call = model.batch.call
                return own(*call.args, **with_data(own, call.kwargs, model.batch.values))

        with pyro.get_param_store().scope():  # autoguides set themselves up here, on the whole data
            for batch in dict.fromkeys((rows.size is not None, False)):
                model.batch = next(batches) if batch else rows.all
                if density.size and not (rows.size and not batch and not isinstance(own, AutoGuide)):
                    require_match(poutine.trace(run_guide).get_trace(), model.batch, density)
        optimizer = choose_optimizer(asked.optim)
        loss = choose_loss(asked.loss, bool(density.plan.summed), rows.structure.nesting)
        svi = SVI(model, run_guide, optimizer, loss=loss)
        schedule = Schedule(optimizer, ours=asked.optim is None)
        recent: list[float] = []
        for step in range(1, (asked.steps or CAP) + 1):
            model.batch = next(batches)
            recent.append(-svi.step())
            if len(recent) == _REPORT or step == 1:
                report(step, sum(recent) / len(recent))
                recent = []
            if schedule.add(float("nan") if not recent else recent[-1]):
                break
        schedule.finish()
        own = _laplace(own, model.batch.call)
        params = stored()
        return Trained(trained(model.story), own and trained(own), params, schedule.elbo, schedule.converged)
