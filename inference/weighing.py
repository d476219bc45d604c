"""Weigh draws of a guide against the target, and resample them by their weights.

Two proposals are tried, the fitted Gaussian and a Student t of the same location and scale: a Gaussian's
weights give false alarms where the target's tails are a little heavier, a Student t's do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.density import LogDensity
from inference.guides.gaussian import Gaussian
from inference.psis import effective_size, khat_threshold, pareto_smooth

FRACTION = 0.1  # smallest effective size that is trusted, as a fraction of the pool
ERRORS = 3.0  # standard errors by which two batches' log evidence may differ
_POOL = 4096  # draws per proposal: the threshold for k-hat is then 0.7
_GROWTH = 4  # how often the pool is doubled when it is too thin to resample without replacement
_TAME = 0.5  # below this k-hat the weights have a finite variance
_REPEATS = 0.01  # share of the resampled draws that may be repeats of a heavy one


@dataclass(frozen=True)
class Replicate:
    """One restart after the check: its draws, their log densities, and what their weights say.

    Attributes:
        z: (draws, size) unconstrained, equally weighted.
        log_p, log_q: (draws,) target and proposal log density, in unconstrained space, in nats.
        resampled: whether the draws were resampled by their weights.
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

    @property
    def certified(self) -> bool:
        """Whether this restart's weights pass on their own."""
        return (
            self.resampled
            and self.khat < khat_threshold(self.pool)
            and self.ess >= FRACTION * self.pool
            and self.batches_agree
        )


def check(
    density: LogDensity, guide: Gaussian, elbo: float, draws: int, generator: torch.Generator
) -> Replicate:
    """Weigh fresh draws of a guide against the target and resample them.

    Args:
        density: the target.
        guide: fitted to it.
        elbo: of the guide, in nats.
        draws: how many equally weighted draws are wanted.
        generator: of the fresh draws.
    """
    size = max(_POOL, 4 * draws)
    tried = [_weigh(density, q, elbo, draws, size, generator) for q in (guide, guide.with_tails())]
    best = max(tried, key=lambda r: (r.certified, r.khat < _TAME, r.ess / r.pool))
    if best.certified:
        return best
    z = guide.sample(draws, generator)
    own = {"z": z, "log_p": density.log_prob(z), "log_q": guide.log_prob(z), "resampled": False}
    return Replicate(**{**best.__dict__, **own})


def _weigh(
    density: LogDensity,
    proposal: Gaussian,
    elbo: float,
    draws: int,
    size: int,
    generator: torch.Generator,
) -> Replicate:
    z = proposal.sample(size, generator)
    log_p, log_q = density.log_prob(z), proposal.log_prob(z)
    for attempt in range(_GROWTH + 1):
        log_w = torch.where(torch.isfinite(log_p), log_p - log_q, -torch.inf)
        if not bool((log_w > -torch.inf).any()):
            return _hopeless(z, log_p, log_q, elbo, len(z))
        smoothed, khat = pareto_smooth(log_w)
        promising = khat < khat_threshold(len(z)) and effective_size(log_w) >= FRACTION * len(z)
        enough = float((smoothed.exp() - 1 / draws).clamp(min=0).sum()) <= _REPEATS
        if enough or not promising or attempt == _GROWTH:
            break
        more = proposal.sample(len(z), generator)
        z = torch.cat([z, more])
        log_p = torch.cat([log_p, density.log_prob(more)])
        log_q = torch.cat([log_q, proposal.log_prob(more)])
    mean, stderr = _log_mean(log_w)
    index = resample(smoothed, draws, generator) if enough else torch.arange(draws)
    return Replicate(
        z[index], log_p[index], log_q[index], enough, elbo, khat, effective_size(log_w), len(z),
        mean, stderr, _batches_agree(log_w),
    )  # fmt: skip


def _hopeless(z: Tensor, log_p: Tensor, log_q: Tensor, elbo: float, size: int) -> Replicate:
    nan = math.nan
    return Replicate(z, log_p, log_q, False, elbo, math.inf, 0.0, size, nan, nan, False)


def _log_mean(log_w: Tensor) -> tuple[float, float]:
    """Log of the mean weight, and its standard error by the delta method."""
    count = len(log_w)
    mean = float(log_w.logsumexp(0)) - math.log(count)
    relative = (log_w - mean).exp()
    return mean, float(relative.std()) / math.sqrt(count)


def _batches_agree(log_w: Tensor) -> bool:
    (a, a_error), (b, b_error) = (_log_mean(half) for half in log_w.chunk(2))
    return abs(a - b) <= ERRORS * math.hypot(a_error, b_error) + 1e-9 * (1 + abs(a))


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
