"""Claims: what was measured against what is known, and whether the two agree."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.numbers import aligned, jsonable, readable, with_error

__all__ = ["RELATIONS", "Claim", "claims_text", "count", "verdict"]

RELATIONS = {"equal": "=", "at least": ">=", "at most": "<=", "published": "published"}

# An agreement of 4 Monte Carlo standard errors fails by chance once in 16,000 claims.
STANDARD_ERRORS = 4.0


@dataclass(frozen=True)
class Claim:
    """One measured number beside the number it should agree with.

    Parameters
    ----------
    text
        The claim, in words.
    measured, known
        The two numbers, in the same unit.
    error
        Monte Carlo standard error of ``measured - known``.
    numerical
        Numerical error that is allowed on top.
    source
        Where ``known`` comes from.
    relation
        ``"equal"``, ``"at least"``, ``"at most"`` (judged) or ``"published"`` (shown, not judged).
    reason
        Why the claim is not met, if it is not.

    Raises
    ------
    ValueError
        If the relation is none of these, or an error is negative or not finite.
    """

    text: str
    measured: float
    known: float
    error: float = 0.0
    numerical: float = 0.0
    source: str = ""
    relation: str = "equal"
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("measured", "known", "error", "numerical"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        if self.relation not in RELATIONS:
            expected = ", ".join(repr(relation) for relation in RELATIONS)
            raise ValueError(f"relation: expected one of {expected}, got {self.relation!r}")
        for name in ("error", "numerical"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a finite number >= 0, got {value}")

    @property
    def tolerance(self) -> float:
        """The difference that is allowed: 4 Monte Carlo errors plus the numerical error."""
        return STANDARD_ERRORS * self.error + self.numerical

    @property
    def met(self) -> bool | None:
        """Whether measured and known agree; None for a published number, which is not judged.

        A claim that sits exactly on its boundary is met, whatever the rounding of binary
        fractions. A NaN never meets a claim.
        """
        if self.relation == "published":
            return None
        if self.measured == self.known:
            return True
        largest = max(abs(self.measured), abs(self.known), self.tolerance)
        allowed = self.tolerance + (4 * math.ulp(largest) if math.isfinite(largest) else 0.0)
        difference = self.measured - self.known
        if self.relation == "at least":
            return difference >= -allowed
        if self.relation == "at most":
            return difference <= allowed
        return abs(difference) <= allowed

    def record(self, smoke: bool = False) -> dict[str, Any]:
        """The row of claims.json; ``met`` is null where nothing was judged."""
        names = ("text", "measured", "error", "relation", "known", "numerical", "source", "reason")
        row: dict[str, Any] = {name: getattr(self, name) for name in names}
        row["met"] = None if smoke else self.met
        return {name: jsonable(value) for name, value in row.items()}


def verdict(claim: Claim, smoke: bool = False) -> str:
    """One of ``"met"``, ``"NOT MET"``, ``"not judged"``."""
    if smoke or claim.met is None:
        return "not judged"
    return "met" if claim.met else "NOT MET"


def count(claims: Sequence[Claim]) -> tuple[int, int]:
    """How many claims are met, of how many that can be judged."""
    judged = [claim.met for claim in claims if claim.met is not None]
    return sum(judged), len(judged)


def claims_text(claims: Sequence[Claim], smoke: bool = False) -> str:
    """The table for the terminal: plain characters, aligned, one claim after the other."""
    if not claims:
        return "no claims"
    rows = [("", "claim", "measured", "known", "source")]
    for claim in claims:
        word = verdict(claim, smoke)
        measured = with_error(claim.measured, claim.error, "+-")
        known = f"{RELATIONS[claim.relation]} {readable(claim.known)}"
        said = f"{claim.text} ({claim.reason})" if word == "NOT MET" and claim.reason else claim.text
        lines = textwrap.wrap(said, 56) or [""]
        rows.append((word, lines[0], measured, known, claim.source))
        rows.extend(("", line, "", "", "") for line in lines[1:])
    return aligned(rows)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}: expected a number, got {type(value).__name__}") from None
