"""From what the caller asked for to the loss that is descended; guides are checked against the story here."""

from __future__ import annotations

from typing import Any

from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.enum_messenger import EnumMessenger

from inference.svi import losses
from inference.svi.conditioned import Conditioned
from inference.svi.guide_draws import require_match
from inference.svi.losses import ElboLoss, SampleLoss, choose_loss, own_loss
from inference.svi.minibatch import Rows
from inference.svi.optimizers import is_network
from inference.svi.request import Request


def prepare(request: Request, model: Conditioned, guide: Any, rows: Rows) -> ElboLoss | SampleLoss:
    """Run story and guide once, so that their parameters exist; check them; return the loss.

    Raises:
        ValueError: for a guide that does not match the story, and losses that do not suit it.
    """
    local = rows.size is not None and not isinstance(guide, AutoGuide)
    model.batch = (next(rows.epochs()) if local else rows.all).to(request.device)
    if request.by_samples:
        return _by_samples(request, model, rows)
    run = _guide_run(model, guide)
    if guide is not None:
        _check_guide(run, model, guide, rows, local)
        model.drawn = _drawn(run, model)
    nesting = rows.structure.nesting
    with EnumMessenger(-1 - nesting):
        story_run = poutine.trace(poutine.replay(model, trace=run)).get_trace()
    enumerated = any(m["infer"].get("enumerate") for m in run.nodes.values() if m["type"] == "sample")
    summed = bool(set(model.target.plan.summed) - model.drawn) or enumerated
    networks = is_network(guide) or is_network(model.story)
    elbo = choose_loss(
        request.svi.loss,
        summed,
        nesting,
        analytic=networks and guide is not None and losses.analytic(story_run, run),
    )
    _check_options(request, elbo, model, rows)
    loss = ElboLoss(elbo, model, model.guided(guide))
    model.marked = not loss.smooth
    return loss


def _guide_run(model: Conditioned, guide: Any) -> Any:
    """One run of the guide, discrete sites that it enumerates drawn at random."""
    if isinstance(guide, AutoGuide):
        model.watched(guide)()  # finds its sites
    return poutine.trace(model.watched(guide)).get_trace()


def _drawn(run: Any, model: Conditioned) -> frozenset[str]:
    nodes = {n for n, m in run.nodes.items() if m["type"] == "sample" and not m["is_observed"]}
    return frozenset(nodes & set(model.target.plan.summed))


def _by_samples(request: Request, model: Conditioned, rows: Rows) -> SampleLoss:
    if request.guide_given:
        raise ValueError(
            "loss: a loss on (samples, data) runs the story forward, expected no guide beside it, got one. "
            "Drop `guide`, or use a Pyro ELBO."
        )
    structure = model.target.structure
    if not structure.params:
        raise ValueError(
            "loss: a loss on (samples, data) trains the parameters of the story, and the story has none. "
            "Write it as a PyroModule with networks, or with pyro.param; priors are fitted by an ELBO."
        )
    plate, observed = rows.plate, set(model.target.data)
    outside = [n for n, s in structure.sample_sites.items() if not s.within(plate)]
    if outside:
        raise ValueError(
            f"loss: a loss on (samples, data) expects all sites in the data plate, got {outside[0]!r} "
            f"outside of it. Make it a parameter (pyro.param), or fit by an ELBO."
        )
    given = tuple(n for n in model.target.data if structure.children(n) & observed)
    loss = own_loss(request.svi.loss, structure.call.dtype, request.device)
    objective = SampleLoss(loss, model.forward(given), given, lambda: model.batch.values)
    objective.value(objective.samples()[0])
    if objective.adversary is not None and request.svi.held_out is not None:
        raise ValueError(
            "held_out: an adversary's loss does not say how good the story is, expected None, got rows. "
            "Compare samples with them after the fit."
        )
    return objective


def _check_guide(run: Any, model: Conditioned, guide: Any, rows: Rows, local: bool) -> None:
    count = rows.size if local else None
    require_match(run, model.target, None if count is None else (model.batch.rows, count))
    sites = model.target.structure.sites
    inside = [n for n in model.target.names if sites[n].within(rows.plate)]
    if rows.size is not None and isinstance(guide, AutoGuide) and inside:
        raise ValueError(
            f"guide: with batch_size, {type(guide).__name__} would give all batches the same unknowns "
            f"{inside[0]!r} of their rows. Write a guide that computes them from the rows (data=)."
        )


def _check_options(request: Request, elbo: Any, model: Conditioned, rows: Rows) -> None:
    sites = model.target.structure.sites
    if request.steps is not None and request.svi.warm_up >= request.steps:
        raise ValueError(
            f"warm_up: expected fewer than the {request.steps} steps, got {request.svi.warm_up}."
        )
    if losses.row_weighted(elbo) and rows.size is not None:
        outside = [n for n, s in sites.items() if s.kind != "deterministic" and not s.within(rows.plate)]
        if outside:
            raise ValueError(
                f"loss: with batch_size, {type(elbo).__name__} weighs each row by itself, expected all sites "
                f"in the data plate, got {outside[0]!r} outside of it. Leave out batch_size, or use an ELBO."
            )
    inside = set(model.target.plan.summed) - model.drawn
    if request.svi.warm_up and any(
        inside & model.target.structure.ancestors([n]) - {n} for n in model.target.names
    ):
        raise ValueError(
            "warm_up: expected latent sites that do not depend on discrete sites which are summed out in the "
            "story, whose terms cannot be scaled apart. Let the guide draw the discrete site, with "
            "infer={'enumerate': 'parallel'}."
        )
