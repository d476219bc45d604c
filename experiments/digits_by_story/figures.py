"""The figures of ``digits_by_story``: numbers in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from experiments.report.style import TRUE, style
from experiments.truth.images.digits import LEVELS, SIDE

GAP = 1  # pixels between images


def side_by_side(shown: Mapping[str, Tensor | None]) -> Any:
    """A row of images per story, a column per digit.

    ``shown``: name -> (10, 64) grey levels, or None where there are no images.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(7.2, 0.62 * len(shown) + 0.5), layout="constrained")
        axes = figure.subplots()
        axes.imshow(np.concatenate([_line(tiles) for tiles in shown.values()]), vmin=0, vmax=LEVELS)
        axes.set_yticks(_middles(len(shown)), [name.replace("_", " ") for name in shown])
        axes.set_xticks(_middles(10), [str(digit) for digit in range(10)])
        axes.xaxis.tick_top()
        axes.tick_params(length=0, colors=TRUE)
        axes.spines[:].set_visible(False)
        axes.axhline(SIDE + (GAP - 1) / 2, color=TRUE, lw=1.2)  # below the real ones
        for row, tiles in enumerate(shown.values()):
            if tiles is None:
                axes.text(
                    0, _middles(len(shown))[row], "no images: see its row", va="center", color="#555555"
                )
    return figure


def _middles(count: int) -> list[float]:
    return [(SIDE + GAP) * i + (SIDE - 1) / 2 for i in range(count)]


def _line(tiles: Tensor | None) -> np.ndarray:
    """Lay ten images in a line, a gap to the right of each and below all."""
    line = np.full((SIDE + GAP, 10 * (SIDE + GAP)), np.nan)
    if tiles is not None:
        images = tiles.double().reshape(10, SIDE, SIDE).numpy()
        for i, image in enumerate(images):
            line[:SIDE, i * (SIDE + GAP) : i * (SIDE + GAP) + SIDE] = image
    return line
