"""Train one restart: step until the schedule ends it, watch held-out rows, and take the programs out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from pyro.infer.autoguide import AutoLaplaceApproximation
from torch import Tensor

from inference.story.parameters import own_values
from inference.story.programs import Baked, trained
from inference.story.structure import Structure
from inference.svi.checkpoint import Checkpoint, Resumed, put_back, taken
from inference.svi.held_out import HeldOut, Watch
from inference.svi.minibatch import Rows
from inference.svi.request import Request
from inference.svi.restart import Restart, restarted
from inference.svi.target import Target

_REPORT = 25  # steps per row of the history
_EVALUATED = 100  # runs of a guide that has nothing to train


@dataclass(frozen=True, eq=False)
class Trained:
    """One restart after training: copies of the programs, on the CPU, and what became of the steps.

    Attributes:
        params: values of ``pyro.param`` statements; a module holds its own.
        elbo: mean over the last steps, of all rows, in nats; minus the loss where it is one on samples.
        held_out: what was measured on the rows that were held out; ``None`` where none were.
        notes: what the certificate should mention.
        checkpoint: from where it can be taken up; ``None`` is the beginning.
    """

    story: Callable[..., Any]
    guide: Callable[..., Any] | None
    params: Mapping[str, Tensor]
    elbo: float
    converged: bool
    steps: int
    skipped: int = 0
    held_out: HeldOut | None = None
    notes: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None


def train(
    target: Target,
    rows: Rows,
    request: Request,
    seed: int,
    report: Callable[..., None],
    held: Rows | None = None,
    resumed: Resumed | None = None,
) -> Trained:
    """One restart: a copy of story and guide, trained in a parameter store of its own.

    Args:
        target: the story, its data, and what becomes of every site.
        rows: all of them, and batches.
        request: of the caller.
        seed: of this restart.
        report: takes a step and its ELBO.
        held: rows that were held out.
        resumed: from where to go on, and to how many steps in all.
    """
    if resumed is not None and not (resumed.checkpoint and resumed.checkpoint.by_itself):
        request = replace(request, steps=resumed.total)
    with restarted(target, rows, request, seed) as one:
        one.training(True)
        found, kept = _loop(one, rows, request, report, held, resumed) if one.params else (None, None)
        one.training(False)
        model, own = one.model, one.guide
        if isinstance(own, AutoLaplaceApproximation):
            model.batch, model.factor = rows.all.to(request.device), None
            model.params = own_values(model.story)
            call = model.batch.call.fresh()
            own = own.laplace_approximation(*call.args, **call.kwargs)
        params = {n: v.cpu() for n, v in own_values(model.story, own).items()}
        story = trained(model.story)
        fitted = trained(own) if own is not None and target.names else None
        if one.rule is None or one.stepper is None:  # there is nothing to train
            elbo = -sum(one.objective.evaluate() for _ in range(_EVALUATED)) / _EVALUATED
            return Trained(story, fitted, params, elbo, True, 0, notes=_untrained(rows.structure, one))
        count = one.stepper.count
        return Trained(
            story, fitted, params, one.rule.elbo, one.rule.converged, one.rule.steps, count.skipped, found,
            (*count.sentences(), *kept_parameters(rows.structure)), kept,
        )  # fmt: skip


def kept_parameters(structure: Structure) -> list[str]:
    """A note where the story is one that a fit returned."""
    if not isinstance(structure.call.story, Baked):
        return []
    return ["The story was fitted before and keeps its parameters; to train it on, use continue_fit."]


def _untrained(structure: Structure, one: Restart) -> tuple[str, ...]:
    """Why nothing was trained, where there might have been something."""
    modules = [p for p in (one.model.story, one.guide) if isinstance(p, torch.nn.Module)]
    if any(True for module in modules for _ in module.parameters()):
        return ("Nothing was trained: no parameter of story or guide asks for a gradient (requires_grad).",)
    return tuple(kept_parameters(structure))


def _loop(
    one: Restart,
    rows: Rows,
    request: Request,
    report: Callable[..., None],
    held: Rows | None,
    resumed: Resumed | None,
) -> tuple[HeldOut | None, Checkpoint | None]:
    """Step until the schedule ends it, or held-out rows do; say what those measured, and where to go on."""
    stepper, rule = one.running
    watch = _watch(one, rows, held, summed=not request.by_samples)
    batches, kept, recent = rows.epochs(), None, list[float]()
    if resumed is not None:
        put_back(one, batches, watch, resumed)
        kept = resumed.checkpoint
    for step, batch in enumerate(batches, rule.steps + 1):
        warm = step / request.svi.warm_up if step < request.svi.warm_up else None
        elbo = stepper.take(batch.to(request.device), warm)
        recent += [elbo] if math.isfinite(elbo) else []
        if recent and (step == 1 or step % _REPORT == 0):
            report(step, sum(recent) / len(recent))
            recent = []
        over = rule.add(elbo, judged=warm is None)
        if watch is not None and watch.due(step) and warm is None and one.aside(partial(watch.look, step)):
            over = rule.hurry() or over
        if rule.at_branch:
            kept = taken(one, batches, watch)
        if over:
            break
    rule.finish()
    return None if watch is None else one.aside(partial(watch.finish, step)), kept


def _watch(one: Restart, rows: Rows, held: Rows | None, *, summed: bool) -> Watch | None:
    if held is None:
        return None
    batch = rows.size or (1 if rows.plate is None else rows.plate.size)
    return Watch(held, one.objective.evaluate, one.model, list(one.params), batch, summed=summed)


def training_notes(fits: Sequence[Trained], best: Trained, *, by_samples: bool = False) -> tuple[str, ...]:
    """What the certificate should mention of the training: steps that went wrong, held-out rows."""
    notes = [note for one in fits for note in one.notes]
    if best.held_out is not None:
        rows = best.held_out.rows.plate
        value = best.held_out.elbo
        judged = f"loss was least: {-value:.4g}" if by_samples else f"ELBO was best: {value:.4g} nats per row"
        notes.append(
            f"{0 if rows is None else rows.size} rows were held out; the parameters kept are those of step "
            f"{best.held_out.step}, where their {judged}."
        )
    return tuple(notes)
