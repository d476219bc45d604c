"""Pyro's SVI behind ``fit``: hand-written guides, Pyro's autoguides, parameters, minibatches.

The story is conditioned on the data from outside, discrete sites are summed out by ``TraceEnum_ELBO``,
and every restart trains a copy of its own in a parameter store of its own. The fitted guides are then
weighed against the same log density, by the same rules, as the guides of the ladder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference.calls import story_name
from inference.certificate import Certificate
from inference.density import LogDensity
from inference.evidence import Evidence
from inference.guides import autoguides
from inference.guides.gaussian import Gaussian
from inference.isolation import isolated
from inference.minibatch import Rows
from inference.posterior import Posterior
from inference.programs import FittedGuide, bake, own_copy, stored
from inference.progress import Progress
from inference.proposals import Drawn, gaussian, point_mass, weigh, wider
from inference.structure import Structure, inspect_story
from inference.training import Asked, Trained, train
from inference.weighing import Replicate

_ROWS = 1000  # rows of the history that are kept


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
    with Progress(len(seeds), progress) as bar:
        for seed in seeds:
            fits.append(train(density, rows, guide, asked, seed, lambda *row: bar.step(name, *row)))
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
        points[:1] or flaws[:1], notes if params else [], sum(one.steps for one in fits), bool(points),
    )  # fmt: skip


def without_weights(certificate: Certificate, reason: str) -> Certificate:
    """The certificate of draws that have no density, so that no weight can be given."""
    return replace(
        certificate, trusted=False, method="svi", khat=None, ess=None, log_evidence=None,
        log_evidence_stderr=None, reasons=(reason,),
    )  # fmt: skip


def settled(outcome: Outcome, exact: Posterior) -> Posterior:
    """The posterior of a story whose parameters were trained and in which nothing else was unknown."""
    reasons = () if all(outcome.converged) else ("Training stopped before convergence. Raise `steps`.",)
    exact.certificate = replace(
        exact.certificate, trusted=not reasons, method="svi", reasons=reasons, notes=tuple(outcome.notes)
    )
    exact.history = outcome.history
    return exact


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
