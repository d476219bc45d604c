"""Is this fit to be believed? Importance weights and restarts decide; a verdict with reasons comes back.

Draws from two proposals, the fitted Gaussian and a Student t of the same location and scale, are weighted
by target over proposal. A Gaussian's weights give false alarms where the target's tails are a little
heavier; the Student t's do not. The fit is certified if Pareto k-hat lies below the threshold for the
number of draws, the effective size is at least a tenth of it, the log evidence of two batches agrees,
and the independent restarts agree. The draws are then resampled by their weights from a pool much larger
than their number, without replacement but for rare heavy ones (at most 1 % repeats), so that what is left is what the target says and not what the guide says.

Source: Yao, Vehtari, Simpson and Gelman (2018), "Yes, but did it work? Evaluating variational inference";
Vehtari, Simpson, Gelman, Yao and Gabry (2024), "Pareto smoothed importance sampling", JMLR 25.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from inference.density import LogDensity
from inference.guides.gaussian import Gaussian
from inference.psis import effective_size, khat_threshold, pareto_smooth

_POOL = 4096  # draws per proposal: the threshold for k-hat is then 0.7
_GROWTH = 4  # how often the pool is doubled when it is too thin to resample without replacement
_TAME = 0.5  # below this k-hat the weights have a finite variance
_REPEATS = 0.01  # share of the resampled draws that may be repeats of a heavy one
_FRACTION = 0.1  # smallest effective size, as a fraction of the pool
_ERRORS = 3.0  # standard errors by which two batches' log evidence may differ
_RESTART_ERRORS = 4.0  # the same between restarts: the largest of several differences is looked at
_RHAT = 1.01  # Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021)
_FALSE_ALARM = 1e-3  # chance that independent, identical restarts exceed the limit for R-hat


@dataclass(frozen=True)
class Certificate:
    """What is known about a fit's quality.

    Attributes:
        trusted: whether every check passed.
        method: what made the draws: "svi" (the guide's own draws), "svi+psis" (reweighted), "prior",
            or "exact" (nothing continuous was unknown).
        khat: largest Pareto k-hat over restarts; ``None`` where weights do not exist.
        ess: effective size of all restarts' importance weights together.
        rhat: largest rank-normalized R-hat over unknowns, restarts as chains; ``None`` for one restart.
        elbo: evidence lower bound of the kept guide, in nats.
        log_evidence: log p(data), in nats, averaged over restarts; ``None`` where it is unknown.
        log_evidence_stderr: its Monte Carlo standard error.
        guide: the rung that was kept.
        gradient_calls: batched gradients taken, over all restarts.
        seconds: wall-clock time of the fit.
        reasons: sentences that say why it is not trusted; empty when it is.
        notes: remarks that do not bear on trust (plain Pyro took over, say).
    """

    trusted: bool
    method: str
    guide: str
    khat: float | None = None
    ess: float | None = None
    rhat: float | None = None
    elbo: float | None = None
    log_evidence: float | None = None
    log_evidence_stderr: float | None = None
    gradient_calls: int = 0
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        verdict = "TRUSTED" if self.trusted else "NOT TRUSTED"
        lines = [f"{verdict}: {self.method}, guide {self.guide}, {self.seconds:.1f} s"]
        facts = {
            "k-hat": self.khat,
            "ESS": self.ess,
            "R-hat": self.rhat,
            "ELBO (nats)": self.elbo,
            "log evidence (nats)": self.log_evidence,
            "its standard error": self.log_evidence_stderr,
        }
        shown = [f"{name} {value:.4g}" for name, value in facts.items() if value is not None]
        if shown:
            lines.append("  " + ", ".join(shown))
        lines += [f"  - {reason}" for reason in self.reasons]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "reasons": list(self.reasons), "notes": list(self.notes)}


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
            and self.ess >= _FRACTION * self.pool
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
        promising = khat < khat_threshold(len(z)) and effective_size(log_w) >= _FRACTION * len(z)
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
    return abs(a - b) <= _ERRORS * math.hypot(a_error, b_error) + 1e-9 * (1 + abs(a))


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


def rank_normalized_rhat(draws: Tensor) -> Tensor:
    """Largest of bulk and folded split R-hat for every unknown (Vehtari et al. 2021).

    Args:
        draws: (chains, draws, size).

    Returns:
        (size,).
    """
    half = draws.shape[1] // 2
    split = torch.cat([draws[:, :half], draws[:, half : 2 * half]])
    folded = (split - split.flatten(0, 1).median(0).values).abs()
    return torch.maximum(_rhat(_normal_scores(split)), _rhat(_normal_scores(folded)))


def _normal_scores(draws: Tensor) -> Tensor:
    flat = draws.flatten(0, 1)
    rank = flat.argsort(0).argsort(0).double() + 1
    return torch.special.ndtri((rank - 0.375) / (len(flat) + 0.25)).reshape(draws.shape)


def _rhat(draws: Tensor) -> Tensor:
    n = draws.shape[1]
    within = draws.var(1).mean(0)
    between = n * draws.mean(1).var(0)
    return (((n - 1) / n * within + between / n) / within).sqrt()


def rhat_limit(chains: int, draws: int, unknowns: int) -> float:
    """1.01, or more where that many independent draws exceed 1.01 by chance.

    R-hat of ``chains`` independent chains is about sqrt(1 + (chi2 / (chains - 1) - 1) / draws) with
    chi2 on chains - 1 degrees of freedom; its quantile is taken by Wilson and Hilferty (1931) at a
    chance of 1e-3 over all unknowns, bulk and folded.

    Example:
        >>> rhat_limit(8, 500, 5), round(rhat_limit(8, 50, 5), 3)
        (1.01, 1.033)
    """
    k = chains - 1
    chance = _FALSE_ALARM / (2 * max(1, unknowns))
    z = float(torch.special.ndtri(torch.tensor(1 - chance, dtype=torch.float64)))
    quantile = k * (1 - 2 / (9 * k) + z * math.sqrt(2 / (9 * k))) ** 3
    return max(_RHAT, math.sqrt(1 + (quantile / k - 1) / max(1, draws)))


def verdict(
    replicates: Sequence[Replicate],
    *,
    rung: str,
    converged: Sequence[bool],
    gradient_calls: int,
    seconds: float,
    notes: Sequence[str],
) -> Certificate:
    """Sum up the restarts into one certificate."""
    several = len(replicates) > 1
    rhat = None
    if several and replicates[0].z.shape[0] >= 4:
        stacked = torch.stack([r.z for r in replicates])
        rhat = float(torch.nan_to_num(rank_normalized_rhat(stacked), nan=math.inf).max())
    draws, size = replicates[0].z.shape
    limit = rhat_limit(2 * len(replicates), draws // 2, size)
    reasons = [*_weight_reasons(replicates), *_restart_reasons(replicates, rhat, limit)]
    if not all(converged):
        count = sum(not c for c in converged)
        reasons.append(
            f"{count} of {len(converged)} restarts stopped before convergence. Raise `steps`, or rescale "
            f"data and priors so that unknowns are of order one."
        )
    values = [r.log_evidence for r in replicates]
    errors = [r.log_evidence_stderr for r in replicates]
    count = len(replicates)
    return Certificate(
        trusted=not reasons,
        method="svi+psis" if all(r.resampled for r in replicates) else "svi",
        guide=rung,
        khat=max(r.khat for r in replicates),
        ess=sum(r.ess for r in replicates),
        rhat=rhat,
        elbo=max(r.elbo for r in replicates),
        log_evidence=sum(values) / count,
        log_evidence_stderr=math.hypot(*errors) / count,
        gradient_calls=gradient_calls,
        seconds=seconds,
        reasons=tuple(reasons),
        notes=tuple(notes),
    )


def _weight_reasons(replicates: Sequence[Replicate]) -> list[str]:
    reasons = []
    worst = max(replicates, key=lambda r: r.khat)
    limit = khat_threshold(worst.pool)
    if worst.khat >= limit:
        reasons.append(
            f"Pareto k-hat is {worst.khat:.2f}, above {limit:.2f}: the guide misses part of the posterior "
            f"(tails, a skewed or bounded unknown, a dependence). The draws are the guide's own, not "
            f"corrected. Try a richer guide, reparametrize (non-centred), or look for unknowns that the "
            f"data do not inform."
        )
    thin = min(replicates, key=lambda r: r.ess / r.pool)
    if thin.ess < _FRACTION * thin.pool:
        reasons.append(
            f"The effective size of the weights is {thin.ess:.0f} of {thin.pool} draws, below "
            f"{_FRACTION:.0%}: the guide overlaps too little with the posterior."
        )
    if not all(r.batches_agree for r in replicates):
        reasons.append(
            "Two batches of draws of one restart disagree about the log evidence by more than "
            f"{_ERRORS:g} standard errors: rare draws carry the weight."
        )
    if not reasons and not all(r.resampled for r in replicates):
        reasons.append(
            "A few draws carry so much weight that more than 1 % of the resampled draws would be "
            "repeats. Ask for fewer `draws`."
        )
    return reasons


def _restart_reasons(
    replicates: Sequence[Replicate], rhat: float | None, limit: float
) -> list[str]:
    if rhat is None:
        return ["There is a single restart, so nothing was compared. Use restarts=2 or more."]
    reasons = []
    if not rhat < limit:
        reasons.append(
            f"The restarts disagree: R-hat is {rhat:.3f}, above {limit:.3f}. They may sit in different modes "
            f"(look at the draws restart by restart), or need more draws."
        )
    pairs = [(r.log_evidence, r.log_evidence_stderr) for r in replicates]
    low, high = min(pairs), max(pairs)
    if not high[0] - low[0] <= _RESTART_ERRORS * math.hypot(low[1], high[1]) + 1e-9 * abs(high[0]):
        reasons.append(
            f"The restarts disagree about the log evidence: from {low[0]:.3f} to {high[0]:.3f} nats. "
            f"Some found a better mode than others."
        )
    return reasons
