"""Draws of rows' latent sites, chosen by their weights, and of what the story draws from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.answers.row_programs import PER_DRAW, Local, assumable, training_proposal
from inference.answers.row_proposal import RowProposal
from inference.answers.row_story import RowStory
from inference.checks.psis import MINIMUM_DRAWS, pareto_smooth_rows
from inference.story.handlers import Known
from inference.story.observations import Observation
from inference.story.structure import Structure


def blocks(proposal: RowProposal, draws: int) -> Iterator[Tensor]:
    """All rows, in blocks of which all draws fit into one run."""
    row_story = proposal.row_story
    yield from torch.arange(row_story.rows).split(max(1, row_story.chunk // draws))


def choose(proposal: RowProposal, count: int, draws: int) -> dict[str, Tensor]:
    """Choose values of the latent sites of every row by their weights, smoothed: (count, rows, ...)."""
    parts: dict[str, list[Tensor]] = {n: [] for n in [*proposal.proposed, *proposal.assumed]}
    draws = draws if proposal.proposed else 1
    for block in blocks(proposal, draws):
        found = proposal.weigh(block, draws)
        log_w = found.log_w.flatten(0, 1).T  # (rows, combinations x draws)
        if draws >= MINIMUM_DRAWS:
            log_w = pareto_smooth_rows(log_w)[0]
        index = torch.multinomial(log_w.softmax(-1), count, replacement=True).T
        every = torch.arange(len(block), device=index.device)
        for name in proposal.proposed:
            axis = proposal.row_story.axis(name) or 0
            pool = torch.cat([v.movedim(axis + 1, 1) for v in found.values[name]])
            parts[name].append(pool[index, every])
        for name in proposal.assumed:
            held = torch.stack([c[name] for c in found.combinations]).to(index.device)
            parts[name].append(held[index // draws])
    return {n: torch.cat(v, 1) for n, v in parts.items()}


def training_draws(
    local: Local, structure: Structure, observations: Mapping[str, Observation], seed: int
) -> dict[str, Tensor]:
    """Draws of the fitted rows' latent and deterministic sites: site -> (restart, draw, *site shape)."""
    sites = structure.sites
    if not local.proposed or local.refusal:
        return {}
    names = [n for n in sites if n in local.proposed or sites[n].kind == "deterministic"]
    restarts = []
    for restart in range(len(local.restarts)):
        proposal = _told(training_proposal(local, structure, dict(observations), restart), names)
        hidden = set(proposal.summed)  # run forward, they would be drawn from their prior
        names = [n for n in names if n in local.proposed or not hidden & structure.ancestors([n])]
        with proposal.row_story.structure.call.room(seed + restart), torch.no_grad():
            if local.resampled or proposal.assumed or proposal.filled:
                draws = PER_DRAW * local.kept if local.resampled else proposal.draws
                chosen = choose(proposal, local.kept, draws)
            else:
                chosen = proposal.propose(local.kept)
            restarts.append(forward(proposal.row_story, chosen, names, local.kept))
    return {n: torch.stack([one[n] for one in restarts]) for n in names}


def _told(proposal: RowProposal, names: Sequence[str]) -> RowProposal:
    """Assume, rather than sum out, the discrete sites that deterministic ones depend on: these are drawn."""
    structure = proposal.row_story.structure
    above = structure.ancestors(n for n in names if structure.sites[n].kind == "deterministic")
    told = tuple(n for n in proposal.summed if n in above and assumable(structure.sites[n]))
    rest = tuple(n for n in proposal.summed if n not in told)
    return replace(proposal, assumed=(*proposal.assumed, *told), summed=rest) if told else proposal


def forward(
    row_story: RowStory, chosen: Mapping[str, Tensor], sites: Sequence[str], count: int
) -> dict[str, Tensor]:
    """Run the story ``count`` times on all rows, some sites chosen: site -> (count, *site shape)."""
    columns: dict[str, list[Tensor]] = {n: [] for n in sites}
    flat = {n: v.flatten(0, 1) for n, v in chosen.items()}
    for place in row_story.chunks(torch.arange(count * row_story.rows)):
        index = place % row_story.rows
        known = row_story.values(index)
        for name, value in flat.items():
            picked = value[place.to(value.device)].movedim(0, row_story.axis(name) or 0)
            known[name] = picked.reshape(row_story.shape(name, len(place)))
        seen = {n: m for n, m in row_story.seen(index).items() if n not in flat}
        with Known(known, seen, resample=True):
            run: Any = poutine.trace(row_story.call(index)).get_trace()
        for name in sites:
            columns[name].append(run.nodes[name]["value"].detach())
    return {n: row_story.spread(n, row_story.joined(n, parts), count).cpu() for n, parts in columns.items()}
