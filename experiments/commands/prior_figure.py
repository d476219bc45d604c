"""What a story implies before it has seen anything: its sites' prior predictive distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from experiments.commands.check import Checked, prior_traces
from experiments.commands.panels import Array, grid, legend_above, predictive_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["prior_figure"]

DRAWS = 300
PANELS = 9
LABEL = "drawn from the prior"
# The numbers drawn for one site; more would not be seen.
ELEMENTS = 2_000_000


def prior_figure(checked: Checked, seed: int = 0) -> Figure:
    """A panel per site, data first: draws of the prior predictive, and the data where given."""
    kinds = {row["site"]: row["kind"] for row in checked.sites}
    data = [name for name in kinds if name in checked.data]
    latent = [name for name, kind in kinds.items() if kind.startswith(("latent", "observed"))]
    names = (data + latent)[:PANELS]
    draws = _draws(checked, names, seed)
    figure, axes = grid(len(names))
    for axis, name in zip(axes, names, strict=True):
        seen = _flat(checked.data[name]) if checked.given and name in checked.data else None
        predictive_panel(axis, name, LABEL, draws[name], seen)
    if checked.given:
        legend_above(figure, axes[0], LABEL)
    return figure


def _draws(checked: Checked, names: list[str], seed: int) -> Mapping[str, Array]:
    largest = max((value.numel() for value in checked.data.values()), default=1)
    count = max(4, min(DRAWS, ELEMENTS // largest))
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for trace in prior_traces(checked.call, count, seed):
        for name in names:
            parts[name].append(_flat(trace.nodes[name]["value"]))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _flat(value: Tensor) -> Array:
    return value.detach().to(torch.float64).reshape(-1).numpy()
