"""The figure of ``misspecified_story``: numbers in, a matplotlib figure out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style

BINS = 20
LOOK = {
    "naive Bayes": (OTHER, "o"), "normal classes": (OTHER, "o"), "with correlations": (ESTIMATED, "s"),
    "logistic regression": (PALETTE[2], "^"),
}  # fmt: skip


def inversion(copied: Any, skewed: Any, factor: float, known: dict[str, float]) -> Any:
    """Reliability of correlated features, p(y | x) of skewed classes, and excess losses."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, 3, figsize=(14, 4.5), width_ratios=[1, 1.1, 0.9])
        _reliability(axes[0], copied, factor)
        _skewed(axes[1], skewed)
        _losses(axes[2], copied, skewed, known)
    return figure


def _reliability(axis: Any, world: Any, factor: float) -> None:
    """Share of class 1 among rows of which a probability was said."""
    said = torch.linspace(1e-4, 1 - 1e-4, 400, dtype=torch.float64)
    axis.plot([0, 1], [0, 1], color=TRUE, lw=1, ls=":")
    axis.plot(said, torch.sigmoid(said.logit() / factor), color=TRUE, label="closed form")
    for name, odds in world.learned.items():
        colour, marker = LOOK[name]
        p = torch.sigmoid(odds[0])
        place, share = _binned(p, world.y)
        axis.plot(place, share, marker, color=colour, ms=6, alpha=0.85, label=name)
    axis.set(xlabel="p(y = 1 | x) as it was said", ylabel="share of class 1", title="Correlated features")
    axis.legend(loc="upper left", fontsize=9)


def _binned(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean probability and share of class 1 in equally wide bins that hold 50 rows or more."""
    member = torch.nn.functional.one_hot((p * BINS).long().clamp(max=BINS - 1), BINS).double()
    rows = member.sum(0)
    kept = rows >= 50
    return (p @ member / rows)[kept], (y.double() @ member / rows)[kept]


def _skewed(axis: Any, world: Any) -> None:
    """p(y | x): true, by the nearest normals, and learned, with the classes behind."""
    x = torch.linspace(-0.8, 6, 400, dtype=torch.float64)
    normals = world.law.nearest_normals()
    for label, colour in ((0, PALETTE[3]), (1, PALETTE[4])):
        true = world.law.log_prob_by_class(x[:, None]).exp()[:, label]
        axis.fill_between(x, true, color=colour, alpha=0.3, lw=0)
        axis.plot(x, normals.log_prob(x[:, None]).exp()[:, label], color=colour, lw=1.2, ls="--")
        axis.text((0.55, 2.6)[label], (0.06, 0.06)[label], f"y = {label}", color="#444444")
    order = world.x[:, 0].sort().indices
    order = order[:: max(1, len(order) // 400)]
    place = world.x[order, 0]
    positive = x[x > 0]
    axis.plot(
        positive, torch.sigmoid(world.law.log_odds(positive)), color=TRUE, lw=4, alpha=0.5, label="true"
    )
    for name, odds in world.learned.items():
        line = "-" if name == "normal classes" else "--"
        axis.plot(place, torch.sigmoid(odds[0][order]), line, color=LOOK[name][0], label=name)
    axis.set(
        xlabel="x", ylabel="p(y = 1 | x), densities", title="Skewed classes", xlim=(-0.8, 6), ylim=(0, 1.02)
    )
    axis.legend(loc="center right", fontsize=9)


def _losses(axis: Any, copied: Any, skewed: Any, known: dict[str, float]) -> None:
    """Excess log losses as bars, what is known as black ticks."""
    bars = [(f"{name}\n(correlated)", copied, name) for name in copied.learned]
    bars += [(f"{name}\n(skewed)", skewed, name) for name in skewed.learned]
    for place, (_, world, name) in enumerate(reversed(bars)):
        value = world.loss(name)
        axis.barh(place, value.value, 0.55, color=LOOK[name][0], xerr=2 * value.error, ecolor="#777777")
        exact = known.get(name, 0.0)
        axis.plot([exact, exact], [place - 0.4, place + 0.4], color=TRUE, lw=2.5)
    axis.set_yticks(range(len(bars)), [label for label, *_ in reversed(bars)], fontsize=9)
    axis.plot([], [], color=TRUE, lw=2.5, label="closed form")
    axis.set(xlabel="excess log loss / nats", title="What it costs", xticks=[0, 0.1, 0.2, 0.3])
    axis.legend(loc="lower right", fontsize=9)
