"""Small panels for figures: what a story draws at a site, beside the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.report.style import ESTIMATED, OTHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Array", "grid", "legend_above", "predictive_panel"]

COLUMNS = 3
# Data with fewer numbers than this are drawn one by one.
FEW = 60
# An integer site with more values than this is drawn as a histogram.
BARS = 40

Array = NDArray[np.float64]


def grid(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels in rows of three."""
    import matplotlib.pyplot as plt

    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.7 * rows), squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def legend_above(figure: Figure, axis: Axes, first: str = "") -> None:
    """One legend for all panels, from the labels of one of them, ``first`` leading."""
    handles, labels = axis.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    order = sorted(found, key=lambda label: label != first)
    figure.legend([found[n] for n in order], order, loc="outside upper right", ncols=len(order))


def predictive_panel(axis: Axes, name: str, label: str, draws: Array, data: Array | None) -> None:
    """All elements of a site together: draws as bars or a histogram, the data on top.

    ``draws`` and ``data`` are flat; what is not finite is left out.
    """
    draws = draws[np.isfinite(draws)]
    data = None if data is None else data[np.isfinite(data)]
    together = draws if data is None else np.concatenate([draws, data])
    style: dict[str, Any] = {"color": ESTIMATED, "alpha": 0.75, "label": label}
    if np.all(together == np.round(together)) and np.ptp(together) < BARS:
        _bars(axis, draws, data, style)
    else:
        _histogram(axis, draws, data, style)
    axis.set_xlabel(name)
    axis.set_ylim(bottom=0)


def _bars(axis: Axes, draws: Array, data: Array | None, style: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    values, counts = np.unique(draws, return_counts=True)
    axis.bar(values, counts / counts.sum(), width=0.8, **style)
    if data is not None:
        values, counts = np.unique(data, return_counts=True)
        axis.plot(values, counts / counts.sum(), "D", color=OTHER, ms=5, label="the data")
    axis.set_ylabel("share")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _histogram(axis: Axes, draws: Array, data: Array | None, style: dict[str, Any]) -> None:
    low, high = np.quantile(draws, [0.01, 0.99])
    if data is not None:
        low, high = min(low, data.min()), max(high, data.max())
    bins = int(np.clip(np.sqrt(len(draws)), 12, 40))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    height = np.full(len(draws), _height(edges, draws))
    axis.hist(draws, edges.tolist(), weights=height, histtype="stepfilled", **style)
    if data is not None:
        _data(axis, edges, data)
    axis.set_ylabel("density")


def _data(axis: Axes, edges: Array, data: Array) -> None:
    if len(data) < FEW:
        base = axis.get_xaxis_transform()
        mark: dict[str, Any] = {"marker": "|", "ms": 12, "mew": 1.2, "ls": "", "clip_on": False}
        height = np.full(len(data), 0.04)
        axis.plot(data, height, color=OTHER, transform=base, label="the data", **mark)
        return
    height = np.full(len(data), _height(edges, data))
    outline: dict[str, Any] = {"histtype": "step", "color": OTHER, "lw": 1.8}
    axis.hist(data, edges.tolist(), weights=height, label="the data", **outline)


def _height(edges: Array, values: Array) -> float:
    """Of one value in a histogram whose whole area, the cut tails included, is one."""
    return 1.0 / (len(values) * float(edges[1] - edges[0]))
