"""What calibration found: ranks of truths, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.compare.result import Estimate, number
from experiments.compare.sbc.ecdf_bands import RankTest, Uniformity, rank_test
from experiments.compare.sbc.tarp import KolmogorovSmirnov, kolmogorov_smirnov

LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Calibration:
    """Ranks of truths among posterior draws, one set for every quantity, and their judgement.

    Attributes
    ----------
    ranks
        Quantity -> (fits,) ranks of the truths, 0 .. ``highest``.
    judged
        Quantity -> :class:`~experiments.compare.sbc.ecdf_bands.Uniformity`.
    truth, mean, stddev
        Quantity -> (fits,): the truths, and their posteriors' means and standard deviations.
    highest
        The largest rank: the number of draws of each posterior.
    level
        Of the bands.
    believed
        (fits,) which of the fits call themselves trusted; all are judged. None if the fitter does not say.
    seconds
        Wall-clock seconds of "simulate", "fit" and "judge".
    around
        Whether truths came from a posterior in place of the prior.
    seed
        Of everything random.
    note
        What speaks against the truths themselves, if anything.
    """

    ranks: Mapping[str, Tensor]
    judged: Mapping[str, Uniformity]
    truth: Mapping[str, Tensor]
    mean: Mapping[str, Tensor]
    stddev: Mapping[str, Tensor]
    highest: int
    level: float
    believed: Tensor | None
    seconds: Mapping[str, float]
    around: bool
    seed: int
    note: str = ""

    @classmethod
    def of(
        cls,
        ranks: Mapping[str, Tensor],
        moments: Mapping[str, tuple[Tensor, Tensor, Tensor]],
        highest: int,
        *,
        level: float = 0.95,
        believed: Tensor | None = None,
        seconds: Mapping[str, float] | None = None,
        around: bool = False,
        seed: int = 0,
        note: str = "",
    ) -> Calibration:
        """Judge ranks; ``moments`` are truths, posterior means and standard deviations, (fits,) each."""
        test = rank_test(len(next(iter(ranks.values()))), highest)
        judged = dict(zip(ranks, test.judge(torch.stack(list(ranks.values()))), strict=True))
        truth, mean, stddev = ({name: m[i] for name, m in moments.items()} for i in range(3))
        return cls(
            dict(ranks), judged, truth, mean, stddev, highest, level, believed, dict(seconds or {}), around,
            seed, note,
        )  # fmt: skip

    # ---- the judgement

    @property
    def fits(self) -> int:
        """Number of simulated data sets."""
        return len(next(iter(self.ranks.values())))

    @property
    def refused(self) -> int | None:
        """How many fits refused to be trusted."""
        return None if self.believed is None else int((~self.believed).sum())

    def trusted(self) -> Calibration:
        """The same judgement of the fits that call themselves trusted, alone.

        What is refused is decided by the data and the draws, without knowledge of the truth. So the ranks of
        the others stay uniform if these are right, but for what a certificate reads out of the very draws
        that the truth is ranked among. A calibration that fails with all fits and passes here says that the
        certificates are needed, and do their work.

        Raises
        ------
        ValueError
            If the fitter does not say which fits are trusted, or fewer than 20 are.
        """
        if self.believed is None or int(self.believed.sum()) < 20:
            count = "nothing" if self.believed is None else int(self.believed.sum())
            raise ValueError(f"fitter: expected .trusted with at least 20 trusted fits, got {count}")
        ranks, truth, mean, stddev = (
            {name: value[self.believed] for name, value in field.items()}
            for field in (self.ranks, self.truth, self.mean, self.stddev)
        )
        judged = Calibration.of(ranks, {}, self.highest).judged
        believed = self.believed[self.believed]
        return replace(
            self, ranks=ranks, judged=judged, truth=truth, mean=mean, stddev=stddev, believed=believed
        )

    @property
    def test(self) -> RankTest:
        """The test of one quantity's ranks: bands, power."""
        return rank_test(self.fits, self.highest)

    @property
    def worst(self) -> str:
        """The quantity with the smallest p-value."""
        return min(self.judged, key=lambda name: (self.judged[name].p_value, -self.judged[name].value))

    @property
    def p_value(self) -> float:
        """Of all quantities together: the smallest of them times their number (Bonferroni), at most 1.

        The chance of a value as small is at most this, however the quantities depend on each other.
        """
        return min(1.0, len(self.judged) * self.judged[self.worst].p_value)

    @property
    def passed(self) -> bool:
        """Whether no quantity leaves a band of :attr:`level` for all of them together."""
        return self.p_value > 1 - self.level

    @property
    def value(self) -> float:
        """Largest difference between an ECDF and that of uniform ranks, of the worst quantity."""
        return self.judged[self.worst].value

    @property
    def error(self) -> float:
        """Monte Carlo standard error of :attr:`value`."""
        return self.judged[self.worst].error

    @property
    def floor(self) -> float:
        """95 % of sets of as many uniform ranks stay below this :attr:`value`."""
        return self.test.floor

    @property
    def detectable(self) -> float:
        """Smallest shift of a posterior mean, in its standard deviations, that is seen 4 times in 5.

        In one quantity, the same in all fits, at the level of all quantities together.
        """
        return self._detectable[0]

    @property
    def detectable_stddev(self) -> float:
        """The same for a standard deviation that is too small: as a share of the right one."""
        return self._detectable[1]

    @property
    def _detectable(self) -> tuple[float, float]:
        return _detectable(self.fits, self.highest, 1 - (1 - self.level) / len(self.judged))

    def band(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the ECDF is looked at, and the least and largest that are inside, (points,) each.

        The band holds all quantities together with chance ``level`` (Bonferroni).
        """
        return self.test.at, *self.test.band(1 - (1 - self.level) / len(self.judged))

    # ---- other views of the ranks

    def ecdf(self, name: str) -> Tensor:
        """The ECDF of a quantity's ranks at the band's points, (points,)."""
        return self.test.counts(self.ranks[name]).double() / self.fits

    def pit(self) -> dict[str, Tensor]:
        """Quantity -> (fits,) ranks spread evenly over [0, 1]: uniform where ranks are.

        A rank is put at random within its cell, so that no test of continuous values is misled by steps.
        """
        generator = torch.Generator().manual_seed(self.seed + 2)
        return {
            name: (ranks + torch.rand(len(ranks), generator=generator, dtype=torch.float64))
            / (self.highest + 1)
            for name, ranks in self.ranks.items()
        }

    def coverage(self, name: str, share: float) -> tuple[float, Estimate]:
        """How often central intervals that claim to hold a share of the posterior hold the truth.

        Returns
        -------
        tuple
            What the intervals between two draws hold exactly, next to ``share``; what they held, with its
            binomial error if they are right.

        Raises
        ------
        ValueError
            If ``share`` is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise ValueError(f"share: expected between 0 and 1, got {share}")
        outside = round((1 - share) / 2 * (self.highest + 1))
        claimed = 1 - 2 * outside / (self.highest + 1)
        ranks = self.ranks[name]
        held = ((ranks >= outside) & (ranks <= self.highest - outside)).double().mean()
        return claimed, Estimate(float(held), math.sqrt(claimed * (1 - claimed) / self.fits))

    def tarp(self) -> KolmogorovSmirnov | None:
        """One-sample Kolmogorov-Smirnov test of TARP's coverage values; None with one unknown."""
        return kolmogorov_smirnov(self.pit()["TARP"]) if "TARP" in self.ranks else None

    def z_score(self, name: str) -> Tensor:
        """(Posterior mean - truth) / posterior standard deviation, (fits,)."""
        return (self.mean[name] - self.truth[name]) / self.stddev[name]

    def shrinkage(self, name: str) -> Tensor:
        """How much narrower than the truths each posterior is: 1 - (sd / spread of truths)^2, (fits,).

        The spread is half the width of the central 68 % of the truths, since a prior may have no variance.

        Source: Betancourt (2018), Calibrating model-based inferences and decisions, with standard deviations.
        """
        tails = self.truth[name].quantile(torch.tensor([0.16, 0.84], dtype=torch.float64))
        return 1 - (2 * self.stddev[name] / (tails[1] - tails[0])).square()

    # ---- showing

    def rows(self) -> list[dict[str, Any]]:
        """A table: every quantity with its largest difference, p-value and coverage."""
        table = []
        for name, one in self.judged.items():
            row: dict[str, Any] = {"quantity": name, "ECDF off by": one.value, "p": one.p_value}
            for share in LEVELS:
                claimed, held = self.coverage(name, share)
                row[f"{100 * claimed:.3g} % intervals hold"] = f"{100 * held.value:.1f} %"
            table.append(row)
        return table

    def __str__(self) -> str:
        found = self.judged[self.worst]
        refused = "" if self.refused is None else f", {self.refused} of them refused"
        counted = " Fits are by weights alone, and refused ones count; `.trusted()` judges the others."
        shift, ratio = self._detectable
        verdict = "calibrated as far as can be seen" if self.passed else "NOT calibrated"
        return (
            f"{self.fits} fits{refused}: {verdict}, p = {number(self.p_value)} for {len(self.judged)} "
            f"quantities together; worst {self.worst}: {found}. Seen 4 times in 5: a mean {number(shift, 2)} "
            f"posterior standard deviations off, a standard deviation {number(ratio, 2)} of the right one."
            f"{' ' + self.note if self.note else ''}{counted if self.refused else ''}"
        )

    def figure(self, title: str = "") -> Any:
        """Draw every quantity's ECDF less that of uniform ranks, the band, and the coverage."""
        from experiments.compare.sbc.figure import figure

        return figure(self, title)

    def to_arviz(self) -> Any:
        """What ArviZ's calibration plots read: one group ``prior_sbc`` of PIT values.

        One variable for every quantity, (chain 1, draw fits), between 0 and 1. With ArviZ 1.x,
        ``az.plot_ecdf_pit(result.to_arviz())`` (from ``arviz_plots``); with 0.x,
        ``az.plot_ecdf(out["prior_sbc"]["mu"].values.ravel(), cdf=scipy.stats.uniform().cdf, ...)``.
        The group is called so for truths from a posterior too, since this is where the plot looks.
        """
        from inference.arviz_groups.build import build

        values = {name: np.asarray(pit)[None] for name, pit in self.pit().items()}
        return build({"prior_sbc": values}, {}, {}, {"fits": self.fits, "refused": self.refused})


@lru_cache(maxsize=64)
def _detectable(count: int, highest: int, level: float) -> tuple[float, float]:
    return rank_test(count, highest).detectable(level)
