"""Weigh draws of guides against their targets, and resample them by their weights.

Draws come half from the fitted Gaussians and half from Student t's of the same location and scale, and are
weighed against the mixture of both (``guides/mixture.py``): a Gaussian's weights give false alarms where
the target's tails are a little heavier, a Student t's do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from inference.adapting import adapt
from inference.problems import Problems
from inference.psis import khat_threshold, pareto_smooth_rows

FRACTION = 0.1  # smallest effective size that is trusted, as a fraction of the pool
ERRORS = 3.0  # standard errors by which two batches' log evidence may differ
POOL = 2048  # draws at least; the threshold for k-hat is then .698
_GROWTH = 5  # how often the pool is doubled when it is too thin to resample without replacement
EASY = 0.3  # k-hat below which a proposal is left as it is
_FITTED = 0.5  # k-hat with which a fitted one is content: the weights' variance is finite
_ADAPTATIONS = 4
_LIGHT = 0.35  # k-hat below which squares of quantities have no heavier tails than the draws themselves
_REPEATS = 0.01  # share of the resampled draws that may be repeats of a heavy one


class Proposal(Protocol):
    """What pools are drawn from, for many problems at once."""

    def sample(self, count: int, generators: list[torch.Generator]) -> Tensor:
        """(problems, count, size)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """(problems, draws), in nats."""

    def of(self, which: Tensor | None) -> Any:
        """Those of some problems."""

    def put(self, rows: Tensor, other: Any) -> Any:
        """With those of some problems replaced."""


@dataclass(frozen=True)
class Replicate:
    """One problem after the check: its draws, their log densities, and what their weights say.

    Attributes:
        z: (draws, size) unconstrained, equally weighted.
        log_p, log_q: (draws,) target and proposal log density, in unconstrained space, in nats.
        resampled: whether the draws were resampled by their weights.
        elbo: of the guide, in nats.
        khat, ess, pool: Pareto k-hat and effective size of the weights of ``pool`` draws.
        log_evidence, log_evidence_stderr: log of the mean weight, and its standard error.
        batches_agree: whether two halves of the pool agree about it.
        heavy: the pool (draws, size) and its normalized log weights, where the weights are heavy enough to
            be looked at once more for every quantity.
    """

    z: Tensor
    log_p: Tensor
    log_q: Tensor
    resampled: bool
    elbo: float
    khat: float
    ess: float
    pool: int
    log_evidence: float
    log_evidence_stderr: float
    batches_agree: bool
    heavy: tuple[Tensor, Tensor] | None = None

    @property
    def certified(self) -> bool:
        """Whether this problem's weights pass on their own."""
        return (
            self.resampled
            and self.khat < khat_threshold(self.pool)
            and self.ess >= FRACTION * self.pool
            and self.batches_agree
        )


@dataclass
class Pool:
    """Draws of all problems with their log densities: (problems, draws, size) and (problems, draws)."""

    z: Tensor
    log_p: Tensor
    log_q: Tensor

    @cached_property
    def log_w(self) -> Tensor:
        """Log weights; ``-inf`` where the target has no density."""
        return torch.where(torch.isfinite(self.log_p), self.log_p - self.log_q, -torch.inf)

    def join(self, other: Pool) -> Pool:
        """Both pools' draws."""
        return Pool(
            torch.cat([self.z, other.z], 1),
            torch.cat([self.log_p, other.log_p], 1),
            torch.cat([self.log_q, other.log_q], 1),
        )

    def of(self, rows: Tensor) -> Pool:
        """Those of some problems."""
        return Pool(self.z[rows], self.log_p[rows], self.log_q[rows])


@dataclass(frozen=True)
class Weighed:
    """Each problem's draws with what their weights say, and the proposals that made them.

    Attributes:
        replicates: one for each problem.
        proposal: as it was given, or adapted.
        adapted: (problems,) whether it was.
    """

    replicates: list[Replicate]
    proposal: Any
    adapted: Tensor


def weigh(
    problems: Problems,
    proposal: Proposal,
    elbo: Tensor,
    draws: int,
    generators: list[torch.Generator],
    least: int = POOL,
    *,
    easy: float | None = None,
) -> Weighed:
    """Weigh fresh draws against the targets and resample them.

    A pool that passes but is too thin to resample without replacement is doubled, up to five times. A
    problem that does not pass gets draws of its proposal as they are.

    Args:
        problems: the targets.
        proposal: for all of them.
        elbo: (problems,) of the guides, in nats.
        draws: how many equally weighted draws are wanted.
        generators: of the fresh draws, one for each problem.
        least: smallest pool.
        easy: k-hat from which a proposal is fitted to its own weighted draws; ``None`` for one that cannot.
    """
    rows: Tensor = torch.arange(len(elbo))
    adapted = torch.zeros(len(elbo), dtype=torch.bool)
    waiting, done = [], {}
    for attempt in range(1 if easy is None else _ADAPTATIONS + 1):
        size = max(least, least * 2 ** ((attempt + 1) // 2)) if easy is not None else max(least, 2 * draws)
        some = [generators[p] for p in rows.tolist()]
        pool = _draw(problems, proposal, size, some, rows)
        smoothed, khat = _smooth(pool.log_w)
        hard = (khat >= (_FITTED if attempt else easy or 0.0)) | (
            _effective(pool.log_w) < 2 * FRACTION * size
        )
        hard &= torch.isfinite(pool.log_w).any(1) & (easy is not None) & (attempt < _ADAPTATIONS)
        waiting.append((rows[~hard], pool.of(~hard)))
        if not bool(hard.any()):
            break
        some = [g for g, h in zip(some, hard.tolist(), strict=True) if h]
        rows = rows[hard]
        proposal = proposal.put(rows, adapt(proposal.of(rows), pool.z[hard], smoothed[hard], some))
        adapted[rows] = True
    for rows, pool in waiting:
        if len(rows):
            done.update(_grown(problems, proposal, elbo, draws, generators, rows, pool))
    failed = {
        p: r.heavy for p, r in done.items() if easy is not None and r.heavy is not None and not r.certified
    }
    for p, (z, smoothed) in failed.items():  # the larger pool told more
        one = torch.tensor([p])
        better = adapt(proposal.of(one), z[None], smoothed[None], [generators[p]])
        proposal = proposal.put(one, better)
        pool = _draw(problems, proposal, max(POOL, len(z) // 2), [generators[p]], one)
        done.update(_grown(problems, proposal, elbo, draws, generators, one, pool))
    return Weighed([done[p] for p in range(len(elbo))], proposal, adapted)


def _grown(
    problems: Problems,
    proposal: Proposal,
    elbo: Tensor,
    draws: int,
    generators: list[torch.Generator],
    rows: Tensor,
    pool: Pool,
) -> dict[int, Replicate]:
    """Double the pools until there are enough draws in them, and resample those."""
    done = {}
    growth = _GROWTH + max(0, math.ceil(math.log2(2 * draws / pool.z.shape[1])))
    for attempt in range(growth + 1):
        smoothed, khat = _smooth(pool.log_w)
        ess = _effective(pool.log_w)
        size = pool.z.shape[1]
        promising = (khat < khat_threshold(size)) & (ess >= FRACTION * size)
        enough = (smoothed.exp() - 1 / draws).clamp(min=0).sum(-1) <= _REPEATS
        more = promising & ~enough & (attempt < growth) | (size < 2 * draws)
        settled = ~more
        if bool(settled.any()):
            facts = _facts(pool.log_w, khat, ess, elbo[rows])
            for i in settled.nonzero().squeeze(-1).tolist():
                p, passed = int(rows[i]), bool(promising[i] & enough[i])
                done[p] = _replicate(pool, i, smoothed[i], passed, facts[i], draws, generators[p])
        if not bool(more.any()):
            break
        rows, pool = rows[more], pool.of(more)
        lack = max(size, 2 * draws - size)
        pool = pool.join(_draw(problems, proposal, lack, [generators[p] for p in rows.tolist()], rows))
    return done


def _draw(
    problems: Problems,
    proposal: Proposal,
    count: int,
    generators: list[torch.Generator],
    rows: Tensor,
) -> Pool:
    """Fresh draws of some problems."""
    which = None if len(rows) == problems.count else rows
    mine = proposal.of(which)
    z = mine.sample(count, generators)
    return Pool(z, problems.log_prob(z, which), mine.log_prob(z))


def _smooth(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Smoothed normalized log weights and k-hat; infinite where no draw meets the target."""
    hopeless = (log_w == -torch.inf).all(-1)
    smoothed, khat = pareto_smooth_rows(torch.where(hopeless[:, None], 0.0, log_w))
    return smoothed, torch.where(hopeless, math.inf, khat)


def _effective(log_w: Tensor) -> Tensor:
    return (2 * log_w.logsumexp(-1) - (2 * log_w).logsumexp(-1)).exp().nan_to_num(0.0)


@dataclass(frozen=True)
class _Facts:
    """What is said about one problem's weights; as in :class:`Replicate`."""

    elbo: float
    khat: float
    ess: float
    log_evidence: float
    log_evidence_stderr: float
    batches_agree: bool


def _facts(log_w: Tensor, khat: Tensor, ess: Tensor, elbo: Tensor) -> list[_Facts]:
    """Of all problems at once."""
    mean, stderr = _log_mean(log_w)
    (a, a_error), (b, b_error) = (_log_mean(half) for half in log_w.chunk(2, 1))
    agree = (a - b).abs() <= ERRORS * torch.hypot(a_error, b_error) + 1e-9 * (1 + a.abs())
    columns = (elbo, khat, ess, mean, stderr, agree)
    return [_Facts(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _log_mean(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean weight of every row, and its standard error by the delta method."""
    count = log_w.shape[1]
    mean = log_w.logsumexp(1) - math.log(count)
    relative = (log_w - mean[:, None]).exp()
    return mean, relative.std(1) / math.sqrt(count)


def _replicate(
    pool: Pool,
    row: int,
    smoothed: Tensor,
    passed: bool,
    facts: _Facts,
    draws: int,
    generator: torch.Generator,
) -> Replicate:
    index = resample(smoothed, draws, generator) if passed else torch.arange(0, 2 * draws, 2)  # no tails
    return Replicate(
        pool.z[row][index], pool.log_p[row][index], pool.log_q[row][index], passed, facts.elbo, facts.khat,
        facts.ess, pool.z.shape[1], facts.log_evidence, facts.log_evidence_stderr, facts.batches_agree,
        (pool.z[row], smoothed) if facts.khat > _LIGHT else None,
    )  # fmt: skip


def resample(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Systematic resampling of a shuffled pool.

    Index i is chosen ``count * weight_i`` times on average; at most once where that is below one, so
    that resampled draws are distinct and ArviZ's effective sample size is not fooled.

    Args:
        log_weights: (pool,) normalized.
        count: how many to choose.

    Returns:
        (count,) indices, in random order.
    """
    order = torch.randperm(len(log_weights), generator=generator)
    total = log_weights[order].exp().cumsum(0)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    positions = (torch.arange(count, dtype=torch.float64) + start) / count * total[-1]
    index = order[torch.searchsorted(total, positions).clamp(max=len(order) - 1)]
    return index[torch.randperm(count, generator=generator)]
