"""The figures of ``simple_to_complex``: every story beside every truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from experiments.report.style import ESTIMATED, TRUE
from experiments.simple_to_complex.fits import DensityFit
from experiments.truth.densities import density
from experiments.truth.law import grid

CELLS = 200  # per side of the pictures of the truth
SHOWN = 1000  # draws in a panel
Results = Mapping[tuple[str, str], DensityFit]


def drawn(truths: Sequence[str], stories: Sequence[str], results: Results) -> Any:
    """Draws of every truth in the first row, of every story below it."""
    figure, panels = _sheet(truths, stories)
    for column, truth in enumerate(truths):
        real = density(truth).sample_labelled(SHOWN, seed=1).x
        _points(panels[0, column], real, TRUE)
        for row, story in enumerate(stories, 1):
            result = results[story, truth]
            if result.draws is None:
                _missing(panels[row, column])
            else:
                _points(panels[row, column], result.draws[:SHOWN], ESTIMATED)
                _note(panels[row, column], _score(result))
    return figure


def densities(truths: Sequence[str], stories: Sequence[str], results: Results) -> Any:
    """The density of every truth in the first row, of every story that has one below it."""
    figure, panels = _sheet(truths, stories)
    for column, truth in enumerate(truths):
        law = density(truth)
        points, _ = grid(law.bounds, CELLS)
        real = law.log_prob(points).exp().reshape(CELLS, CELLS).T
        top = float(real.max())
        _image(panels[0, column], real, law.bounds, top)
        for row, story in enumerate(stories, 1):
            result = results[story, truth]
            if result.image is None:
                _missing(panels[row, column])
            else:
                _image(panels[row, column], result.image, law.bounds, top)
                _note(panels[row, column], _score(result))
    return figure


def _sheet(truths: Sequence[str], stories: Sequence[str]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows, columns = len(stories) + 1, len(truths)
    figure = Figure(
        figsize=(1.6 * columns + 0.9, 1.78 * rows + 0.4),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01),
    )
    panels = figure.subplots(rows, columns, squeeze=False)
    for column, truth in enumerate(truths):
        panels[0, column].set_title(truth.replace("_", " "), fontsize=11, loc="center")
        low, high = density(truth).bounds
        for axes in panels[:, column]:
            axes.set(xticks=[], yticks=[], xlim=(low, high), ylim=(low, high), aspect="equal")
            axes.spines[:].set(visible=True, color="#cccccc")
    for axes, name in zip(panels[:, 0], ["truth", *stories], strict=True):
        axes.set_ylabel(name.replace("_", "\n"), fontsize=11)
    return figure, panels


def _points(axes: Any, x: torch.Tensor, colour: str) -> None:
    axes.plot(*x.T.numpy(), ".", color=colour, markersize=1.8, markeredgewidth=0, rasterized=True)


def _image(axes: Any, image: torch.Tensor, bounds: tuple[float, float], top: float) -> None:
    # The root shows thin places, too; all panels of a column share its scale.
    axes.imshow(
        np.sqrt(image.numpy()), cmap="Greys", vmin=0, vmax=top**0.5, origin="lower", extent=(*bounds, *bounds)
    )


def _missing(axes: Any) -> None:
    axes.text(0.5, 0.5, "failed", transform=axes.transAxes, ha="center", va="center", color="#D55E00")


def _note(axes: Any, text: str) -> None:
    axes.set_xlabel(text, fontsize=8, labelpad=2)


def _score(result: DensityFit) -> str:
    if result.kl is not None:
        return f"KL {'≤' if result.bound else '='} {result.kl.value:.3f}"
    if result.modes is not None and result.precision is not None:
        return f"{result.modes[0]}/{result.modes[1]} modes, precision {result.precision.value:.2f}"
    if result.density is not None and result.coverage is not None:
        return f"density {result.density.value:.2f}, coverage {result.coverage.value:.2f}"
    return ""
