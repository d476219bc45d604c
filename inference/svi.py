"""Pyro's SVI behind ``fit``: hand-written guides, Pyro's autoguides, parameters, minibatches.

The story is conditioned on the data from outside, discrete sites are summed out by ``TraceEnum_ELBO``,
and every restart trains a copy of its own in a parameter store of its own. The fitted guides are then
weighed against the same log density, by the same rules, as the guides of the ladder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from inference.asked import Asked
from inference.calls import story_name
from inference.certificate import Certificate
from inference.density import LogDensity
from inference.evidence import Evidence
from inference.guides import autoguides
from inference.guides.gaussian import Gaussian
from inference.holding import Part, hold_out
from inference.losses import refusal
from inference.minibatch import Rows
from inference.plan import plan
from inference.posterior import Posterior
from inference.programs import FittedGuide
from inference.progress import Progress
from inference.proposals import Drawn, gaussian, point_mass, weigh, wider
from inference.rowcheck import Found, certified, local_of
from inference.structure import Structure
from inference.target import Target, baked_density
from inference.training import Trained, train, training_notes
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


def run(
    structure: Structure,
    evidence: Mapping[str, Evidence],
    asked: Asked,
    *,
    draws: int,
    seeds: list[int],
    seed: int,
    progress: bool | None,
) -> Outcome | Posterior:
    """Train every restart, then weigh its guide's draws against the story's density.

    A posterior comes back where all unknowns belong to rows: it is certified row by row.

    Raises:
        ValueError: for a guide that does not match the story, or options that do not fit.
    """
    (structure, evidence), held = hold_out(structure, evidence, asked.held_out, seed)
    target = Target(structure, evidence)
    rows = Rows(structure, evidence, target.plan, asked.batch_size, asked.loader)
    watched = None if held is None else Rows(*held, plan(*held), None)
    asked = asked if asked.by_samples else replace(asked, guide=_program(asked.guide, target))
    name = _name(asked.loss if asked.by_samples else asked.guide) if target.size else "none"
    if target.plan.filled:
        raise ValueError(
            f"data: missing elements of {target.plan.filled[0]!r}, on which other sites depend, are "
            f"inferred by the named guides only. Use guide='auto' without loss, optim and batch_size."
        )
    fits: list[Trained] = []
    with Progress(len(seeds), progress) as bar:
        for one in seeds:
            fits.append(train(target, rows, asked, one, lambda *row: bar.step(name, *row), watched))
            bar.restart_done()
    best = max(fits, key=lambda one: one.elbo if one.held_out is None else one.held_out.elbo)
    history = bar.history[:: -(-len(bar.history) // _ROWS) or 1]
    found = _found(target, fits, best, name, held, asked)
    local = local_of(found, draws)
    if local is not None:
        return certified(found, local, history, seeds[0])
    density = _density(target, best)
    outcome = _weighed(density, fits, best, name, history, structure.params, draws, seeds)
    return replace(outcome, notes=[*outcome.notes, *training_notes(fits, best)])


def _found(
    target: Target, fits: list[Trained], best: Trained, name: str, held: Part | None, asked: Asked
) -> Found:
    """What the check row by row needs to know."""
    return Found(
        target, [one.story for one in fits], [one.guide for one in fits], [one.params for one in fits],
        fits.index(best), [one.converged for one in fits], name, sum(one.steps for one in fits), held,
        refusal(asked.loss) if asked.by_samples else "",
        training_notes(fits, best, by_samples=asked.by_samples),
    )  # fmt: skip


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
        fitted = FittedGuide(one.guide, one.params, density.data, density.plan.seen)
        drawn = Drawn(fitted, density)
        replicates.append(weigh(drawn, draws, generator))
        around = gaussian(drawn.sample(max(1000, 4 * density.size), generator))
        points.append(point_mass(fitted, density))
        if around is not None:
            gaussians.append(around)
            flaws += wider(density, around, replicates[-1], draws, generator)
    points = [p for p in points if p]
    guide = None
    if best.guide is not None:
        guide = FittedGuide(best.guide, best.params, density.data, density.plan.seen)
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


def _density(target: Target, best: Trained) -> LogDensity:
    """The log density of all unknowns, at the trained parameters."""
    if not target.structure.params:
        return target.density
    call = replace(target.structure.call, story=best.story)
    return baked_density(replace(target.structure, call=call), target.evidence, best.params)


def _program(guide: Any, target: Target) -> Any:
    return autoguides.by_name(guide, target.size) if isinstance(guide, str) else guide


def _name(guide: Any) -> str:
    return story_name(getattr(guide, "func", guide))
