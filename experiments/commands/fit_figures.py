"""Pictures of a fit: the loss, the restarts over each other, new data beside the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.commands.panels import Array, grid, legend_above, predictive_panel
from experiments.report.style import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["posterior_figure", "predictive_figure"]

PANELS = 9
BINS = 30
# Points of an ELBO's history from which on the view is cut to its upper part.
MANY = 40
LABEL = "drawn from the posterior"
# The numbers drawn for one site; more would not be seen.
ELEMENTS = 2_000_000


def posterior_figure(draws: Mapping[str, Any], history: Sequence[tuple[str, int, float]]) -> Figure | None:
    """The ELBO, then a panel for each of the first unknowns, one line a restart.

    ``draws`` maps sites to arrays or tensors (restart, draw, *site shape); ``history`` is that of
    the posterior. None if there is nothing to draw.
    """
    space = PANELS - bool(history)
    columns = list(islice(_columns(draws), space))
    if not columns and not history:
        return None
    figure, axes = grid(len(columns) + bool(history))
    if history:
        _elbo(axes[0], history)
        axes = axes[1:]
    for axis, (name, values) in zip(axes, columns, strict=True):
        low, high = np.quantile(values, [0.001, 0.999])
        edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1).tolist()
        for number, restart in enumerate(values):
            colour = PALETTE[number % len(PALETTE)]
            label = f"restart {number + 1}"
            axis.hist(restart, edges, density=True, histtype="step", color=colour, label=label)
        axis.set(xlabel=name, ylabel="density")
    if columns and len(columns[0][1]) <= len(PALETTE):
        legend_above(figure, axes[0])
    return figure


def predictive_figure(idata: Any) -> Figure | None:
    """Draws of the posterior predictive beside the observed data, all rows of a site together.

    ``idata`` is what ``to_arviz`` returned. None if it has no posterior predictive.
    """
    predictive = _group(idata, "posterior_predictive")
    observed = _group(idata, "observed_data")
    names = [name for name in observed if name in predictive][:PANELS]
    if not names:
        return None
    figure, axes = grid(len(names))
    for axis, name in zip(axes, names, strict=True):
        draws = predictive[name].reshape(-1)
        step = 1 + draws.size // ELEMENTS
        data = observed[name].reshape(-1).astype(np.float64)
        predictive_panel(axis, name, LABEL, draws[::step].astype(np.float64), data)
    legend_above(figure, axes[0], LABEL)
    return figure


def _elbo(axis: Axes, history: Sequence[tuple[str, int, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for number, (steps, elbos) in enumerate(_rounds(history)):
        axis.plot(steps, elbos, ".-", ms=4, lw=1, color=PALETTE[number % len(PALETTE)])
    finite = np.array([elbo for _, _, elbo in history if np.isfinite(elbo)])
    if finite.size > MANY:
        # The first steps lie so far below that the rest would be a flat line.
        low, high = np.quantile(finite, [0.25, 1.0])
        margin = 0.1 * (high - low) or 1.0
        axis.set_ylim(low - margin, high + margin)
    rungs = ", ".join(dict.fromkeys(rung for rung, _, _ in history))
    axis.set(xlabel=f"step ({rungs})", ylabel="ELBO (nats)")
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _rounds(history: Sequence[tuple[str, int, float]]) -> list[tuple[list[int], list[float]]]:
    """Steps and ELBOs of one climb after the other: a new one begins where steps start again."""
    rounds: list[tuple[list[int], list[float]]] = []
    last: tuple[str, int] | None = None
    for rung, step, elbo in history:
        if last is None or rung != last[0] or step <= last[1]:
            rounds.append(([], []))
        rounds[-1][0].append(step)
        rounds[-1][1].append(elbo)
        last = (rung, step)
    return rounds


def _columns(draws: Mapping[str, Any]) -> Any:
    """Name and (restart, draw) array of one element after the other."""
    for name, value in draws.items():
        array: NDArray[Any] = np.asarray(value)
        for index in np.ndindex(array.shape[2:]):
            label = f"{name}[{', '.join(map(str, index))}]" if index else name
            values: Array = array[(slice(None), slice(None), *index)].astype(np.float64)
            yield label, values


def _group(idata: Any, name: str) -> dict[str, NDArray[Any]]:
    try:
        group = idata[name]
    except KeyError:
        return {}
    return {str(key): np.asarray(value) for key, value in group.data_vars.items()}
