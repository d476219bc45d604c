"""Questions to a fit whose unknowns all belong to rows: answered row by row, all draws in one run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.amortized import Proposal
from inference.evidence import as_evidence, require_maskable
from inference.fitted import Fit, Particles
from inference.handlers import Known
from inference.local import POOL, assumable, conditioned, training_proposal
from inference.plan import reaches_outside
from inference.psis import MINIMUM_DRAWS, pareto_smooth_rows
from inference.questions import about, require_sites
from inference.structure import Structure
from inference.tiles import Tiles, tiles_of

_MOST = 1024  # draws of a row that a sample is chosen from


def pose(
    fit: Fit,
    given: Mapping[str, Any] | None,
    args: tuple[Any, ...] | None,
    argument: str = "given",
    *,
    assume: Collection[str] = (),
    assume_all: bool = False,
) -> Proposal | None:
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
    evidence = as_evidence(given or {}, argument)
    require_sites(fit, [*evidence, *assume], argument)
    if not evidence and args is None:
        structure, checked = fit.structure, dict(fit.evidence)
    else:
        structure, checked = about(fit, evidence, args, argument)
    tiles = tiles_of(structure, checked)
    return None if tiles is None else _roles(fit, tiles, assume, assume_all)


def _roles(fit: Fit, tiles: Tiles, assume: Collection[str], assume_all: bool) -> Proposal | None:
    """Decide what becomes of every site, or ``None`` where that is not done row by row."""
    local, structure = fit.local, tiles.structure
    if local is None:
        return None
    sites, evidence = structure.sample_sites, tiles.evidence
    relevant = structure.ancestors([*evidence, *assume])
    hidden = [n for n in sites if n in relevant and n not in evidence and not sites[n].discrete]
    guided = local.guide is not None and bool(hidden) and set(hidden) <= set(local.proposed)
    if guided:
        relevant |= structure.ancestors(local.proposed)
        hidden = [n for n in local.proposed if n not in evidence]
    half = [n for n, e in evidence.items() if e.seen is not None and structure.children(n) & relevant]
    for name, one in evidence.items():
        if one.seen is not None and name not in half:
            require_maskable(name, sites[name].fn, one.seen, "given")
    discrete = [n for n in sites if n in relevant and sites[n].discrete and (n not in evidence or n in half)]
    fits = all(sites[n].enumerable and not reaches_outside(structure, n) for n in discrete)
    if not fits or any(not sites[n].discrete for n in half):
        return None
    above = set() if guided else structure.ancestors(hidden)  # what is drawn from the story follows them
    told = [
        n for n in discrete if n in assume or assume_all or n in above or (hidden and conditioned(local, n))
    ]
    if not all(assumable(sites[n]) for n in told) or not set(assume) <= set(told):
        return None
    dropped = tuple(n for n in sites if n not in relevant and n not in evidence)
    shared = [] if assume_all else structure.shared_plates([*evidence, *discrete, *hidden])
    plates = shared or [tiles.plate]
    return Proposal(
        tiles, local.guide if guided else None, tuple(hidden), tuple(told),
        tuple(n for n in discrete if n not in told), dropped, local.read, tuple(plates),
        local.masked,
    )  # fmt: skip


def blocks(proposal: Proposal, draws: int) -> Iterator[Tensor]:
    """All rows, in blocks of which all draws fit into one run."""
    tiles = proposal.tiles
    yield from torch.arange(tiles.rows).split(max(1, tiles.chunk // draws))


def log_prob(proposal: Proposal, seed: int) -> tuple[Tensor, Tensor]:
    """Log density of what is given, per row of the shared plates, and its standard error, in nats."""
    parts = []
    with proposal.tiles.structure.call.room(seed), torch.no_grad():
        for block in blocks(proposal, proposal.draws):
            parts.append(proposal.weigh(block, proposal.draws).log_mean())
    value, error = (torch.cat([part[i] for part in parts]).cpu() for i in (0, 1))
    return value, error


def log_density(joint: Proposal, below: Proposal | None, seed: int) -> tuple[Tensor, Tensor]:
    """Log density of some sites, given others where ``below`` proposes for those alone; and its error."""
    value, error = log_prob(joint, seed)
    if below is None:
        return value, error
    base, base_error = log_prob(replace(below, plates=joint.plates), seed)
    return value - base, (error.square() + base_error.square()).sqrt()


def probabilities(proposal: Proposal, site: str, seed: int) -> Tensor:
    """Probabilities of an assumed site given what was seen: (rows, categories)."""
    support = proposal.tiles.structure.sites[site].fn.enumerate_support(expand=False).reshape(-1)
    tables = []
    with proposal.tiles.structure.call.room(seed), torch.no_grad():
        for block in blocks(proposal, proposal.draws):
            found = proposal.weigh(block, proposal.draws)
            each = found.log_w.logsumexp(1)  # as many draws for every value
            held = torch.stack([combination[site] for combination in found.combinations])
            columns = [each[(held == value).to(each.device)].logsumexp(0) for value in support]
            tables.append(torch.stack(columns, -1).softmax(-1))
    shape = [*proposal.tiles.structure.sites[site].shape, len(support)]
    return torch.cat(tables).reshape(shape).cpu()


def sample(fit: Fit, proposal: Proposal, sites: Sequence[str], count: int, seed: int) -> dict[str, Tensor]:
    """Draw sites given what was seen: each (count, *site shape).

    Latent sites are chosen, for every row by itself, among weighted draws; what depends on them is then
    drawn from the story, all samples in one run. Of the fitted rows, sites that were data are drawn anew.
    """
    tiles = proposal.tiles
    again = tiles.structure is fit.structure
    known = {n: e for n, e in tiles.evidence.items() if not (again and n in sites)}
    with tiles.structure.call.room(seed), torch.no_grad():
        chosen: dict[str, Tensor] = {}
        if fit.local is not None and fit.local.refusal:
            _require_nothing_hidden(fit, known, tiles.structure)
        elif tiles.evidence and (proposal.proposed or proposal.assumed):
            draws = proposal.draws if proposal.filled else max(proposal.draws, min(4 * count, _MOST))
            chosen = choose(proposal, count, draws)
        return forward(replace(tiles, evidence=known), chosen, sites, count)


def _require_nothing_hidden(fit: Fit, known: Collection[str], structure: Structure) -> None:
    """A story without a likelihood can be run forward from what is given, and no more."""
    hidden = structure.ancestors(known) & set(structure.sample_sites) - set(known)
    if hidden and fit.local is not None:
        fit.local.require_density()


def choose(proposal: Proposal, count: int, draws: int) -> dict[str, Tensor]:
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
            axis = proposal.tiles.axis(name) or 0
            pool = torch.cat([v.movedim(axis + 1, 1) for v in found.values[name]])
            parts[name].append(pool[index, every])
        for name in proposal.assumed:
            held = torch.stack([c[name] for c in found.combinations]).to(index.device)
            parts[name].append(held[index // draws])
    return {n: torch.cat(v, 1) for n, v in parts.items()}


def training_draws(fit: Fit) -> Particles:
    """Draws of the fitted rows' latent and deterministic sites: site -> (restart, draw, *site shape)."""
    local, sites = fit.local, fit.structure.sites
    if local is None or not local.proposed or local.refusal:
        return {}
    names = [n for n in sites if n in local.proposed or sites[n].kind == "deterministic"]
    restarts = []
    for restart in range(len(local.restarts)):
        proposal = training_proposal(local, fit.structure, dict(fit.evidence), restart)
        with proposal.tiles.structure.call.room(fit.seed + restart), torch.no_grad():
            if local.resampled or proposal.assumed or proposal.filled:
                draws = POOL * local.kept if local.resampled else proposal.draws
                chosen = choose(proposal, local.kept, draws)
            else:
                chosen = proposal.propose(local.kept)
            restarts.append(forward(proposal.tiles, chosen, names, local.kept))
    return {n: torch.stack([one[n] for one in restarts]) for n in names}


def forward(
    tiles: Tiles, chosen: Mapping[str, Tensor], sites: Sequence[str], count: int
) -> dict[str, Tensor]:
    """Run the story ``count`` times on all rows, some sites chosen: site -> (count, *site shape)."""
    columns: dict[str, list[Tensor]] = {n: [] for n in sites}
    flat = {n: v.flatten(0, 1) for n, v in chosen.items()}
    for place in tiles.chunks(torch.arange(count * tiles.rows)):
        index = place % tiles.rows
        known = tiles.values(index)
        for name, value in flat.items():
            picked = value[place.to(value.device)].movedim(0, tiles.axis(name) or 0)
            known[name] = picked.reshape(tiles.shape(name, len(place)))
        seen = {n: m for n, m in tiles.seen(index).items() if n not in flat}
        with Known(known, seen, resample=True):
            run: Any = poutine.trace(tiles.call(index)).get_trace()
        for name in sites:
            columns[name].append(run.nodes[name]["value"].detach())
    return {n: tiles.spread(n, tiles.joined(n, parts), count).cpu() for n, parts in columns.items()}
