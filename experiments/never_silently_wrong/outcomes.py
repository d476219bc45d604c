"""How a fit came out that is judged by the truth: trusted or refused, right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.compare.right import Judged
from experiments.report.style import PALETTE

OUTCOMES = {
    "trusted and right": PALETTE[0],
    "refused, was right": PALETTE[4],
    "refused, was wrong": "#bbbbbb",
    "SILENTLY WRONG": PALETTE[1],
}


@dataclass(frozen=True)
class JudgedFit:
    """One fit: what was fitted, with which fault, and how it came out."""

    posterior: str
    fault: str
    seed: int
    certificate: Any
    judged: Judged

    @property
    def outcome(self) -> str:
        """One of ``OUTCOMES``."""
        if self.certificate.trusted:
            return "trusted and right" if self.judged.right else "SILENTLY WRONG"
        return "refused, was right" if self.judged.right else "refused, was wrong"

    @property
    def silently_wrong(self) -> bool:
        """Whether it is trusted and wrong."""
        return self.outcome == "SILENTLY WRONG"

    def row(self) -> dict[str, Any]:
        """Write it as a row of the table."""
        return {
            "posterior": self.posterior, "fault": self.fault or "none", "seed": self.seed,
            "outcome": self.outcome, "rung": self.certificate.guide, "draws by": self.certificate.method,
            "error of a mean / sd": self.judged.mean, "error of a sd / sd": self.judged.stddev,
            "largest at": self.judged.where, "seconds": self.certificate.seconds,
        }  # fmt: skip


def interval(count: int, of: int) -> tuple[float, float]:
    """Exact 95 % interval of a share.

    Examples
    --------
    >>> [round(x, 4) for x in interval(0, 60)]
    [0.0, 0.0596]
    """
    from scipy.stats import beta

    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    return low, float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
