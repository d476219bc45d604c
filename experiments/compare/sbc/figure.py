"""Pictures of a calibration: ECDFs of ranks less those of uniform ranks, inside or outside their band."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from experiments.compare.result import Estimate, number
from experiments.compare.sbc.ecdf_bands import Uniformity

BAND = "#d9d9d9"
ROUNDING = 1e-12
_MOST = 14  # panels; beyond, the quantities with the smallest p-values


class Ranked(Protocol):
    """What is drawn: ranks of truths, their band, and how often intervals held the truth."""

    @property
    def judged(self) -> Mapping[str, Uniformity]:
        """Of every quantity."""

    def band(self) -> tuple[Tensor, Tensor, Tensor]:
        """Shares, and the lower and upper end of the band at each."""

    def ecdf(self, name: str) -> Tensor:
        """Of a quantity's ranks, at the shares of the band."""

    def coverage(self, name: str, share: float) -> tuple[float, Estimate]:
        """What central intervals claim to hold, and held."""


def figure(calibration: Ranked, title: str = "") -> Any:
    """Small multiples: one panel for every quantity, the worst ones where they are many; then coverage."""
    import matplotlib.pyplot as plt

    from experiments.report.style import style

    names = list(calibration.judged)
    if len(names) > _MOST:
        names = sorted(names, key=lambda name: calibration.judged[name].p_value)[:_MOST]
    columns = min(5, len(names) + 1)
    rows = math.ceil((len(names) + 1) / columns)
    with style():
        made, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 1.9 * rows + 0.7), squeeze=False)
        flat = list(axes.ravel())
        panels = flat[: len(names)]
        for axis, name in zip(panels, names, strict=True):
            ecdf_panel(axis, calibration, name)
            axis.set_title(f"{name}, p = {number(calibration.judged[name].p_value, 2)}", fontsize=10)
        limit = max(abs(y) for axis in panels for y in axis.get_ylim())
        for i, axis in enumerate(panels):
            axis.set_ylim(-limit, limit)
            axis.tick_params(labelleft=i % columns == 0, labelbottom=i + columns > len(names))
            axis.set_ylabel("ECDF − uniform" if i % columns == 0 else "")
            axis.set_xlabel("rank of the truth" if i + columns > len(names) else "")
        coverage_panel(flat[len(names)], calibration, names)
        for axis in flat[len(names) + 1 :]:
            axis.set_visible(False)
        if title:
            made.suptitle(title, x=0.01, ha="left", fontsize=12)
    return made


def ecdf_panel(axis: Any, calibration: Ranked, *names: str) -> None:
    """Draw quantities' ECDFs less the uniform one; in another colour where one leaves the band."""
    from experiments.report.style import ESTIMATED, OTHER

    at, lower, upper = calibration.band()
    end = at.new_tensor([0.0, 1.0])
    shares = torch.cat([end[:1], at, end[1:]])
    below, above, *differences = (
        torch.cat([end[:1], share - at, end[:1]]) for share in (lower, upper, *map(calibration.ecdf, names))
    )
    axis.fill_between(shares, below, above, color=BAND, lw=0)
    axis.axhline(0, color="#555555", lw=0.8)
    for name, difference in zip(names, differences, strict=True):
        colour = OTHER if outside(calibration, name) else ESTIMATED
        axis.plot(shares, difference, color=colour, lw=1.6 if len(names) == 1 else 1)
    axis.set_xticks([0, 0.5, 1], ["0", ".5", "1"])


def coverage_panel(axis: Any, calibration: Ranked, names: list[str]) -> None:
    """Draw, for every quantity, what central intervals held less what they claim."""
    from experiments.report.style import ESTIMATED, OTHER

    shares = [k / 20 for k in range(1, 20)]
    for name in names:
        held = [calibration.coverage(name, share) for share in shares]
        colour = OTHER if outside(calibration, name) else ESTIMATED
        axis.plot([c for c, _ in held], [e.value - c for c, e in held], color=colour, lw=1, alpha=0.7)
    claimed, errors = [c for c, _ in held], [2 * e.error for _, e in held]
    axis.fill_between(claimed, [-e for e in errors], errors, color=BAND, lw=0, zorder=0)
    axis.axhline(0, color="#555555", lw=0.8)
    axis.set_title("coverage − claimed, ±2 errors", fontsize=10)
    axis.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axis.set_xlabel("claimed by the interval")


def outside(calibration: Ranked, name: str) -> bool:
    """Whether the ECDF of a quantity leaves the band of all quantities."""
    _, lower, upper = calibration.band()
    share = calibration.ecdf(name)
    return bool(((share < lower - ROUNDING) | (share > upper + ROUNDING)).any())
