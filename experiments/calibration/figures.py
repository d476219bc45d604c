"""The pictures of the experiment ``calibration``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from experiments.compare import Calibration
from experiments.compare.result import number
from experiments.compare.sbc.ecdf_bands import rank_test
from experiments.compare.sbc.figure import BAND, ecdf_panel, outside
from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style


def grid(found: Mapping[str, Calibration], quantities: Sequence[str]) -> Any:
    """One column for every posterior, one row for every quantity."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(
            len(quantities), len(found), figsize=(2.7 * len(found), 1.9 * len(quantities) + 0.8),
            sharex=True, sharey="row", squeeze=False,
        )  # fmt: skip
        for column, (title, one) in zip(axes.T, found.items(), strict=True):
            for axis, name in zip(column, quantities, strict=True):
                ecdf_panel(axis, one, name)
                p = one.judged[name].p_value
                axis.annotate(
                    "p < .0001" if p < 1e-4 else f"p = {number(p, 2)}", (0.03, 0.04), fontsize=10,
                    xycoords="axes fraction", color=OTHER if outside(one, name) else ESTIMATED,
                )  # fmt: skip
            column[0].set_title(title, fontsize=11)
            column[-1].set_xlabel("rank of the truth")
        for axis, name in zip(axes[:, 0], quantities, strict=True):
            axis.set_ylabel(f"{name}\nECDF − uniform")
    return figure


def passing(found: Mapping[str, Calibration]) -> Any:
    """Every story's quantities on top of each other, inside the band of all of them."""
    import matplotlib.pyplot as plt

    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    with style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(4 * columns, 2.5 * rows), sharex=True, sharey=True, squeeze=False
        )
        for axis, (title, one) in zip(axes.ravel(), found.items(), strict=False):
            ecdf_panel(axis, one, *one.judged)
            axis.set_title(
                f"{title}\n{len(one.judged)} quantities, p = {number(one.p_value, 2)}", fontsize=11
            )
        for axis in axes.ravel()[len(found) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel("ECDF − uniform")
        for i, axis in enumerate(axes.ravel()[: len(found)]):
            last = i + columns >= len(found)
            axis.tick_params(labelbottom=last)
            axis.set_xlabel("rank of the truth" if last else "")
    return figure


def judged(
    together: torch.Tensor,
    each: torch.Tensor,
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    dots: Mapping[str, tuple[Sequence[int], Sequence[float], Sequence[float]]],
    found: Mapping[str, Calibration],
) -> Any:
    """Level over repetitions, power against the number of fits, and coverage of the planted faults."""
    import matplotlib.pyplot as plt

    with style():
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.9))
        _levels(left, together, each)
        for colour, (name, (fits, power)) in zip(PALETTE, curves.items(), strict=False):
            middle.plot(fits, power, color=colour, label=name)
            at, share, error = dots[name]
            middle.errorbar(at, share, [2 * e for e in error], fmt="o", ms=6, color=colour, capsize=3)
        middle.set(
            xscale="log", ylim=(0, 1.05), xlabel="fits", ylabel="share of calibrations that fail",
            title="Power: lines exact, dots simulated",
        )  # fmt: skip
        middle.set_xticks([20, 50, 100, 200, 500, 1000], ["20", "50", "100", "200", "500", "1,000"])
        middle.minorticks_off()
        middle.legend(loc="lower right")
        _coverage(right, found)
    return figure


def _levels(axis: Any, together: torch.Tensor, each: torch.Tensor) -> None:
    test = rank_test(len(together), 999)
    lower, upper = test.band()
    axis.fill_between(test.at, lower, upper, color=BAND, lw=0, label="95 % of right tests")
    for column in each.T:
        axis.ecdf(column.numpy(), color=ESTIMATED, lw=1, alpha=0.6)
    axis.ecdf(together.numpy(), color=TRUE, lw=2, label="all together")
    axis.plot([], [], color=ESTIMATED, lw=1, label="each quantity")
    axis.set(xlabel="p-value", ylabel="share of repetitions below", title="Level: right posteriors")
    axis.legend(loc="lower right")


def _coverage(axis: Any, found: Mapping[str, Calibration]) -> None:
    shares = [k / 40 for k in range(1, 40)]
    axis.plot([0, 1], [0, 1], color=TRUE, lw=1)
    for colour, (title, one) in zip(PALETTE, found.items(), strict=False):
        held = [one.coverage("first", share) for share in shares]
        axis.plot(
            [c for c, _ in held], [e.value for _, e in held], color=colour, label=title.replace("\n", " ")
        )
    axis.set(
        xlabel="share that central intervals claim", ylabel="share of truths they hold",
        title="Coverage of the first cause",
    )  # fmt: skip
    axis.legend(loc="upper left", fontsize=9)
