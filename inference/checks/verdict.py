"""The verdict: is this fit to be believed? Weights, chains and restarts decide; reasons come with it.

The fit is certified if Pareto k-hat lies below the threshold for the number of draws, the effective size
is at least a tenth of it, the log evidence of two batches agrees, and the independent restarts agree. The
draws are then resampled by their weights from a pool much larger than their number, without replacement
but for rare heavy ones (at most 1 % repeats), so that what is left is what the target says and not what
the guide says.

Source: Yao, Vehtari, Simpson and Gelman (2018), "Yes, but did it work? Evaluating variational inference";
Vehtari, Simpson, Gelman, Yao and Gabry (2024), "Pareto smoothed importance sampling", JMLR 25.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from inference.checks.certificate import Certificate, RowCheck
from inference.checks.importance import ERRORS, FRACTION, Replicate, nowhere
from inference.checks.modes import MISSED
from inference.checks.psis import khat_threshold
from inference.hmc.convergence import rank_normalized_rhat, rhat_limit
from inference.hmc.short_chains import Polished

_RESTART_ERRORS = 4.0  # standard errors by which two restarts' log evidence may differ


def verdict(
    replicates: Sequence[Replicate],
    *,
    rung: str,
    converged: Sequence[bool],
    gradient_calls: int,
    seconds: float,
    flaws: Sequence[str],
    notes: Sequence[str],
    polished: Polished | None = None,
    reasons: Sequence[str] = (),
    compared: bool = True,
    missed: Callable[[float], float] | None = None,
    point_mass: str = "",
) -> Certificate:
    """Sum up the restarts into one certificate.

    Args:
        replicates: what the weights of each restart say.
        rung: the guide's name.
        converged: whether each restart's loop ended by itself.
        gradient_calls, seconds: what it took.
        flaws: reasons against any fit of this density.
        notes: remarks that do not bear on trust.
        polished: what the chains say, where they made the draws.
        reasons: against the draws, beside their weights and the chains'.
        compared: whether the restarts are to be compared; a single one then is a reason.
        missed: asked last, where nothing else speaks against the draws: log evidence in nats -> the share of
            the posterior's mass in modes that the draws of some restart lack.
        point_mass: why the guide's draws have no density, so that no weight can be given; it is then the
            only reason.
    """
    if polished is not None:
        return _of_chains(
            replicates, polished, rung, gradient_calls, seconds, [*flaws, *reasons], notes, missed
        )
    several = len(replicates) > 1
    rhat = None
    if several and replicates[0].z.shape[0] >= 4:
        stacked = torch.stack([r.z for r in replicates])
        rhat = float(torch.nan_to_num(rank_normalized_rhat(stacked), nan=math.inf).max())
    draws, size = replicates[0].z.shape
    limit = rhat_limit(2 * len(replicates), draws // 2, size)
    hopeless = nowhere(replicates)
    found = [_no_density(hopeless, len(replicates))] if hopeless else _weight_reasons(replicates)
    reasons = [*flaws, *reasons, *found]
    reasons += _restart_reasons(replicates, rhat, limit) if compared and not hopeless else []
    if not all(converged) and not hopeless:
        count = sum(not c for c in converged)
        reasons.append(
            f"{count} of {len(converged)} restarts stopped before convergence. Raise `steps`, or rescale "
            f"data and priors so that unknowns are of order one."
        )
    elbo = max(r.elbo for r in replicates)
    if point_mass:
        return Certificate(
            trusted=False, method="svi", guide=rung, rhat=rhat, elbo=elbo, gradient_calls=gradient_calls,
            seconds=seconds, reasons=(point_mass,), notes=tuple(notes),
        )  # fmt: skip
    count = len(replicates)
    log_evidence = sum(r.log_evidence for r in replicates) / count
    reasons += _missing(missed, log_evidence) if not reasons else []
    return Certificate(
        trusted=not reasons,
        method="svi+psis" if all(r.resampled for r in replicates) else "svi",
        guide=rung,
        khat=max(r.khat for r in replicates),
        ess=sum(r.ess for r in replicates),
        rhat=rhat,
        elbo=elbo,
        log_evidence=log_evidence,
        log_evidence_stderr=math.hypot(*(r.log_evidence_stderr for r in replicates)) / count,
        gradient_calls=gradient_calls,
        seconds=seconds,
        reasons=tuple(reasons),
        notes=tuple(notes),
    )


def _of_chains(
    replicates: Sequence[Replicate],
    polished: Polished,
    rung: str,
    gradient_calls: int,
    seconds: float,
    flaws: Sequence[str],
    notes: Sequence[str],
    missed: Callable[[float], float] | None,
) -> Certificate:
    """The certificate of draws that chains made: weights did not pass, and are not reported."""
    khat = max(r.khat for r in replicates)
    single = ["There is a single restart, so nothing was compared. Use restarts=2 or more."]
    reasons = [*flaws, *polished.reasons, *(single if len(replicates) == 1 else [])]
    if polished.reasons:
        reasons.append(
            f"Importance weights do not pass either: Pareto k-hat is {khat:.2f}. Reparametrize "
            f"(non-centred), or look for unknowns that the data do not inform."
        )
    reasons += _missing(missed, 0.0) if not reasons else []
    return Certificate(
        trusted=not reasons,
        method="svi+hmc",
        guide=rung,
        ess=polished.ess_bulk,
        rhat=polished.rhat,
        elbo=max(r.elbo for r in replicates),
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
    if thin.ess < FRACTION * thin.pool:
        reasons.append(
            f"The effective size of the weights is {thin.ess:.0f} of {thin.pool} draws, below "
            f"{FRACTION:.0%}: the guide overlaps too little with the posterior."
        )
    if not all(r.batches_agree for r in replicates):
        reasons.append(
            "Two batches of draws of one restart disagree about the log evidence by more than "
            f"{ERRORS:g} standard errors: rare draws carry the weight."
        )
    if not reasons and not all(r.resampled for r in replicates):
        reasons.append(
            "A few draws carry so much weight that more than 1 % of the resampled draws would be "
            "repeats. Ask for fewer `draws`."
        )
    return reasons


def _no_density(lost: int, restarts: int) -> str:
    which = "the guide" if lost == restarts else f"the guide in {lost} of {restarts} restarts"
    return (
        f"The story has no density at any draw of {which}: an edge that depends on unknowns cuts all of it "
        f"off (a uniform whose end is unknown, an exponential that starts at an unknown time). Give the "
        f"unknown a support that ends at the data: end = largest + pyro.sample('beyond', ...), with "
        f"`largest` an argument of the story."
    )


def _missing(missed: Callable[[float], float] | None, log_evidence: float) -> list[str]:
    """The reason to give when a climb ends in a mode that the draws of some restart lack."""
    share = 0.0 if missed is None else missed(log_evidence)
    if share <= MISSED:
        return []
    return [
        f"There are modes of which some restart's draws have nothing; they hold about {share:.0%} of the "
        f"posterior's mass. Where modes are copies of one another (the labels of a mixture, a sign), make "
        f"the story tell them apart, by an ordered site, say."
    ]


def _restart_reasons(replicates: Sequence[Replicate], rhat: float | None, limit: float) -> list[str]:
    if len(replicates) == 1:
        return ["There is a single restart, so nothing was compared. Use restarts=2 or more."]
    if rhat is None:
        return [f"{replicates[0].z.shape[0]} draws per restart are too few to compare. Use draws=4 or more."]
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


def rows_verdict(
    checks: Sequence[RowCheck],
    best: int,
    *,
    held_out: RowCheck | None,
    spread: float | None,
    rung: str,
    resampled: bool,
    gradient_calls: int,
    seconds: float,
    reasons: Sequence[str],
    notes: Sequence[str],
) -> Certificate:
    """The certificate of a fit whose unknowns all belong to rows: it was checked row by row.

    Args:
        checks: one for each restart.
        best: the restart that answers.
        held_out: the check on held-out rows; ``None`` without any.
        spread: largest difference between the restarts' ELBOs, in nats per row; ``None`` for one restart.
        rung: the guide's name.
        resampled: whether draws are resampled by their weights.
        gradient_calls, seconds: what it took.
        reasons: against trust.
        notes: remarks that do not bear on it.
    """
    rows = checks[best]
    return Certificate(
        trusted=not reasons,
        method="svi+psis" if resampled else "svi",
        guide=rung,
        khat=max((c.khat for c in checks if c.khat is not None), default=None),
        elbo=rows.elbo * rows.of,
        log_evidence=rows.bound * rows.of,
        log_evidence_stderr=rows.stderr * rows.of,
        gradient_calls=gradient_calls,
        seconds=seconds,
        reasons=tuple(reasons),
        notes=tuple(notes),
        rows=rows,
        held_out=held_out,
        spread=spread,
    )


def refused_verdict(
    refusal: str, *, gradient_calls: int, seconds: float, reasons: Sequence[str], notes: Sequence[str]
) -> Certificate:
    """The certificate of a story without a likelihood, trained by a loss on samples: nothing was weighed."""
    return Certificate(
        trusted=False, method="loss", guide="none", gradient_calls=gradient_calls, seconds=seconds,
        reasons=(refusal, *reasons), notes=tuple(notes),
    )  # fmt: skip


def exact_verdict(
    log_evidence: float, *, method: str, seconds: float, reasons: Sequence[str], notes: Sequence[str] = ()
) -> Certificate:
    """The certificate of a story in which nothing continuous is unknown: its evidence has no error."""
    return Certificate(
        trusted=not reasons, method=method, guide="none", elbo=log_evidence, log_evidence=log_evidence,
        log_evidence_stderr=0.0, seconds=seconds, reasons=tuple(reasons), notes=tuple(notes),
    )  # fmt: skip
