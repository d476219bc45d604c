"""The verbs of a posterior: each picks the way that its question can be answered.

A fit whose unknowns all belong to rows answers row by row (:mod:`inference.answers.row_questions`); any other
answers by the draws of what rows share (:mod:`inference.answers.questions`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.answers import row_questions
from inference.answers.predictive import generate
from inference.answers.question import Question
from inference.answers.questions import ask
from inference.answers.result import Fit
from inference.answers.row_proposal import log_mean


def sample(
    fit: Fit, names: Sequence[str], given: Any, args: tuple[Any, ...] | None, count: int, seed: int
) -> dict[str, Tensor]:
    """Draws of the named sites, (count, *site shape); arguments as in ``Posterior.sample``."""
    proposal = row_questions.pose(fit, given, args, assume_all=True)
    if proposal is not None and all(n in fit.structure.sites for n in names):
        return row_questions.sample(fit, proposal, names, count, seed)
    return generate(fit, ask(fit, given, args, names, seed=seed), names, count, seed)


def probabilities(fit: Fit, site: str, given: Any, args: tuple[Any, ...] | None, seed: int) -> Tensor:
    """Probabilities of a discrete site; arguments as in ``Posterior.probabilities``."""
    _require_discrete(fit, site, given)
    if given is None and args is None and _seen_whole(fit, site):
        raise ValueError(
            f"site: {site!r} was given in data for every row, so it has no probabilities there. For those of "
            f"the other sites' rows, say what is known of them: given={{'x': x}}."
        )
    proposal = row_questions.pose(fit, given, args, assume=[site])
    if proposal is not None:
        return row_questions.probabilities(proposal, site, seed)
    question = ask(fit, given, args, [site], seed=seed, enumerate_targets=True)
    if site in question.simulated:
        return _tabulated(fit, question, site, given, args, seed)
    if site in question.particles:
        return _by_draws(question, site)
    tables = question.tables(site)
    if not question.new or not _weighted(question):
        return tables.exp().mean(0)
    plates = question.shared_plates([site], without=fit.global_sites)
    log_w = question.log_rows(plates)
    joint = _align(log_w, plates, question, site) + tables
    return joint.logsumexp(0).softmax(-1)


def log_prob(
    fit: Fit, values: Mapping[str, Any], given: Any, args: tuple[Any, ...] | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Log density and its standard error, in nats; arguments as in ``Posterior.log_prob``."""
    if not isinstance(values, Mapping):
        raise ValueError(f"values: expected a mapping of site names to arrays, got {type(values).__name__}.")
    if not values:
        raise ValueError("values: expected at least one site name and value, got none.")
    overlap = set(values) & set(given or {})
    if overlap:
        raise ValueError(f"values: {sorted(overlap)[0]!r} is in given too, expected one of them.")
    if fit.local is not None:
        fit.local.require_density()
    _refuse_globals(fit, values)
    joint = row_questions.pose(fit, {**(given or {}), **values}, args, "values")
    below = row_questions.pose(fit, given, args) if given and joint is not None else None
    if joint is not None and (below is not None or not given):
        return row_questions.log_density(joint, below, seed)
    question = ask(fit, {**(given or {}), **values}, args, (), "values", seed)
    shared = [n for n in given or {} if n in fit.global_sites]
    plates = question.shared_plates(without=shared)
    result, error = log_mean(question.log_rows(plates), 0)
    if given:
        base = ask(fit, given, args, (), "given", seed)
        known, known_error = log_mean(base.log_rows(plates), 0)
        result, error = result - known, (error.square() + known_error.square()).sqrt()
    return result, error


def _seen_whole(fit: Fit, site: str) -> bool:
    return site in fit.observations and fit.observations[site].seen is None


def _require_discrete(fit: Fit, site: str, given: Any) -> None:
    if fit.local is not None:
        fit.local.require_density()
    if given is not None and site in given and getattr(given[site], "mask", None) is None:
        raise ValueError(
            f"given: {site!r} is both given and asked for; expected one of the two. Mask the "
            f"elements that are to be inferred."
        )
    target = fit.structure.sites.get(site)
    if target is not None and not target.enumerable:
        raise ValueError(
            f"site: expected a discrete site that can be enumerated, got {site!r}, a "
            f"{type(target.fn).__name__}. For its density, use log_prob; for draws, sample."
        )


def _weighted(question: Question) -> bool:
    given = [n for n in question.observations if n not in question.particles]
    return bool(given) or bool(question.simulated)


def _align(log_w: Tensor, plates: list[Any], question: Question, site: str) -> Tensor:
    """Give per-row weights the axes of a site's table (draws, *site shape, categories)."""
    target, names = question.structure.sites[site], [p.name for p in plates]
    shape = [1] * len(target.shape)
    for plate in target.plates:
        shape[plate.dim] = plate.size if plate.name in names else 1
    return log_w.reshape(len(log_w), *shape, 1)


def _tabulated(fit: Fit, question: Question, site: str, given: Any, args: Any, seed: int) -> Tensor:
    """A site on which simulated sites depend: condition on each of its values in turn."""
    target = question.structure.sites[site]
    known = question.observations.get(site)
    columns = []
    for value in target.fn.enumerate_support(expand=False).reshape(-1):
        assumed = {**(given or {}), site: torch.full(target.shape, float(value)).to(value.dtype)}
        column = ask(fit, assumed, args, (), seed=seed)
        log_p, _ = log_mean(column.log_rows(column.shared_plates(without=fit.global_sites)), 0)
        if list(log_p.shape) != [p.size for p in target.plates]:
            raise ValueError(
                f"site: {site!r} has shape {tuple(target.shape)}, but what depends on it is simulated "
                f"for whole rows of shape {tuple(log_p.shape)}; its probabilities cannot be told apart."
            )
        if known is not None and known.seen is not None:
            log_p = torch.where(known.seen & (known.value != value), -math.inf, log_p.reshape(target.shape))
        columns.append(log_p.reshape(target.shape))
    return torch.stack(columns, -1).softmax(-1)


def _by_draws(question: Question, site: str) -> Tensor:
    """A global discrete site in the light of new rows: the weighted share of the draws at each value."""
    log_w = question.log_rows([]) if question.counted else torch.zeros(question.draws)
    drawn, fn = question.particles[site], question.structure.sites[site].fn
    hits = drawn[..., None] == fn.enumerate_support(expand=False).reshape(-1)
    return torch.tensordot(log_w.double().softmax(0), hits.double(), 1)


def _refuse_globals(fit: Fit, values: Mapping[str, Any]) -> None:
    fitted = [n for n in values if n in fit.global_sites]
    if fitted and not fit.prior_draws:
        raise ValueError(
            f"values: {fitted[0]!r} is shared by all rows and was inferred; the posterior is known by "
            f"draws, which have no density. Use posterior.guide for the guide's."
        )
