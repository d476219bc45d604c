"""Pyro's SVI behind ``fit``: hand-written guides, Pyro's autoguides, parameters, minibatches.

The story is conditioned on the data from outside, discrete sites are summed out by ``TraceEnum_ELBO``,
and every restart trains a copy of its own in a parameter store of its own. The fitted guides are then
weighed against the same log density, by the same rules, as the guides of the ladder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from inference.checks.holes import holes_beside
from inference.checks.importance import Replicate
from inference.density.log_density import LogDensity
from inference.runtime.progress import Progress
from inference.story.call import story_name
from inference.story.observations import Observation
from inference.story.plan import plan
from inference.story.programs import FittedGuide
from inference.story.structure import Structure
from inference.svi import autoguides
from inference.svi.checkpoint import Resumed, Training
from inference.svi.guide_draws import GuideDraws, gaussian, point_mass, weigh_guide, wider
from inference.svi.held_out import Subset, hold_out
from inference.svi.losses import refusal
from inference.svi.minibatch import Rows
from inference.svi.request import Request
from inference.svi.row_checks import RowFindings, TrainedRestarts, examine, local_of
from inference.svi.target import Target, baked_density
from inference.svi.training import Trained, train, training_notes

_ROWS = 1000  # rows of the history that are kept


@dataclass(frozen=True)
class WeightFindings:
    """What the weights of every restart's draws say, where rows share unknowns.

    Attributes:
        density: of all unknowns, at the trained parameters.
        replicates: one for each restart; none where nothing is unknown.
        guide: of the best restart.
        flaws: reasons against any fit of this density.
        notes: remarks that do not bear on trust.
        point_mass: why no weights can be given, where a guide draws a single point.
    """

    density: LogDensity
    replicates: list[Replicate]
    guide: FittedGuide | None
    flaws: list[str]
    notes: list[str]
    point_mass: str


@dataclass(frozen=True)
class SVIResult:
    """All restarts: what the posterior and its certificate are made of.

    Attributes:
        name: of the guide, or of the loss on samples.
        converged: whether each restart's training ended by its own rule; empty where nothing was trained, and
            all restarts are of one guide.
        history: rows (rung, step, ELBO in nats).
        gradient_calls: steps of all restarts.
        findings: row by row where all unknowns belong to rows, else by weights.
        training: with which it can be continued.
    """

    name: str
    converged: list[bool]
    history: list[tuple[str, int, float]]
    gradient_calls: int
    findings: RowFindings | WeightFindings
    training: Training | None = None


def run_svi(
    structure: Structure,
    observations: Mapping[str, Observation],
    request: Request,
    *,
    draws: int,
    seeds: list[int],
    seed: int,
    progress: bool | None,
    resumed: Sequence[Resumed] | None = None,
) -> SVIResult:
    """Train every restart, then weigh its guide's draws against the story's density, or check row by row.

    Args:
        structure, observations: of the story and its data.
        request: of the caller.
        draws: equally weighted, of each restart.
        seeds: of the restarts.
        seed: of the rows that are held out.
        progress: show a bar.
        resumed: where the restarts of an earlier run are taken up.

    Raises:
        ValueError: for a guide that does not match the story, or options that do not fit.
    """
    asked, given = (structure, observations), request
    (structure, observations), held = hold_out(
        structure, observations, request.svi.held_out, seed, guided=callable(request.guide)
    )
    target = Target(structure, observations)
    require_seen(target)
    rows = Rows(
        structure, observations, target.plan, request.svi.batch_size, request.loader,
        guided=callable(request.guide),
    )  # fmt: skip
    target.require_rows_apart(rows)
    watched = None if held is None else Rows(*held, plan(*held, apart=True), None)
    request = request if request.by_samples else replace(request, guide=_program(request.guide, target))
    name = _name(request.svi.loss if request.by_samples else request.guide) if target.size else "none"
    fits: list[Trained] = []
    with Progress(len(seeds), progress) as bar:
        report = partial(bar.step, name)
        for index, one in enumerate(seeds):
            earlier = None if resumed is None else resumed[index]
            fits.append(train(target, rows, request, one, report, watched, earlier))
            bar.restart_done()
    best = max(fits, key=lambda one: one.elbo if one.held_out is None else one.held_out.elbo)
    found = _found(target, fits, best, held, request)
    return SVIResult(
        name,
        [one.converged for one in fits],
        bar.history[:: -(-len(bar.history) // _ROWS) or 1],
        sum(one.steps for one in fits),
        judged(found, fits, best, draws, seeds),
        Training(*asked, given, draws, seeds, seed, [_resumable(one, given) for one in fits]),
    )


def _resumable(one: Trained, request: Request) -> Resumed:
    """Where a restart may go on; of given steps, all count, those at a falling rate too."""
    by_itself = one.checkpoint is not None and one.checkpoint.by_itself
    planned = None if by_itself else request.steps
    return Resumed(one.checkpoint, one.steps if planned is None else planned)


def require_seen(target: Target) -> None:
    """Refuse missing elements that other sites need: guide programs draw whole sites."""
    if target.plan.filled:
        raise ValueError(
            f"data: missing elements of {target.plan.filled[0]!r}, on which other sites depend, are "
            f"inferred by the named guides only. Use guide='auto' without loss, optim and batch_size."
        )


def judged(
    found: TrainedRestarts, fits: list[Trained], best: Trained, draws: int, seeds: list[int]
) -> RowFindings | WeightFindings:
    """Row by row where all unknowns belong to rows; else by the weights of every restart's draws."""
    local = local_of(found, draws)
    if local is not None:
        return examine(found, local, seeds[0])
    params = found.target.structure.params
    return weigh_restarts(density_at(found.target, best), fits, best, params, draws, seeds)


def _found(
    target: Target, fits: list[Trained], best: Trained, held: Subset | None, request: Request
) -> TrainedRestarts:
    """What the check row by row needs to know."""
    return TrainedRestarts(
        target, [one.story for one in fits], [one.guide for one in fits], [one.params for one in fits],
        fits.index(best), [one.converged for one in fits], held,
        refusal(request.svi.loss) if request.by_samples else "",
        training_notes(fits, best, by_samples=request.by_samples),
    )  # fmt: skip


def weigh_restarts(
    density: LogDensity,
    fits: list[Trained],
    best: Trained,
    params: tuple[str, ...],
    draws: int,
    seeds: list[int],
) -> WeightFindings:
    """Weigh the draws of every restart's guide."""
    notes = [f"pyro.param {', '.join(params)}: point estimates; the draws do not show their uncertainty."]
    flaws = [density.flaw] if density.flaw else []
    replicates, points = [], []
    for one, seed in zip(fits, seeds, strict=True):
        if one.guide is None:
            continue
        generator = torch.Generator().manual_seed(seed)
        fitted = FittedGuide(one.guide, one.params, density.data, density.plan.seen)
        drawn = GuideDraws(fitted, density)
        replicates.append(weigh_guide(drawn, draws, generator))
        around = gaussian(drawn.sample(max(1000, 4 * density.size), generator))
        points.append(point_mass(fitted, density))
        if around is not None:
            flaws += wider(density, around, replicates[-1], draws, generator)
    flaws += [r for one in replicates for r in holes_beside(density, density.holes, one.z, one.log_p)]
    guide = None
    if best.guide is not None:
        guide = FittedGuide(best.guide, best.params, density.data, density.plan.seen)
    return WeightFindings(
        density, replicates, guide, flaws[:1],
        [*(notes if params else []), *training_notes(fits, best)], next((p for p in points if p), ""),
    )  # fmt: skip


def density_at(target: Target, best: Trained) -> LogDensity:
    """The log density of all unknowns, at the trained parameters."""
    if not target.structure.params:
        return target.density
    call = replace(target.structure.call, story=best.story)
    return baked_density(replace(target.structure, call=call), target.observations, best.params)


def _program(guide: Any, target: Target) -> Any:
    return autoguides.by_name(guide, target.size) if isinstance(guide, str) else guide


def _name(guide: Any) -> str:
    return story_name(getattr(guide, "func", guide))
