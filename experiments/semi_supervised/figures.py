"""The figures of ``semi_supervised``: numbers in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style
from experiments.truth.images.digits import SIDE

COLOURS = (OTHER, ESTIMATED, PALETTE[4], PALETTE[2])
MARKERS = ("s", "o", "D", "^")
ASIDE = (0.0, 0.0, 0.12, 0.12)  # so that equal shares do not cover each other


def errors(shares: Mapping[str, Sequence[float]], splits: Sequence[int]) -> Any:
    """Share of wrong answers, one column per split, lines between the classifiers that are compared.

    ``shares``: name -> one share per split, in 0 .. 1; the first two are joined by a line.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        axes = figure.subplots()
        at = np.arange(len(splits))
        first, second = (100 * np.asarray(values) for values in list(shares.values())[:2])
        axes.vlines(at, first, second, color="#999999", lw=1.2, zorder=1)
        for (name, values), colour, marker, aside in zip(
            shares.items(), COLOURS, MARKERS, ASIDE, strict=False
        ):
            axes.plot(at + aside, 100 * np.asarray(values), marker, color=colour, ms=8, label=name, zorder=2)
        axes.set_xticks(at, [str(split) for split in splits])
        axes.set(xlabel="random split", ylabel="wrong on held-out digits / %")
        axes.set_ylim(0, 110 * max(map(max, shares.values())))
        axes.set_xlim(-0.5, len(splits) - 0.5)
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def images(drawn: Tensor, labelled: Tensor, levels: int) -> Any:
    """Two sheets of images with a row per digit: all that had a label, and what the story draws.

    Both (10 * columns, 64), sorted by digit, grey levels 0 .. ``levels``.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(8.6, 4.6), layout="constrained")
        for axes, sheet, title in zip(
            figure.subplots(1, 2), (labelled, drawn), ("all rows with a label", "x′ ~ p(x | y)"), strict=True
        ):
            axes.imshow(_sheet(sheet), cmap="Greys", vmin=0, vmax=levels)
            axes.set(xticks=[], title=title)
            axes.set_yticks([(SIDE + 1) * digit + (SIDE - 1) / 2 for digit in range(10)], range(10))
            axes.tick_params(length=0, colors=TRUE)
            axes.spines[:].set_visible(False)
    return figure


def _sheet(rows: Tensor) -> np.ndarray:
    """Lay images (10 * columns, 64) out with ten rows and gaps of one pixel."""
    tiles = rows.double().reshape(10, -1, SIDE, SIDE)
    sheet = np.full((10 * (SIDE + 1), tiles.shape[1] * (SIDE + 1)), np.nan)
    for i, line in enumerate(tiles):
        for j, tile in enumerate(line):
            sheet[i * (SIDE + 1) : (i + 1) * (SIDE + 1) - 1, j * (SIDE + 1) : (j + 1) * (SIDE + 1) - 1] = tile
    return sheet[:-1, :-1]
