"""What ``posteriordb`` measures: fits in processes of their own, beside the reference draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from experiments.compare.chain_moments import MEAN, TAIL, Agreement, agreement
from experiments.peers.fresh import OURS, fresh_run
from experiments.peers.timing import TimedFit
from experiments.truth import posteriordb

CHAINS = 10  # of the reference
WARNED = "warned"  # beyond a tolerance, and the certificate names what is not to be relied on


@dataclass(frozen=True)
class ScoreboardEntry:
    """One posterior of the scoreboard, fitted twice by ``inference.fit``.

    ``found`` and ``again`` compare the draws of the two fits with the reference; ``facts`` is what the
    certificate of the first says, ``trusted_again`` whether the second trusts itself. ``warned`` says of
    each whether all that is off is standard deviations that its certificate says not to rely on.
    """

    name: str
    quantities: int
    first_seconds: float
    second_seconds: float
    found: Agreement
    again: Agreement
    facts: Mapping[str, Any]
    trusted_again: bool = False
    warned: tuple[bool, bool] = (False, False)

    @property
    def untold_tails(self) -> list[str]:
        """Quantities of a trusted first fit whose tail mass is off, and whose tails no note speaks of."""
        told = {note.split(":")[0] for note in self.facts.get("notes", ()) if "tail" in note}
        off = [name for name, factor in self.found.tails.items() if not factor <= TAIL]
        return [name for name in off if self.trusted and name not in told]

    @property
    def trusted(self) -> bool:
        """Whether the first fit trusts itself."""
        return bool(self.facts.get("trusted", False))

    @property
    def verdict(self) -> str:
        """One of "right", "refused", "warned", "WRONG": trusted and beyond a tolerance without a word."""
        return _verdict(self.trusted, self.found, self.warned[0])

    @property
    def verdict_again(self) -> str:
        """The same of the second fit, with another seed."""
        return _verdict(self.trusted_again, self.again, self.warned[1])

    @property
    def rung(self) -> str:
        """The guide that was kept, and what was done to its draws."""
        after = str(self.facts.get("method", "")).removeprefix("svi").strip("+")
        return " + ".join(part for part in (str(self.facts.get("guide", "none")), after) if part)

    def row(self) -> dict[str, Any]:
        """One row of the table."""
        khat = self.facts.get("khat")
        return {
            "posterior": self.name, "quantities": self.quantities,
            "mean: largest error / sd": round(self.found.mean, 4),
            "sd: largest error / %": round(100 * self.found.stddev, 2),
            "tail mass: largest factor": round(self.found.tail, 2),
            "k-hat": None if khat is None else round(float(khat), 2), "rung": self.rung,
            "verdict": self.verdict, "with another seed": self.verdict_again,
            "gradient calls": self.facts.get("gradient_calls"),
            "first fit / s": round(self.first_seconds, 2), "second fit / s": round(self.second_seconds, 2),
        }  # fmt: skip


@dataclass(frozen=True)
class PeerTiming:
    """One library on one posterior, 4 x 1,000 draws: seconds and errors of two fits.

    A fit that is wrong, refused or failed counts as infinitely long: ``first`` and ``second``.
    """

    library: str
    name: str
    seconds: tuple[float, float]
    errors: tuple[Agreement, Agreement]
    trusted: tuple[bool, bool]
    notes: Mapping[str, Any]

    def _counted(self, k: int) -> float:
        return self.seconds[k] if self.trusted[k] and self.errors[k].right else math.inf

    @property
    def first(self) -> float:
        """Seconds of the first fit, if it is right."""
        return self._counted(0)

    @property
    def second(self) -> float:
        """Seconds of the second fit, if it is right."""
        return self._counted(1)

    def state(self, k: int) -> str:
        """One of "right", "refused", "WRONG", "failed", of the first (0) or the second fit (1)."""
        if "failed" in self.notes:
            return "failed"
        if not self.trusted[k]:
            return "refused"
        return "right" if self.errors[k].right else "WRONG"

    def row(self) -> dict[str, Any]:
        """One row of the table."""
        row: dict[str, Any] = {"posterior": self.name, "library": self.library}
        for k, which in enumerate(("first", "second")):
            row |= {
                f"{which} fit / s": round(self.seconds[k], 2), f"{which}: state": self.state(k),
                f"{which}: mean error / sd": round(self.errors[k].mean, 3),
                f"{which}: sd error / %": round(100 * self.errors[k].stddev, 1),
            }  # fmt: skip
        return row | {"divergent": self.notes.get("divergent"), "note": self.notes.get("failed", "")}


def entry(name: str, draws: int, seed: int) -> ScoreboardEntry:
    """Fit a posterior twice by ``inference.fit``, with ``draws`` draws of each of four restarts."""
    reference = chains(posteriordb.load(name).reference)
    done = fresh_run(OURS, name, draws, seed)
    found, again = (agreement(tensors(values), reference) for values in (done.draws, done.again))
    quantities = sum(values[0, 0].numel() for values in reference.values())
    first, second = facts(done)
    seconds = (done.first_seconds, done.second_seconds)
    warned = tuple(
        all_but_warned(tensors(values), reference, said)
        for values, said in zip((done.draws, done.again), (first, second), strict=True)
    )
    trusted_again = bool(second.get("trusted", False))
    return ScoreboardEntry(
        name, quantities, *seconds, found, again, first, trusted_again, (warned[0], warned[1])
    )


def all_but_warned(
    draws: Mapping[str, Tensor], reference: Mapping[str, Tensor], said: Mapping[str, Any]
) -> bool:
    """Whether all means are within, and all standard deviations but those that the certificate warns of."""
    heavy = {note.split(":")[0] for note in said.get("notes", ()) if "tails are so heavy" in note}
    rest = {name: values for name, values in reference.items() if name not in heavy}
    if not heavy or not draws or not rest:
        return False
    means = agreement(draws, reference).mean <= MEAN
    return means and agreement({n: v for n, v in draws.items() if n in rest}, rest).within


def timed_peer(peer: str, library: str, name: str, draws: int, seed: int) -> PeerTiming:
    """Fit one of the eight twice by one library, with ``draws`` draws of each of four chains."""
    reference = chains(posteriordb.load(name).reference)
    done = fresh_run(peer, name, draws, seed)
    one, two = (agreement(tensors(values), reference) for values in (done.draws, done.again))
    if peer == OURS:
        first, second = (bool(said.get("trusted", False)) for said in facts(done))
    else:
        first = second = "failed" not in done.notes
    seconds = (done.first_seconds, done.second_seconds)
    return PeerTiming(library, name, seconds, (one, two), (first, second), done.notes)


def chains(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the reference's joined chains apart again."""
    return {name: values.unflatten(0, (CHAINS, -1)) for name, values in reference.items()}


def tensors(draws: Mapping[str, Any]) -> dict[str, Tensor]:
    """Arrays as tensors."""
    return {name: torch.as_tensor(values) for name, values in draws.items()}


def facts(done: TimedFit) -> Sequence[Mapping[str, Any]]:
    """What the certificates of both fits say; where there are none, why."""
    return done.notes.get("certificates", [{"reasons": [done.notes.get("failed", "")]}] * 2)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median ratio of times; infinite where ours is, 0 where only theirs is.

    Examples
    --------
    >>> ratio([1.0, 2.0, 3.0], [4.0, float("inf"), 3.0])
    0.25
    >>> ratio([float("inf")], [float("inf")])
    inf
    """
    return median(math.inf if math.isinf(a) else a / b for a, b in zip(ours, theirs, strict=True))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for a README.

    Examples
    --------
    >>> print(markdown([{"posterior": "sblri-blr", "k-hat": None, "first fit / s": 1.5}]), end="")
    | posterior | k-hat | first fit / s |
    |---|---|---|
    | sblri-blr |  | 1.5 |
    """
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = ("" if row[key] is None else str(row[key]) for key in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def beside_each_other(timings: Sequence[PeerTiming], libraries: Sequence[str]) -> list[dict[str, Any]]:
    """One row per posterior: first / second seconds of every library; what is not right is said."""
    found = {(one.name, one.library): one for one in timings}
    rows = []
    for name in dict.fromkeys(one.name for one in timings):
        row = {"posterior": name}
        for library in libraries:
            one = found.get((name, library))
            row[library] = "not measured" if one is None else " / ".join(_seconds(one, k) for k in range(2))
        rows.append(row)
    return rows


def _verdict(trusted: bool, found: Agreement, warned: bool) -> str:
    if not trusted:
        return "refused"
    if found.within:
        return "right"
    return WARNED if warned else "WRONG"


def _seconds(one: PeerTiming, k: int) -> str:
    state = one.state(k)
    if state == "failed":
        return state
    return f"{one.seconds[k]:.2g}" + ("" if state == "right" else f" {state}")
