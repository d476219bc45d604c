"""Questions to a fit whose unknowns all belong to rows: answered row by row, all draws in one run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.answers.questions import about, require_sites
from inference.answers.result import Fit
from inference.answers.row_draws import blocks, choose, forward
from inference.answers.row_programs import assumable, conditioned
from inference.answers.row_proposal import RowProposal
from inference.answers.row_story import RowStory, row_story_of
from inference.story.inspection import inspect_story
from inference.story.joint import told_apart
from inference.story.observations import Observation, as_observations, require_maskable
from inference.story.structure import Structure

_LOOKED_AT = 16  # rows on which it is looked for what mixes them
_MOST = 1024  # draws of a row that a sample is chosen from


def pose(
    fit: Fit,
    given: Mapping[str, Any] | None,
    args: tuple[Any, ...] | None,
    argument: str = "given",
    *,
    assume: Collection[str] = (),
    assume_all: bool = False,
) -> RowProposal | None:
    """Turn a question into a proposal for its rows.

    Args:
        fit: whose unknowns all belong to rows.
        given: site name -> value; nothing, and no ``args``, asks about the fitted rows.
        args: what the story is called with for the new rows.
        argument: what the caller calls ``given``, for error messages.
        assume: discrete sites to be conditioned on value by value.
        assume_all: condition on all discrete sites that matter so, to draw them.

    Returns:
        ``None`` where the question is not one of separate rows; it is then asked as any other.

    Raises:
        ValueError: for unknown sites and values that do not fit.
    """
    if fit.local is None:
        return None
    observations = as_observations(given or {}, argument)
    require_sites(fit, [*observations, *assume], argument)
    if not observations and args is None:
        structure, checked = fit.structure, dict(fit.observations)
    else:
        structure, checked = about(fit, observations, args, argument)
    row_story = row_story_of(structure, checked)
    return None if row_story is None else _roles(fit, row_story, assume, assume_all)


def _roles(fit: Fit, row_story: RowStory, assume: Collection[str], assume_all: bool) -> RowProposal | None:
    """Decide what becomes of every site, or ``None`` where that is not done row by row."""
    local, structure = fit.local, row_story.structure
    if local is None:
        return None
    sites, observations = structure.sample_sites, row_story.observations
    relevant = structure.ancestors([*observations, *assume])
    hidden = [n for n in sites if n in relevant and n not in observations and not sites[n].discrete]
    guided = local.guide is not None and bool(hidden) and set(hidden) <= set(local.proposed)
    if guided:
        relevant |= structure.ancestors(local.proposed)
        hidden = [n for n in local.proposed if n not in observations]
    half = [n for n, e in observations.items() if e.seen is not None and structure.children(n) & relevant]
    for name, one in observations.items():
        if one.seen is not None and name not in half:
            require_maskable(name, sites[name].fn, one.seen, "given")
    discrete = [
        n for n in sites if n in relevant and sites[n].discrete and (n not in observations or n in half)
    ]
    if any(not sites[n].enumerable for n in discrete) or any(not sites[n].discrete for n in half):
        return None
    above = set() if guided else structure.ancestors(hidden)  # what is drawn from the story follows them
    told = [
        n for n in discrete if n in assume or assume_all or n in above or (hidden and conditioned(local, n))
    ]
    if not all(assumable(sites[n]) for n in told) or not set(assume) <= set(told):
        return None
    dropped = tuple(n for n in sites if n not in relevant and n not in observations)
    if discrete and not _apart(row_story, discrete, dropped):
        return None
    shared = [] if assume_all else structure.shared_plates([*observations, *discrete, *hidden])
    plates = shared or [row_story.plate]
    return RowProposal(
        row_story, local.guide if guided else None, tuple(hidden), tuple(told),
        tuple(n for n in discrete if n not in told), dropped, local.read, tuple(plates),
        local.masked,
    )  # fmt: skip


def _apart(row_story: RowStory, discrete: Sequence[str], dropped: Sequence[str]) -> bool:
    """Whether the discrete sites' rows can be told apart; looked at on some of the rows."""
    index = torch.linspace(0, row_story.rows - 1, min(row_story.rows, _LOOKED_AT)).long()
    seen = row_story.seen(index)
    given = {n: Observation(v, seen.get(n)) for n, v in row_story.values(index).items()}
    structure, observations = inspect_story(row_story.call(index), given, override=True)
    return told_apart(structure, observations, discrete, dropped)


def log_prob(proposal: RowProposal, seed: int) -> tuple[Tensor, Tensor]:
    """Log density of what is given, per row of the shared plates, and its standard error, in nats."""
    parts = []
    with proposal.row_story.structure.call.room(seed), torch.no_grad():
        for block in blocks(proposal, proposal.draws):
            parts.append(proposal.weigh(block, proposal.draws).log_mean())
    value, error = (torch.cat([part[i] for part in parts]).cpu() for i in (0, 1))
    return value, error


def log_density(joint: RowProposal, below: RowProposal | None, seed: int) -> tuple[Tensor, Tensor]:
    """Log density of some sites, given others where ``below`` proposes for those alone; and its error."""
    value, error = log_prob(joint, seed)
    if below is None:
        return value, error
    base, base_error = log_prob(replace(below, plates=joint.plates), seed)
    return value - base, (error.square() + base_error.square()).sqrt()


def probabilities(proposal: RowProposal, site: str, seed: int) -> Tensor:
    """Probabilities of an assumed site given what was seen: (rows, categories)."""
    support = proposal.row_story.structure.sites[site].fn.enumerate_support(expand=False).reshape(-1)
    tables = []
    with proposal.row_story.structure.call.room(seed), torch.no_grad():
        for block in blocks(proposal, proposal.draws):
            found = proposal.weigh(block, proposal.draws)
            each = found.log_w.logsumexp(1)  # as many draws for every value
            held = torch.stack([combination[site] for combination in found.combinations])
            columns = [each[(held == value).to(each.device)].logsumexp(0) for value in support]
            tables.append(torch.stack(columns, -1).softmax(-1))
    shape = [*proposal.row_story.structure.sites[site].shape, len(support)]
    return torch.cat(tables).reshape(shape).cpu()


def sample(fit: Fit, proposal: RowProposal, sites: Sequence[str], count: int, seed: int) -> dict[str, Tensor]:
    """Draw sites given what was seen: each (count, *site shape).

    Latent sites are chosen, for every row by itself, among weighted draws; what depends on them is then
    drawn from the story, all samples in one run. Of the fitted rows, sites that were data are drawn anew.
    """
    row_story = proposal.row_story
    again = row_story.structure is fit.structure
    known = {n: e for n, e in row_story.observations.items() if not (again and n in sites)}
    with row_story.structure.call.room(seed), torch.no_grad():
        chosen: dict[str, Tensor] = {}
        if fit.local is not None and fit.local.refusal:
            _require_nothing_hidden(fit, known, row_story.structure)
        elif row_story.observations and (proposal.proposed or proposal.assumed):
            draws = proposal.draws if proposal.filled else max(proposal.draws, min(4 * count, _MOST))
            chosen = choose(proposal, count, draws)
        return forward(replace(row_story, observations=known), chosen, sites, count)


def _require_nothing_hidden(fit: Fit, known: Collection[str], structure: Structure) -> None:
    """A story without a likelihood can be run forward from what is given, and no more."""
    hidden = structure.ancestors(known) & set(structure.sample_sites) - set(known)
    if hidden and fit.local is not None:
        fit.local.require_density()
