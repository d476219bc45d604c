"""The figure of ``way_back``: numbers in, a matplotlib figure out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style
from experiments.truth.simulators.shared_covariance import SharedCovariance

LIMIT = 3.4
SECOND = torch.linspace(-3, 3, 25, dtype=torch.float64)  # x2, where it is all that is seen
SHOWN = 150  # generated points of a class


def worlds(shown: Sequence[tuple[str, SharedCovariance, Tensor, Tensor]]) -> Any:
    """Each world's clouds over the common p(y | x), and below what x2 alone says of y."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(2, len(shown), figsize=(12, 7.6), height_ratios=[1.5, 1])
        for (name, law, generated, half), (above, below) in zip(shown, axes.T, strict=True):
            shade = _clouds(above, law, generated)
            above.set_title(f"{name}: least error {100 * law.least_error:.1f} %")
            _half(below, law, half)
        axes[0, 0].set_ylabel("x2")
        axes[1, 0].set_ylabel("p(y = 1 | x2)")
        axes[1, 0].legend(loc="upper left", fontsize=9)
        figure.colorbar(shade, ax=axes[0], label="p(y = 1 | x), the same in all", shrink=0.8)
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def _clouds(axis: Any, law: SharedCovariance, generated: Tensor) -> Any:
    """Shade p(y = 1 | x); draw generated points and rings of the truth."""
    from matplotlib.colors import LinearSegmentedColormap

    pale = LinearSegmentedColormap.from_list("pale", ["#f4cdb2", "#ffffff", "#b5d5ea"])
    line = torch.linspace(-LIMIT, LIMIT, 120, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    p = law.probabilities(points)[:, 1].reshape(120, 120).T.numpy()
    shade = axis.imshow(p, origin="lower", extent=(-LIMIT, LIMIT) * 2, cmap=pale, vmin=0, vmax=1)
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    ring = math.sqrt(-2 * math.log(0.1)) * torch.stack([angle.cos(), angle.sin()])
    root = torch.linalg.cholesky(law.covariance)
    for label, (marker, colour) in enumerate((("o", OTHER), ("s", ESTIMATED))):
        x = generated[label, :SHOWN]
        axis.plot(*x.T, marker, color=colour, ms=3.5, alpha=0.8, mew=0, label=f"generated, y = {label}")
        place = law.means[label][:, None] + root @ ring
        axis.plot(*place, color=TRUE, lw=1.4, label="true, 90 %" if label else None)
    axis.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="x1")
    return shade


def _half(axis: Any, law: SharedCovariance, half: Tensor) -> None:
    """What x2 alone says: truth, the fitted story, and the regression told that x1 is its mean."""
    fine = torch.linspace(-3, 3, 200, dtype=torch.float64)
    axis.plot(
        fine, law.part([1]).probabilities(fine[:, None])[:, 1], color=TRUE, lw=4, alpha=0.5, label="true"
    )
    axis.plot(SECOND, half, "o", color=ESTIMATED, ms=4.5, label="fitted story, x1 integrated out")
    axis.axhline(0.5, color=PALETTE[2], ls="--", lw=1.4, label="regression, x1 set to its mean")
    axis.set(xlabel="x2, x1 unseen", ylim=(-0.04, 1.04))
