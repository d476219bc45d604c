"""ArviZ's groups for a fit whose unknowns all belong to rows, thinned so that ten thousand rows fit.

A chain is a restart, with the networks that it trained: its latent sites mean what they mean under these,
so R-hat of the latent sites of a network says only whether two restarts happened upon the same coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.answers import row_questions
from inference.answers.result import Fit
from inference.answers.row_draws import forward
from inference.answers.row_programs import Local, training_proposal
from inference.answers.row_proposal import RowProposal
from inference.arviz_groups.build import Group
from inference.density.enumeration import row_log_prob

PerRow = Callable[[RowProposal, Tensor, dict[str, Tensor]], Tensor]
_NUMBERS = 2**24  # per group of draws of observed sites: 64 MB in float32


def groups(fit: Fit, local: Local, predictive: int, kind: str, joint: str) -> dict[str, Group]:
    """The groups that follow from draws of the rows.

    Args:
        fit, local: the fit and its programs.
        predictive: draws in the predictive groups, at most; fewer where they would hold more than 2^24
            numbers.
        kind: "joint" or "sites", as in ``Posterior.to_arviz``.
        joint: the name of the joint log likelihood.
    """
    filled: dict[str, Group] = {"posterior": {n: v.numpy() for n, v in fit.values.items()}}
    if not local.refusal:
        filled["log_likelihood"] = _log_likelihood(fit, local, kind, joint)
        filled["log_prior"] = _log_prior(fit, local)
    count = min(
        predictive, max(1, _NUMBERS // sum(fit.structure.sites[n].value.numel() for n in fit.observed))
    )
    if count:
        filled["posterior_predictive"] = _predictive(fit, local, count)
        filled.update(_prior(fit, local, count))
    return filled


def joint_plates(fit: Fit) -> list[str]:
    """Names of the plates that the joint log likelihood keeps."""
    proposal = row_questions.pose(fit, None, None)
    return [] if proposal is None else [p.name for p in proposal.plates]


def _per_draw(fit: Fit, local: Local, one: PerRow) -> np.ndarray:
    """Evaluate a function of selected rows and their latent values at every draw: (chain, draw, row, ...).

    Where nothing was drawn there is one draw, of the restart that answers.
    """
    drawn = bool(local.proposed)
    count = local.kept if drawn else 1
    chains = []
    for restart in range(len(local.restarts)) if drawn else [local.best]:
        proposal = training_proposal(local, fit.structure, dict(fit.observations), restart)
        row_story = proposal.row_story
        axes = {n: row_story.axis(n) or 0 for n in local.proposed}
        flat = {n: fit.values[n][restart].movedim(axis + 1, 1).flatten(0, 1) for n, axis in axes.items()}
        parts = []
        with row_story.structure.call.room(0), torch.no_grad():
            for place in row_story.chunks(torch.arange(count * row_story.rows)):
                values = {n: row_story.place(n, v[place].movedim(0, axes[n])) for n, v in flat.items()}
                parts.append(one(proposal, place % row_story.rows, values).cpu())
        chains.append(torch.cat(parts).unflatten(0, (count, row_story.rows)))
    return torch.stack(chains).numpy()


def _run(proposal: RowProposal, index: Tensor, values: dict[str, Tensor]) -> tuple[Any, set[str]]:
    """A run of the story at the latent values, and the discrete sites that are summed out in it."""
    hidden = {*proposal.assumed, *proposal.summed}
    run, _ = replace(proposal, assumed=(), summed=tuple(hidden)).run_story(index, {}, values)
    return run, hidden


def _log_likelihood(fit: Fit, local: Local, kind: str, joint: str) -> Group:
    """Log density of what was seen given the latent sites, discrete ones summed out."""
    whole = row_questions.pose(fit, None, None)
    shared = [] if whole is None else [p.name for p in whole.plates]

    def of(names: set[str], plates: list[str]) -> PerRow:
        def one(proposal: RowProposal, index: Tensor, values: dict[str, Tensor]) -> Tensor:
            run, hidden = _run(proposal, index, values)
            hidden &= fit.structure.ancestors(names)
            sites = {p.name: p for n in fit.observed for p in fit.structure.sites[n].plates}
            kept = replace(proposal, plates=tuple(sites[p] for p in plates)).sized(len(index))
            if not hidden:
                return row_log_prob(run, names, kept)
            drawn = set(values)  # the latent sites may tell of the hidden ones
            both = row_log_prob(run, names | hidden | drawn, kept)
            return both - (row_log_prob(run, hidden | drawn, kept) if drawn else 0.0)

        return one

    if kind == "joint":
        return {joint: _per_draw(fit, local, of(set(fit.observed), shared))}
    own = {n: [p.name for p in fit.structure.sites[n].plates] for n in fit.observed}
    hidden = {n for n, s in fit.structure.sample_sites.items() if s.discrete and n not in fit.observations}
    apart = {n: bool(fit.structure.ancestors([n]) & hidden) for n in fit.observed}
    return {n: _per_draw(fit, local, of({n}, shared if apart[n] else own[n])) for n in fit.observed}


def _log_prior(fit: Fit, local: Local) -> Group:
    sites = fit.structure
    discrete = {n for n, s in sites.sample_sites.items() if s.discrete}

    def of(name: str) -> PerRow:
        def one(proposal: RowProposal, index: Tensor, values: dict[str, Tensor]) -> Tensor:
            run, _ = _run(proposal, index, values)
            return row_log_prob(run, {name}, proposal.sized(len(index)))

        return one

    names = [n for n in local.proposed if not sites.ancestors([n]) & discrete]
    return {name: _per_draw(fit, local, of(name)) for name in names}


def _predictive(fit: Fit, local: Local, count: int) -> Group:
    """Every observed site drawn anew for the fitted rows, under the restart that answers."""
    names = list(fit.observed)
    proposal = row_questions.pose(fit, None, None, assume_all=True)
    if proposal is None or local.refusal:
        return _prior(fit, local, count)["prior_predictive"]
    if proposal.assumed or not local.proposed:
        drawn = row_questions.sample(fit, proposal, names, count, fit.seed)
        return {n: v[None].numpy() for n, v in drawn.items()}
    count = min(count, local.kept)
    keep, row_story = torch.linspace(0, local.kept - 1, count).round().long(), proposal.row_story
    latent = {n: fit.values[n][local.best][keep] for n in local.proposed}
    chosen = {n: row_story.place(n, v.movedim((row_story.axis(n) or 0) + 1, 1)) for n, v in latent.items()}
    with row_story.structure.call.room(fit.seed), torch.no_grad():
        drawn = forward(replace(row_story, observations={}), chosen, names, count)
    return {n: v[None].numpy() for n, v in drawn.items()}


def _prior(fit: Fit, local: Local, count: int) -> dict[str, Group]:
    """The story with nothing given, for as many rows as were fitted."""
    proposal = row_questions.pose(fit, None, None)
    if proposal is None:
        return {}
    row_story, names = replace(proposal.row_story, observations={}), [*local.proposed, *fit.observed]
    with row_story.structure.call.room(fit.seed), torch.no_grad():
        drawn = forward(row_story, {}, names, count)
    prior = {n: v[None].numpy() for n, v in drawn.items()}
    return {
        "prior": {n: prior[n] for n in local.proposed},
        "prior_predictive": {n: prior[n] for n in fit.observed},
    }
