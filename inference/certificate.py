"""Is this fit to be believed? Importance weights and restarts decide; a verdict with reasons comes back.

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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from inference.chains import Polished
from inference.convergence import rank_normalized_rhat, rhat_limit
from inference.psis import khat_threshold
from inference.weighing import ERRORS, FRACTION, Replicate, nowhere

_RESTART_ERRORS = 4.0  # standard errors by which two restarts' log evidence may differ


@dataclass(frozen=True)
class RowCheck:
    """How well the latent sites of rows are approximated, row by row; in nats per row.

    Attributes:
        rows: how many rows were checked, picked at random.
        of: how many there are.
        draws: of every row (and value of a discrete site that is assumed); 1 where nothing is drawn.
        elbo: mean evidence lower bound.
        bound: mean importance-weighted bound with that many draws; log p(row) itself where nothing is drawn.
        stderr: standard error of ``bound``: Monte Carlo, and of the choice of rows; for held-out rows
            also of their being a sample.
        gap: ``bound - elbo``; at most the divergence of the guide from the posterior of a row, on average.
        gap_stderr: its standard error.
        khat: Pareto k-hat that nine tenths of the rows do not exceed; ``None`` where nothing is drawn.
        flagged: share of rows whose k-hat exceeds ``limit``.
        limit: largest k-hat at which that many draws are reliable.
    """

    rows: int
    of: int
    draws: int
    elbo: float
    bound: float
    stderr: float
    gap: float
    gap_stderr: float
    khat: float | None
    flagged: float
    limit: float

    def __str__(self) -> str:
        if self.draws == 1:
            return f"{self.rows} rows: log density {self.bound:.4g} +- {self.stderr:.2g} nats per row"
        return (
            f"{self.rows} of {self.of} rows, {self.draws} draws each, in nats per row: ELBO {self.elbo:.4g}, "
            f"importance-weighted {self.bound:.4g} +- {self.stderr:.2g}, gap {self.gap:.3g} +- "
            f"{self.gap_stderr:.1g}; k-hat above {self.limit:.2f} in {self.flagged:.1%} of rows"
        )


@dataclass(frozen=True)
class Certificate:
    """What is known about a fit's quality.

    Where all unknowns belong to rows and a guide reads the rows, ``rows`` says row by row how good it is.
    Trusted then means: of nine rows in ten, the guide's distribution of the latent sites is close enough for
    importance weights to correct it, training ended by itself, and the restarts reached about the same.
    Trained networks are point estimates, and nothing is said about other values of theirs. Nor can weights
    tell of a part of the posterior where the guide never draws, such as the second of two modes: its log
    p(row) is then too small, by log 2 there. Draws from the prior are asked about that, where
    a row has at most 6 latent numbers (``inference/overlooked.py``); with more of them, nothing can tell.

    Attributes:
        trusted: whether every check passed.
        method: what made the draws: "svi" (the guide's own draws), "svi+psis" (reweighted), "svi+hmc" (many
            short chains that start from them), "prior", or "exact" (nothing continuous was unknown).
        khat: largest Pareto k-hat over restarts; ``None`` where weights do not exist.
        ess: effective size of all restarts' importance weights together.
        rhat: largest rank-normalized R-hat over unknowns, restarts as chains; ``None`` for one restart.
        elbo: evidence lower bound of the kept guide, in nats.
        log_evidence: log p(data), in nats, averaged over restarts; ``None`` where it is unknown. Trained
            parameters are held fixed in it, so that it grows with their number; compare such stories by
            ``held_out``.
        log_evidence_stderr: its Monte Carlo standard error.
        guide: the rung that was kept.
        gradient_calls: batched gradients taken, over all restarts.
        seconds: wall-clock time of the fit.
        reasons: sentences that say why it is not trusted; empty when it is.
        notes: remarks that do not bear on trust (plain Pyro took over, say).
        rows: the check row by row, on rows that were fitted; ``None`` for unknowns that rows share.
        held_out: the same on rows that were held out; ``None`` without any.
        spread: largest difference between restarts' ELBOs, in nats per row; ``None`` without ``rows``.
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
    rows: RowCheck | None = None
    held_out: RowCheck | None = None
    spread: float | None = None

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
        lines += [f"  fitted: {self.rows}"] if self.rows else []
        lines += [f"  held out: {self.held_out}"] if self.held_out else []
        if self.spread is not None:
            lines.append(f"  restarts: ELBOs differ by {self.spread:.3g} nats per row")
        lines += [f"  - {reason}" for reason in self.reasons]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "reasons": list(self.reasons), "notes": list(self.notes)}

    @classmethod
    def of_dict(cls, facts: Mapping[str, Any]) -> Certificate:
        """The certificate that :meth:`as_dict` wrote."""
        checks = {n: RowCheck(**facts[n]) for n in ("rows", "held_out") if facts.get(n) is not None}
        words = {n: tuple(facts[n]) for n in ("reasons", "notes")}
        return cls(**{**facts, **words, **checks})


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
    """
    if polished is not None:
        return _of_chains(replicates, polished, rung, gradient_calls, seconds, [*flaws, *reasons], notes)
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


def _of_chains(
    replicates: Sequence[Replicate],
    polished: Polished,
    rung: str,
    gradient_calls: int,
    seconds: float,
    flaws: Sequence[str],
    notes: Sequence[str],
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


def missed_mode(share: float) -> str:
    """The reason to give when a climb ends in a mode that the draws of some restart lack."""
    return (
        f"A climb ended in a mode of which some restart's draws have nothing; it holds about {share:.0%} of "
        f"the posterior's mass. Where modes are copies of one another (the labels of a mixture, a sign), "
        f"make the story tell them apart, by an ordered site, say."
    )


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
