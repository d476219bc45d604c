"""Figures of ``posteriordb``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from experiments.compare.chain_moments import MEAN, STDDEV
from experiments.posteriordb.measures import WARNED, PeerTiming, ScoreboardEntry
from experiments.report.style import PALETTE

GREY, BEYOND = "#777777", "#f6e3da"
MARKERS = "osD^vP"


def errors(entries: Sequence[ScoreboardEntry]) -> Any:
    """Largest errors of every posterior against the tolerances, coloured by rung, marked by verdict."""
    import matplotlib.pyplot as plt

    order = sorted(entries, key=lambda one: max(one.found.mean / MEAN, one.found.stddev / STDDEV))
    rungs = sorted({one.rung for one in order if one.trusted})
    colours = {rung: (PALETTE * 2)[k] for k, rung in enumerate(rungs)}
    size = (10, 1.8 + 0.24 * len(order))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    panels = (
        ("mean", MEAN, 1.0, "largest error of a mean (reference sd)"),
        ("stddev", STDDEV, 100.0, "largest error of a standard deviation (%)"),
    )
    for axis, (kind, limit, unit, label) in zip(axes, panels, strict=True):
        values = [_shown(getattr(one.found, kind)) * unit for one in order]
        lowest, highest = 0.8 * min(0.1 * limit * unit, *values), max(2 * limit * unit, 1.3 * max(values))
        axis.axvspan(limit * unit, highest, color=BEYOND, zorder=0)
        axis.axvline(limit * unit, color=PALETTE[1], linewidth=1)
        for place, (one, value) in enumerate(zip(order, values, strict=True)):
            marker, colour = ("o", colours[one.rung]) if one.trusted else ("X", "black")
            inside = "white" if one.verdict == WARNED else colour
            axis.scatter(value, place, s=42, zorder=3, marker=marker, facecolor=inside, edgecolor=colour)
        axis.set(xscale="log", xlim=(lowest, highest), xlabel=label)
        _plain(axis)
    axes[0].set_yticks(range(len(order)), [one.name for one in order], fontsize=8)
    axes[0].set_ylim(-0.7, len(order) - 0.3)
    handles = [_handle("o", colours[rung], rung) for rung in rungs]
    if any(one.verdict == WARNED for one in order):
        handles.append(_handle("o", "black", "warned of in words", markerfacecolor="white"))
    if not all(one.trusted for one in order):
        handles.append(_handle("X", "black", "refused"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
    return figure


def times(timings: Sequence[PeerTiming]) -> Any:
    """Seconds of the first and the second fit, one row per posterior, one mark per library."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(one.name for one in timings))[::-1]
    libraries = list(dict.fromkeys(one.library for one in timings))
    looks = {library: (MARKERS[k % len(MARKERS)], PALETTE[k]) for k, library in enumerate(libraries)}
    size = (10, 1.7 + 0.45 * len(names))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for k, (axis, which) in enumerate(zip(axes, ("first", "second"), strict=True)):
        for one in timings:
            if math.isinf(one.seconds[k]):
                continue
            marker, colour = looks[one.library]
            right = one.state(k) == "right"
            place = names.index(one.name) + 0.16 * (1.5 - libraries.index(one.library))
            axis.scatter(
                one.seconds[k], place, s=44 if right else 36, color=colour, marker=marker if right else "x",
                linewidth=0 if right else 1.6, zorder=3,
            )  # fmt: skip
        axis.set(xscale="log", xlabel=f"{which} fit (s)")
        _plain(axis)
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    handles = [_handle(*looks[library], library) for library in libraries]
    handles.append(_handle("x", GREY, "wrong or refused"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _handle(marker: str, colour: str, label: str, **looks: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=marker, linestyle="", color=colour, label=label, **looks)


def _plain(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 of a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="both")


def _shown(error: float) -> float:
    """An error that a logarithmic axis can show."""
    return min(max(error, 1e-4), 10.0)
