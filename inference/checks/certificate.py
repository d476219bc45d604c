"""The certificate: what is known about a fit's quality, as data that prints, and that JSON holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


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
    a row has at most 6 latent numbers (``inference/svi/overlooked.py``); with more of them, nothing can tell.

    Attributes:
        trusted: whether every check passed.
        method: what made the draws: "svi" (the guide's own draws), "svi+psis" (reweighted), "svi+hmc" (many
            short chains that start from them), "hmc" (a reference's long chains), "loss" (trained by a loss
            on samples, nothing weighed), "prior", or "exact" (nothing continuous was unknown; "svi" where
            parameters were trained all the same).
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
