"""Check a fit whose unknowns all belong to rows: how good is the guide, row by row?

Joint importance weights over the latent sites of ten thousand rows could certify nothing: the variance of
their product grows with every row. But rows are independent given the trained parameters, so each has
weights of its own. On up to 1,000 rows, 256 draws each give Pareto k-hat, the ELBO and the
importance-weighted bound, whose difference says how much of log p(row) the guide gives away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide

from inference.answers.result import Fit
from inference.answers.row_programs import Local, Programs, affordable, training_proposal, with_story
from inference.answers.row_proposal import RowProposal, log_mean
from inference.answers.row_story import RowStory, row_story_of
from inference.checks.certificate import RowCheck
from inference.checks.psis import khat_threshold, pareto_smooth_rows
from inference.story.observations import Observation
from inference.story.programs import Baked, FittedGuide, signature
from inference.story.structure import Structure
from inference.svi.guide_draws import dimension
from inference.svi.overlooked import overlooked
from inference.svi.target import Target

_ROWS = 1000  # that are checked for the restart that answers
_OTHERS = 250  # for each of the other restarts
_FLAGGED = 0.1  # share of rows with a k-hat above the limit that is tolerated
_EQUAL = 1e-3  # nats by which the largest weights may differ and count as equal; single precision's rounding
_SPREAD = 0.05  # nats per observed number by which restarts may differ


@dataclass(frozen=True)
class TrainedRestarts:
    """What training handed over: one entry per restart, and which of them is best.

    Attributes:
        target: the story and its data.
        stories, guides: trained programs; guides may be ``None``.
        params: name -> constrained value, of each restart.
        best: index of the restart that answers.
        converged: whether each ended by its own rule.
        held_out: structure and data of rows that were held out; ``None`` without.
        refusal: why the story has no likelihood; empty where it has.
        notes: remarks on the training.
    """

    target: Target
    stories: Sequence[Any]
    guides: Sequence[Any]
    params: Sequence[Mapping[str, Any]]
    best: int
    converged: Sequence[bool]
    held_out: tuple[Structure, Mapping[str, Observation]] | None = None
    refusal: str = ""
    notes: tuple[str, ...] = ()


def local_of(restarts: TrainedRestarts, draws: int) -> Local | None:
    """The trained programs of a fit whose unknowns all belong to rows; ``None`` where they do not.

    They do where every site lies in the data plate, and a guide, if one is needed, reads the rows (it has an
    argument ``data``) and draws each site in the story's plates, with a density.
    """
    target = restarts.target
    pairs = tuple(
        Programs(Baked(story, params), None if guide is None else Baked(guide, params))
        for story, guide, params in zip(restarts.stories, restarts.guides, restarts.params, strict=True)
    )
    structure = with_story(target.structure, pairs[restarts.best].story)
    row_story = row_story_of(structure, target.observations)
    if row_story is None or target.plan.filled:
        return None
    if restarts.refusal:
        return Local(pairs, restarts.best, read=tuple(target.data), refusal=restarts.refusal)
    guide, sampled = restarts.guides[restarts.best], set[str]()
    if target.names:
        if guide is None or isinstance(guide, AutoGuide) or "data" not in signature(guide).parameters:
            return None
        sampled = _sampled(row_story, pairs[restarts.best].guide, target)
        if not sampled:
            return None
    told = guide is not None and "seen" in signature(guide).parameters
    kept, resampled = affordable(structure, target.names, len(pairs), draws)
    return Local(
        pairs, restarts.best, target.names, tuple(n for n in target.plan.summed if n in sampled),
        tuple(target.data), tuple(target.plan.seen) if told else (), kept, resampled,
    )  # fmt: skip


def _sampled(row_story: RowStory, guide: Any, target: Target) -> set[str]:
    """The sites that a guide draws row by row; empty if it does otherwise."""
    count = min(2, row_story.rows)
    proposal = RowProposal(row_story, guide, target.names, read=tuple(target.data))
    with row_story.structure.call.room(0), torch.no_grad():
        index = torch.arange(count)
        run = proposal.run_guide(index, {}, row_story.values(index))
        drawn = {n: m for n, m in run.nodes.items() if m["type"] == "sample" and not m["is_observed"]}
        for name in target.names:
            frames = {(f.name, f.dim) for f in drawn[name]["cond_indep_stack"] if f.vectorized}
            own = {(p.name, p.dim) for p in target.structure.sites[name].plates}
            if frames != own or not dimension(drawn[name]):
                return set()
    noise = [n for n, m in drawn.items() if m["infer"].get("is_auxiliary") and dimension(m)]
    return set() if noise else set(drawn)


@dataclass(frozen=True)
class RowFindings:
    """What was found about a fit whose unknowns all belong to rows.

    Attributes:
        fit: the rows, and the trained programs that answer for them.
        guide: of the restart that answers; ``None`` where nothing is drawn.
        checks: one for each restart; none where the story has no likelihood.
        best: the restart that answers.
        held_out: the check on rows that were held out.
        spread: largest difference between the restarts' ELBOs, in nats per row.
        refusal: why the story has no likelihood; empty where it has.
        reasons: against trust.
        notes: remarks that do not bear on it.
    """

    fit: Fit
    guide: FittedGuide | None
    best: int
    checks: tuple[RowCheck, ...] = ()
    held_out: RowCheck | None = None
    spread: float | None = None
    refusal: str = ""
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def drawn(self) -> bool:
        """Whether a guide draws latent sites."""
        return self.fit.local is not None and bool(self.fit.local.proposed)

    @property
    def resampled(self) -> bool:
        """Whether draws are resampled by their weights."""
        return self.fit.local is not None and self.fit.local.resampled and self.drawn


def examine(restarts: TrainedRestarts, local: Local, seed: int) -> RowFindings:
    """Check such a fit, row by row."""
    target, best = restarts.target, restarts.best
    structure = with_story(target.structure, local.restarts[best].story)
    notes = [*_parameters(restarts), *restarts.notes]
    fit = Fit(structure, target.observations, local.proposed, seed=seed, local=local)
    if local.refusal:
        return RowFindings(fit, None, best, refusal=local.refusal, notes=tuple(notes))
    guide = None
    if local.guide is not None:
        guide = FittedGuide(restarts.guides[best], restarts.params[best], target.data, target.plan.seen)
    limits = [_ROWS if restart == best else _OTHERS for restart in range(len(local.restarts))]
    checks = [_check(restarts, local, restart, seed, limit) for restart, limit in enumerate(limits)]
    held_out = _held_out(restarts, local, seed)
    if len(checks) == 1:
        notes.append("There is a single restart: another might have reached a better optimum.")
    spread = _spread(restarts, local, checks, seed)
    reasons = _reasons(restarts, checks, held_out, spread)
    if local.guide is not None:
        missed = overlooked(fit, local, seed)
        reasons += [missed] if missed else []
    local = replace(local, resampled=local.resampled and not reasons)
    return RowFindings(
        replace(fit, local=local), guide, best, tuple(checks), held_out, spread, reasons=tuple(reasons),
        notes=tuple(notes),
    )  # fmt: skip


def _parameters(restarts: TrainedRestarts) -> list[str]:
    names = [n.replace("$$$", ".") for n in restarts.target.structure.params]
    if not names:
        return []
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return [f"Parameters {shown}: point estimates; the draws do not show their uncertainty."]


def _check(restarts: TrainedRestarts, local: Local, restart: int, seed: int, limit: int) -> RowCheck:
    target = restarts.target
    proposal = training_proposal(local, target.structure, target.observations, restart)
    return check_rows(proposal, limit if proposal.proposed else proposal.row_story.rows, seed)


def _held_out(restarts: TrainedRestarts, local: Local, seed: int) -> RowCheck | None:
    if restarts.held_out is None:
        return None
    structure, observations = restarts.held_out
    proposal = training_proposal(local, structure, dict(observations), restarts.best)
    limit = _ROWS if proposal.proposed else proposal.row_story.rows
    return check_rows(proposal, limit, seed, sample=True)


def check_rows(proposal: RowProposal, limit: int, seed: int, *, sample: bool = False) -> RowCheck:
    """Weigh draws of up to ``limit`` rows, picked at random by a fixed seed.

    Args:
        proposal: of the rows.
        limit: rows, at most.
        seed: of the draws.
        sample: whether the rows are a sample of what is asked about, so that their number counts in the
            error, however many were checked.
    """
    row_story, draws = proposal.row_story, proposal.draws
    order = torch.randperm(row_story.rows, generator=torch.Generator().manual_seed(0))
    rows = order[:limit].sort().values
    parts = []
    with row_story.structure.call.room(seed), torch.no_grad():
        for block in rows.split(max(1, row_story.chunk // draws)):
            parts.append(_by_row(proposal.weigh(block, draws).log_w.cpu(), bool(proposal.proposed)))
    elbo, bound, error, khat = (torch.cat([part[i] for part in parts]) for i in range(4))
    count, threshold = len(rows), khat_threshold(max(2, draws))
    share = 1.0 if sample else 1 - count / row_story.rows
    variance = bound.var().item() * share / count if count > 1 else 0.0
    gap = bound - elbo
    return RowCheck(
        rows=count,
        of=row_story.rows,
        draws=draws,
        elbo=float(elbo.mean()),
        bound=float(bound.mean()),
        stderr=math.sqrt(variance + float(error.square().sum()) / count**2),
        gap=float(gap.mean()),
        gap_stderr=float(gap.std()) / math.sqrt(count) if count > 1 else 0.0,
        khat=float(khat.quantile(1 - _FLAGGED, interpolation="lower")) if proposal.proposed else None,
        flagged=float((khat >= threshold).double().mean()),
        limit=threshold,
    )


def _by_row(log_w: torch.Tensor, drawn: bool) -> tuple[torch.Tensor, ...]:
    """ELBO, bound, its error and k-hat of every row, from (combinations, draws, rows) log weights.

    Where values of discrete sites are assumed in turn, the ELBO is that of the best distribution of theirs:
    the log of the sum over values of the exponential of each value's ELBO.
    """
    elbo = log_w.mean(1).logsumexp(0)
    pooled = log_w.logsumexp(0)
    bound, error = log_mean(pooled, 0)
    if not drawn:
        return bound, bound, torch.zeros_like(bound), torch.full_like(bound, -math.inf)
    hopeless = pooled.isnan().any(0) | (pooled == -math.inf).all(0)
    safe = torch.where(hopeless, 0.0, pooled)
    khat = torch.where(hopeless, math.inf, pareto_smooth_rows(safe.T, _EQUAL)[1])
    return elbo, bound, error, khat


def _spread(restarts: TrainedRestarts, local: Local, checks: Sequence[RowCheck], seed: int) -> float | None:
    """Largest difference between the restarts' ELBOs, on the same rows, in nats per row."""
    if len(checks) == 1:
        return None
    values = [c.elbo for c in checks]
    if len({c.rows for c in checks}) > 1:  # rows differ by more than restarts do
        values[restarts.best] = _check(restarts, local, restarts.best, seed, _OTHERS).elbo
    return max(values) - min(values)


def _reasons(
    restarts: TrainedRestarts, checks: Sequence[RowCheck], held_out: RowCheck | None, spread: float | None
) -> list[str]:
    reasons = []
    groups = [("fitted", max(checks, key=lambda c: c.flagged)), ("held-out", held_out)]
    for kind, one in groups:
        if one is not None and one.khat is not None and one.flagged > _FLAGGED:
            reasons.append(
                f"Pareto k-hat exceeds {one.limit:.2f} in {one.flagged:.1%} of the {kind} rows checked (at "
                f"most {_FLAGGED:.0%} are tolerated); the gap is {one.gap:.2f} nats per row. The guide is "
                f"too narrow or of the wrong shape there. Train longer, give it a larger network or a full "
                f"covariance, or fewer latent dimensions."
            )
    if not all(math.isfinite(c.bound) for c in checks):
        reasons.append("The log density of some rows is not finite: the story cannot have produced them.")
    if not all(restarts.converged):
        count = sum(not c for c in restarts.converged)
        reasons.append(
            f"{count} of {len(restarts.converged)} restarts stopped before convergence. Raise `steps`."
        )
    sites = restarts.target.structure.sites
    numbers = sum(sites[n].value.numel() for n in restarts.target.observations) / max(1, checks[0].of)
    if spread is not None and not spread <= _SPREAD * numbers:
        reasons.append(
            f"The restarts disagree: their ELBOs differ by {spread:.3g} nats per row, more than "
            f"{_SPREAD:g} for each of the {numbers:g} observed numbers of a row. Some found a worse optimum: "
            f"train longer, or with a smaller rate."
        )
    return reasons
