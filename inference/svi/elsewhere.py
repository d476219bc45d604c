"""What was trained elsewhere, by Pyro's own SVI or by anything: a guide, or draws with their log density.

Nothing is trained here and nothing of the caller's is changed: modules are copied, values are read out of
Pyro's parameter store, and what comes out is weighed or checked row by row like any other fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide, AutoLaplaceApproximation
from pyro.nn import PyroModule
from torch import Tensor

from inference.checks.adaptive_proposal import mixture_around
from inference.checks.importance import Pool, Replicate, weigh_pool
from inference.checks.independence import dependences
from inference.checks.psis import khat_threshold
from inference.checks.stein import displacements_from
from inference.density.inverse import unconstrained
from inference.density.log_density import LogDensity
from inference.runtime.isolation import isolated, promote
from inference.runtime.workers import mix
from inference.story.call import story_name
from inference.story.construct import maker
from inference.story.parameters import local_parameters
from inference.story.programs import Baked, Given, own_copy, signature, stored, trained, with_data
from inference.svi import autoguides
from inference.svi.conditioned import Conditioned
from inference.svi.guide_draws import (
    elsewhere,
    gaussian,
    more_evidence,
    reaching,
    require_match,
    site_role,
    together,
)
from inference.svi.minibatch import Batch, Rows
from inference.svi.row_checks import TrainedRestarts
from inference.svi.run import SVIResult, WeightFindings, density_at, judged, require_seen
from inference.svi.target import Target
from inference.svi.training import Trained

_FEWEST = 100  # given draws of a pool, with fewer of which k-hat says nothing
_MANY = 2048  # of a pool, from which on its threshold is .7


def judge_guide(target: Target, guide: Any, draws: int, seeds: list[int]) -> SVIResult:
    """Judge a guide as it is, with what Pyro's parameter store holds.

    Args:
        target: the story and its data.
        guide: a trained autoguide, a module, or a function; or one that a fit returned.
        draws: equally weighted, of each batch.
        seeds: of independent batches of draws, which stand for restarts.

    Raises:
        ValueError: for a guide that is not trained, does not match the story or its call, or whose parameters
            have other values in Pyro's store.
    """
    require_seen(target)
    one = _as_trained(target, guide)
    said = (
        f"Nothing was trained: {story_name(one.guide)} was judged as it came; chains are independent batches "
        f"of its draws, not separate fits."
    )
    first, again = replace(one, notes=(said, *one.notes)), replace(one, notes=())
    found = TrainedRestarts(target, [one.story], [one.guide], [one.params], 0, [True], notes=first.notes)
    findings = judged(found, [first, *[again] * (len(seeds) - 1)], first, draws, seeds)
    return SVIResult(story_name(one.guide), [], [], 0, findings)


def _as_trained(target: Target, guide: Any) -> Trained:
    """Copies of story and guide with the values they have now, as training would have handed them over."""
    store, call = stored(), target.structure.call
    if isinstance(guide, Baked):
        guide, store = guide.program, {**store, **guide.params}
    for role, program in (("story", call.story), ("guide", guide)):
        _require_one_value(role, program)
    story, asked, found = call.story, set(target.structure.params), {}
    with call.room(0):
        story, own = trained(story), None  # the call has a copy of its own
        if guide is not None:
            _require_trained(guide)
            _require_callable(guide, target)
            model = Conditioned(story, target, _all_rows(target))
            model.params = {n: v for n, v in store.items() if n in asked}
            own = _own_guide(guide, model)
        owned = {*_owned(story), *_owned(own)}
        values = {n: v for n, v in store.items() if _plain(n) not in owned}
        if own is not None:
            run = _first_run(own, values, target)
            require_match(run, target)
            found = {n: m["value"].clone() for n, m in run.nodes.items() if m["type"] == "param"}
    asked |= set(found)
    unset = sorted(n for n in asked if n not in values and _plain(n) not in owned)
    params = {n: v for n, v in {**found, **values}.items() if n in asked and _plain(n) not in owned}
    return Trained(
        story, own, params, math.nan, True, 0,
        notes=tuple(f"Pyro's parameter store has no {n!r}: its starting value was taken." for n in unset),
    )  # fmt: skip


def _all_rows(target: Target) -> Batch:
    return Rows(target.structure, target.observations, target.plan, None).all


def _require_trained(guide: Any) -> None:
    if callable(guide) and maker(guide) is None:
        return
    what = repr(guide) if isinstance(guide, str) else f"the class {story_name(getattr(guide, 'func', guide))}"
    raise ValueError(
        f"guide: expected one that is trained (an autoguide after SVI, a module, or a function whose "
        f"parameters stand in Pyro's store), got {what}. inference.fit(..., guide=...) trains one."
    )


def _require_callable(guide: Any, target: Target) -> None:
    """A guide is called like the story, and with ``data=`` where it takes it."""
    call = target.structure.call
    try:
        signature(guide).bind(*call.args, **with_data(guide, call.kwargs, target.data, target.plan.seen))
    except TypeError as error:
        raise ValueError(
            f"guide: expected to be called as the story is, with {len(call.args)} positional arguments and "
            f"keywords {sorted(call.kwargs)}, got {story_name(guide)}{signature(guide)}: {error}."
        ) from error


def _require_one_value(role: str, program: Any) -> None:
    """Refuse a module whose parameters Pyro would overwrite by its store's as soon as it is run."""
    if not isinstance(program, PyroModule) or pyro.settings.get("module_local_params"):
        return
    own, held = _owned(program), pyro.get_param_store().get_state()["params"]
    for name, value in held.items():
        mine = own.get(_plain(name))
        if mine is not None and not (mine.shape == value.shape and bool((mine == value.to(mine)).all())):
            raise ValueError(
                f"{role}: parameter {name!r} has other values in Pyro's parameter store than in the "
                f"{type(program).__name__} itself: another program of this name was trained since, and "
                f"Pyro would draw from that one. Call pyro.clear_param_store() to have this one judged."
            )


def _own_guide(guide: Any, model: Conditioned) -> Any:
    """A copy of the guide in the room's dtype, which evaluates and takes no gradients."""
    if not isinstance(guide, AutoGuide):
        dtype = torch.get_default_dtype()
        return trained(own_copy(guide, dtype)) if isinstance(guide, torch.nn.Module) else guide
    own = autoguides.trained_copy(guide, model.hidden)
    if isinstance(own, AutoLaplaceApproximation):
        own = _laplace(own, model)
    return trained(own)


def _laplace(own: AutoLaplaceApproximation, model: Conditioned) -> Any:
    """The Gaussian that the trained point stands for."""
    call = model.batch.call.fresh()
    try:
        with torch.enable_grad(), local_parameters(own):
            return own.laplace_approximation(*call.args, **call.kwargs)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise ValueError(
            "guide: the curvature of the log density at AutoLaplaceApproximation's point is not that of a "
            "maximum, expected a point that was trained until it is one. Train longer."
        ) from error


def _first_run(own: Any, values: Mapping[str, Tensor], target: Target) -> Any:
    """A trace of the guide, its parameters among its sites."""
    call = target.structure.call.fresh()
    kwargs = with_data(own, call.kwargs, target.data, target.plan.seen)
    with torch.no_grad(), Given(values), local_parameters(own):
        return poutine.trace(own).get_trace(*call.args, **kwargs)


def _owned(program: Any) -> dict[str, Tensor]:
    """A module's own parameters, unconstrained, by the names that Pyro's store would give them."""
    if not isinstance(program, torch.nn.Module):
        return {}
    root = getattr(program, "_pyro_name", "")
    names = {n.removesuffix("_unconstrained"): p for n, p in program.named_parameters()}
    return {f"{root}.{n}" if root else n: p for n, p in names.items()}


def _plain(name: str) -> str:
    return name.replace("$$$", ".")


def judge_draws(target: Target, values: Mapping[str, Any], log_q: Any, pools: int, seed: int) -> SVIResult:
    """Judge draws that were made anywhere, with the log density of what made them.

    Args:
        target: the story and its data.
        values: site -> (draws, *site shape), or (pools, draws, *site shape).
        log_q: (draws,) or (pools, draws): log density of the values, all sites together, in nats.
        pools: into how many the draws are split where they come in one row.
        seed: of the resampling.

    Raises:
        ValueError: naming the site or argument that does not fit.
    """
    require_seen(target)
    one = _as_trained(target, None)
    density = density_at(target, one)
    given, log_q = _checked_draws(density, values, log_q, pools)
    count, each = log_q.shape
    with isolated(0), torch.no_grad():
        z, log_det = unconstrained(density, {n: v.flatten(0, 1) for n, v in given.items()})
    inside = torch.isfinite(z).all(1) & torch.isfinite(log_det)
    safe = torch.where(inside[:, None], z, 0.0)
    log_p = torch.where(inside, density.log_prob(safe), -torch.inf)
    pool = Pool(*(x.reshape(count, each, *x.shape[1:]) for x in (safe, log_p, log_q.flatten() + log_det)))
    generators = [torch.Generator().manual_seed(mix(seed, part)) for part in range(count)]
    replicates = weigh_pool(pool, generators)
    flaws = [density.flaw] if density.flaw else []
    flaws += dependences(z[inside]) if int(inside.sum()) >= _FEWEST else []
    differing, unchecked = _against_wider(density, replicates, generators)
    flaws += differing
    if not flaws and all(r.resampled for r in replicates):
        flaws += displacements_from(density, torch.stack([r.z for r in replicates]))
    notes = [*one.notes, *_said(inside, each, count), *unchecked]
    findings = WeightFindings(density, replicates, None, flaws[:1], notes, "")
    return SVIResult("given draws", [], [], 0, findings)


def _against_wider(
    density: LogDensity, replicates: list[Replicate], generators: list[torch.Generator]
) -> tuple[list[str], list[str]]:
    """Reasons, and notes, from wider mixtures around the draws: what evidence they find, where they lie."""
    flaws, pairs = [], []
    for replicate, generator in zip(replicates, generators, strict=True):
        if gaussian(replicate.z) is not None:
            proposal = mixture_around(replicate.z[None], [generator])
            other = reaching(density, proposal, replicate, len(replicate.z), generator, adaptive=True)
            flaws += more_evidence(replicate, other)
            pairs += [(replicate, other)] if other.certified else []
    if not pairs:
        return flaws, [
            "No second proposal passed beside the given draws: that log q is theirs could not be checked."
        ]
    ours, others = ([pair[k] for pair in pairs] for k in range(2))
    return flaws or more_evidence(together(ours), together(others)) or elsewhere(ours, others), []


def _said(inside: Tensor, each: int, count: int) -> list[str]:
    """Notes on given draws: too few for the usual threshold, or off the support."""
    notes = [f"The {count} chains are {count} parts of the given draws, {each} in each."]
    if round(khat_threshold(each), 2) < 0.7:
        notes.append(
            f"{each} draws in each part are few: k-hat is held to {khat_threshold(each):.2f} instead of .70. "
            f"Give {_MANY * count} draws or more."
        )
    if not bool(inside.all()):
        notes.append(
            f"{int((~inside).sum())} of {inside.numel()} draws lie outside of the support of a site, or at "
            f"its edge: they have weight zero."
        )
    return notes


def _checked_draws(
    density: LogDensity, values: Mapping[str, Any], log_q: Any, pools: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Draws (pools, draws, *site shape) and their log density (pools, draws), in float64."""
    log_q = _numbers("log_q", log_q)
    if log_q.dim() not in (1, 2):
        raise ValueError(
            f"log_q: expected one number per draw, of shape (draws,) or (pools, draws), got shape "
            f"{tuple(log_q.shape)}. Sum the log densities of all sites."
        )
    sites, names = density.structure.sites, density.names
    extra = [n for n in values if n not in names and not (n in sites and sites[n].kind == "deterministic")]
    if extra:
        raise ValueError(
            f"draws: expected {', '.join(names)}, got {extra[0]!r} too, which "
            f"{site_role(extra[0], density)}. Leave it out, and its density out of log_q."
        )
    given = {}
    for name in names:
        if name not in values:
            raise ValueError(f"draws: expected {', '.join(names)}, got none for {name!r}.")
        given[name] = _numbers(f"draws[{name!r}]", values[name])
        expected = (*log_q.shape, *sites[name].shape)
        if tuple(given[name].shape) != expected:
            raise ValueError(
                f"draws[{name!r}]: expected shape {expected}, which is log_q's and then the site's, got "
                f"{tuple(given[name].shape)}."
            )
    count = len(log_q) if log_q.dim() == 2 else pools
    each = log_q.numel() // count
    if each < _FEWEST:
        raise ValueError(
            f"draws: expected at least {_FEWEST} in each of {count} parts, got {log_q.numel()} in all: fewer "
            f"say nothing about the tail of their weights. {_MANY * count} are a good number."
        )
    lead = log_q.dim()

    def split(x: Tensor) -> Tensor:
        flat = x.reshape(-1, *x.shape[lead:])[: count * each]
        return flat.reshape(count, each, *flat.shape[1:])

    return {n: split(v) for n, v in given.items()}, split(log_q)


def _numbers(name: str, value: Any) -> Tensor:
    """The argument in float64, all of it finite."""
    try:
        tensor = torch.as_tensor(promote(value)).detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: expected an array of numbers, got {type(value).__name__}.") from error
    lost = int((~torch.isfinite(tensor)).sum())
    if lost:
        raise ValueError(f"{name}: expected finite numbers, got {lost} of {tensor.numel()} that are not.")
    return tensor
