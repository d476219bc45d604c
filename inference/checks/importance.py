"""Weigh draws of guides against their targets, and resample them by their weights.

Draws come half from the fitted Gaussians and half from Student t's of the same location and scale, and are
weighed against the mixture of both (``guides/mixture.py``): a Gaussian's weights give false alarms where
the target's tails are a little heavier, a Student t's do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from inference.checks.adaptive_proposal import adapt
from inference.checks.psis import khat_threshold, pareto_smooth_rows, resample_rows
from inference.density.problems import Problems

FRACTION = 0.1  # smallest effective size that is trusted, as a fraction of the pool
ERRORS = 3.0  # standard errors by which two batches' log evidence may differ
POOL = 2048  # draws at least; the threshold for k-hat is then .698
_GROWTH = 32  # times that a pool may grow which is too thin to resample without replacement
_STEPS = (1.0, 0.5, 0.25, 0.125)  # parts of it that are added; the small ones early only
EASY = 0.3  # k-hat below which a proposal is left as it is
_FITTED = 0.5  # k-hat with which a fitted one is content: the weights' variance is finite
_ADAPTATIONS = 4
_TELLING = 0.25  # effective draws for each unknown without which nothing is learnt from them
_LIGHT = 0.35  # k-hat below which squares of quantities have no heavier tails than the draws themselves
_FEWEST = 10  # draws that a pool is resampled to at least
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


def nowhere(replicates: Sequence[Replicate]) -> int:
    """How many restarts have no draw at which the story has a density."""
    return sum(r.log_evidence == -math.inf for r in replicates)


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

    @cached_property
    def smoothed(self) -> tuple[Tensor, Tensor]:
        """Smoothed normalized log weights and k-hat; infinite where no draw meets the target."""
        hopeless = (self.log_w == -torch.inf).all(-1)
        smoothed, khat = pareto_smooth_rows(torch.where(hopeless[:, None], 0.0, self.log_w))
        return smoothed, torch.where(hopeless, math.inf, khat)

    def join(self, other: Pool) -> Pool:
        """Both pools' draws."""
        return Pool(
            torch.cat([self.z, other.z], 1),
            torch.cat([self.log_p, other.log_p], 1),
            torch.cat([self.log_q, other.log_q], 1),
        )

    def of(self, rows: Tensor) -> Pool:
        """Those of some problems, chosen by a mask."""
        if len(rows) == len(self.z) and bool(rows.all()):
            return self
        some = Pool(self.z[rows], self.log_p[rows], self.log_q[rows])
        if "smoothed" in self.__dict__:
            some.__dict__["smoothed"] = self.smoothed[0][rows], self.smoothed[1][rows]
        return some


@dataclass(frozen=True)
class Weighed:
    """Each problem's draws with what their weights say, and the proposals that made them.

    Attributes:
        replicates: one for each problem.
        proposal: as it was given, or adapted.
    """

    replicates: list[Replicate]
    proposal: Any


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

    A pool that passes but is too thin to resample without replacement grows by as much as its weights ask
    for. A problem that does not pass gets draws of its proposal as they are.

    Args:
        problems: the targets.
        proposal: for all of them.
        elbo: (problems,) of the guides, in nats.
        draws: how many equally weighted draws are wanted.
        generators: of the fresh draws, one for each problem.
        least: smallest pool.
        easy: k-hat from which a proposal is fitted to its own weighted draws; ``None`` for one that cannot.
    """
    everyone = torch.arange(len(elbo))
    if easy is None:
        waiting = [(everyone, _draw(problems, proposal, max(least, 2 * draws), generators, everyone))]
    else:
        proposal, waiting = _fitted(problems, proposal, generators, least, easy)
    done: dict[int, Replicate] = {}
    for rows, pool in waiting:
        done.update(_grown(problems, proposal, elbo, draws, generators, rows, pool))
    failed = {p: r.heavy for p, r in done.items() if r.heavy and not r.certified}
    for p, (z, smoothed) in failed.items() if easy is not None else ():  # the larger pool told more
        one = torch.tensor([p])
        better = proposal.put(one, adapt(proposal.of(one), z[None], smoothed[None], [generators[p]]))
        pool = _draw(problems, better, max(POOL, len(z) // 2), [generators[p]], one)
        again = _grown(problems, better, elbo, draws, generators, one, pool)
        if again[p].certified or again[p].khat < done[p].khat:
            proposal, done = better, done | again
    return Weighed([done[p] for p in range(len(elbo))], proposal)


def _fitted(
    problems: Problems, proposal: Proposal, generators: list[torch.Generator], least: int, easy: float
) -> tuple[Any, list[tuple[Tensor, Pool]]]:
    """Fit proposals to their own weighted draws for as long as that helps, and keep each problem's best.

    A fit to too few effective draws is worse than what it was fitted to, and would ruin weights that pass.

    Returns:
        The proposals, and pools of draws from them with the problems that each is of.
    """
    best = torch.full((problems.count,), math.inf, dtype=torch.float64)
    chosen = torch.zeros(problems.count, dtype=torch.long)
    tried: list[tuple[Tensor, Pool, Any]] = []
    rows = torch.arange(problems.count)
    for attempt in range(_ADAPTATIONS + 1):
        size = least * 2 ** ((attempt + 1) // 2)
        pool = _draw(problems, proposal, size, [generators[p] for p in rows.tolist()], rows)
        smoothed, khat = pool.smoothed
        effective = _effective(pool.log_w)
        thin = effective < 2 * FRACTION * size
        loss = khat.clamp(min=easy) - effective / size
        better = loss < best[rows]
        best[rows[better]], chosen[rows[better]] = loss[better], attempt
        tried.append((rows, pool, proposal.of(rows)))
        hard = thin | (khat >= (_FITTED if attempt else easy))
        hard &= better | (khat >= khat_threshold(size))
        hard &= (effective >= _TELLING * problems.size) & torch.isfinite(pool.log_w).any(1)
        if attempt == _ADAPTATIONS or not bool(hard.any()):
            break
        rows = rows[hard]
        own = [generators[p] for p in rows.tolist()]
        proposal = proposal.put(rows, adapt(proposal.of(rows), pool.z[hard], smoothed[hard], own))
    kept = []
    for attempt, (rows, pool, then) in enumerate(tried):
        mine = chosen[rows] == attempt
        if not bool(mine.any()):
            continue
        proposal = proposal.put(rows[mine], then.of(mine.nonzero().squeeze(-1)))
        flattered = mine & (pool.smoothed[1] >= _FITTED) & (len(tried) > 1)
        kept.append((rows[mine & ~flattered], pool.of(mine & ~flattered)))
        if bool(flattered.any()):  # the best of several is judged by fresh draws
            own = [generators[p] for p in rows[flattered].tolist()]
            fresh = _draw(problems, proposal, pool.z.shape[1], own, rows[flattered])
            kept.append((rows[flattered], fresh))
    return proposal, [(rows, pool) for rows, pool in kept if len(rows)]


def weigh_pool(pool: Pool, generators: list[torch.Generator]) -> list[Replicate]:
    """Judge pools that were drawn elsewhere and cannot grow; resample as many draws as each of them carries.

    That is half of the pool, and half of that until no more than a hundredth would be repeats.

    Args:
        pool: (pools, draws, size), independent draws of the proposal.
        generators: of the resampling, one for each pool.
    """
    smoothed, khat = pool.smoothed
    size = pool.z.shape[1]
    ess = _effective(pool.log_w)
    promising = (khat < khat_threshold(size)) & (ess >= FRACTION * size)
    draws = size // 2
    while draws > _FEWEST and bool((_lack(smoothed[promising], draws, (1.0,)) > 0).any()):
        draws //= 2
    passed = promising & (_lack(smoothed, draws, (1.0,)) == 0)
    facts = _facts(pool.log_w, khat, ess, pool.log_w.mean(1), passed)
    return _replicates(pool, smoothed, facts, draws, generators)


def _grown(
    problems: Problems,
    proposal: Proposal,
    elbo: Tensor,
    draws: int,
    generators: list[torch.Generator],
    rows: Tensor,
    pool: Pool,
) -> dict[int, Replicate]:
    """Enlarge the pools until there are enough draws in them, and resample those."""
    done: dict[int, Replicate] = {}
    most = _GROWTH * max(pool.z.shape[1], 2 * draws)
    waiting = [(rows, pool, len(_STEPS))]
    while waiting:
        rows, pool, steps = waiting.pop()
        size = pool.z.shape[1]
        lack = torch.full((len(rows),), max(size, 2 * draws - size))
        if size >= 2 * draws:
            smoothed, khat = pool.smoothed
            ess = _effective(pool.log_w)
            promising = (khat < khat_threshold(size)) & (ess >= FRACTION * size)
            lack = _lack(smoothed, draws, _STEPS[: max(1, steps)])
            passed, last = promising & (lack == 0), ~promising | (lack == 0) | (size >= most)
            if bool(last.any()):
                facts = _facts(pool.log_w[last], khat[last], ess[last], elbo[rows[last]], passed[last])
                some = rows[last].tolist()
                own = [generators[p] for p in some]
                settled = _replicates(pool.of(last), smoothed[last], facts, draws, own)
                done.update(zip(some, settled, strict=True))
            lack = torch.where(last, 0, lack)
        for extra in lack[lack > 0].unique().tolist():
            these = lack == extra
            own = [generators[p] for p in rows[these].tolist()]
            more = _draw(problems, proposal, extra, own, rows[these])
            waiting.append((rows[these], pool.of(these).join(more), steps - 1))
    return done


def _lack(smoothed: Tensor, draws: int, steps: Sequence[float]) -> Tensor:
    """How many draws each pool lacks (problems,), by what repeats would be left if it grew by a step."""
    weights, size = smoothed.exp(), smoothed.shape[1]
    lack = torch.full((len(weights),), size)
    for part in (*steps[1:], 0.0):
        repeats = (weights - (1 + part) / draws).clamp(min=0).sum(-1)
        lack = torch.where(repeats <= _REPEATS, math.ceil(part * size / 2) * 2, lack)
    return lack


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


def _effective(log_w: Tensor) -> Tensor:
    return (2 * log_w.logsumexp(-1) - (2 * log_w).logsumexp(-1)).exp().nan_to_num(0.0)


@dataclass(frozen=True)
class _Facts:
    """What is said about one problem's weights; as in :class:`Replicate`."""

    resampled: bool
    elbo: float
    khat: float
    ess: float
    log_evidence: float
    log_evidence_stderr: float
    batches_agree: bool


def _facts(log_w: Tensor, khat: Tensor, ess: Tensor, elbo: Tensor, passed: Tensor) -> list[_Facts]:
    """Of all problems at once."""
    mean, stderr = _log_mean(log_w)
    (a, a_error), (b, b_error) = (_log_mean(half) for half in log_w.chunk(2, 1))
    agree = (a - b).abs() <= ERRORS * torch.hypot(a_error, b_error) + 1e-9 * (1 + a.abs())
    columns = (passed, elbo, khat, ess, mean, stderr, agree)
    return [_Facts(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _log_mean(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean weight of every row, and its standard error by the delta method."""
    count = log_w.shape[1]
    mean = log_w.logsumexp(1) - math.log(count)
    relative = (log_w - mean[:, None]).exp()
    return mean, relative.std(1) / math.sqrt(count)


def _replicates(
    pool: Pool, smoothed: Tensor, facts: list[_Facts], draws: int, generators: list[torch.Generator]
) -> list[Replicate]:
    """What becomes of every problem's pool."""
    index = resample_rows(smoothed, draws, generators)
    plain = torch.tensor([not f.resampled for f in facts])
    index[plain] = torch.arange(0, 2 * draws, 2)  # no tails
    rows = torch.arange(len(facts))[:, None]
    chosen = zip(pool.z[rows, index], pool.log_p[rows, index], pool.log_q[rows, index], strict=True)
    return [
        Replicate(
            *columns, f.resampled, f.elbo, f.khat, f.ess, pool.z.shape[1], f.log_evidence,
            f.log_evidence_stderr, f.batches_agree,
            (pool.z[i].clone(), smoothed[i]) if f.khat > _LIGHT else None,
        )
        for i, (f, columns) in enumerate(zip(facts, chosen, strict=True))
    ]  # fmt: skip
