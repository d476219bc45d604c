"""The figures of ``notes_in_pictures``: six small pictures, each for itself and all on one sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE
from experiments.truth.images.digits import LEVELS, SIDE
from experiments.truth.law import Labelled, Law

SIZE = (6.4, 3.3)  # inches: 1,024 pixels across, sharp at half of that
GAP = 2  # pixels of paper between two images
SOFT = "#8a8f96"
# What is shown of the plane: (left, right), (bottom, top).
MOONS, PINWHEEL = ((-3.8, 3.8), (-2.7, 2.7)), ((-5.1, 5.1), (-4.3, 4.3))
View = tuple[tuple[float, float], tuple[float, float]]
# The label 0 and the label 1.
ZERO, ONE = OTHER, ESTIMATED


@dataclass(frozen=True)
class Picture:
    """One picture: its words, and ``draw(figure)``, which fills a figure or a part of one."""

    name: str
    title: str
    text: str
    caption: str
    draw: Callable[[Any], None]


def single(picture: Picture) -> Any:
    """A figure of one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    _titled(figure, picture.title)
    picture.draw(figure)
    return figure


def sheet(pictures: Sequence[Picture]) -> Any:
    """All pictures, two in a row."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(pictures) / 2)
    figure = Figure(figsize=(2.1 * SIZE[0], (SIZE[1] + 0.25) * rows), layout="constrained")
    parts: Any = figure.subfigures(rows, 2, wspace=0.04, hspace=0.06)
    for number, (part, picture) in enumerate(zip(parts.flat, pictures, strict=False), 1):
        _titled(part, f"{number}.  {picture.title}")
        picture.draw(part)
    return figure


def _titled(figure: Any, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")


def one_answer(image: Tensor, answer: Tensor, drawn: Tensor, digit: int, figure: Any) -> None:
    """An image and its label's probabilities; many images of the label."""
    seen, bars, many = figure.subplots(1, 3, width_ratios=[0.8, 0.9, 2.0])
    _images(seen, image[None], 1)
    seen.set_title("one x", loc="center")
    colours = [OTHER if y == digit else SOFT for y in range(10)]
    bars.barh(range(10), answer.numpy(), color=colours, height=0.75)
    bars.set(xlim=(0, 1), xticks=[0, 1], yticks=range(10), ylim=(9.6, -0.6))
    bars.set_title("p(y | x): one y", loc="center", color=OTHER)
    bars.tick_params(axis="y", length=0)
    _images(many, drawn, 6)
    many.set_title(f"y = {digit}, many x′ ~ p(x | y)", loc="center", color=ESTIMATED)


def _images(axes: Any, images: Tensor, columns: int) -> None:
    tiles = images.double().reshape(-1, columns, SIDE, SIDE)
    padded = torch.nn.functional.pad(tiles, (0, GAP, 0, GAP))
    paper = padded.permute(0, 2, 1, 3).reshape(len(tiles) * (SIDE + GAP), -1)[:-GAP, :-GAP]
    axes.imshow(paper.numpy(), cmap="Greys", vmin=0, vmax=LEVELS)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def both_ways(x: Tensor, given: Sequence[Tensor], inverted: Tensor, exact: Tensor, figure: Any) -> None:
    """The joint, its inversion, and three laws that the inversion cannot tell apart."""
    joint, bayes, back = figure.subplots(1, 3)
    for y, colour in enumerate((ZERO, ONE)):
        half = (0.5 * given[y]).numpy()
        joint.fill_between(x, half, color=colour, alpha=0.35, lw=0)
        joint.plot(x, half, color=colour)
        joint.text(3.1 * (2 * y - 1), 0.8 * half.max(), f"y = {y}", color=colour, ha="center", fontsize=11)
    joint.set(xlabel="x", yticks=[], ylim=(0, None), xlim=(-4, 4))
    joint.set_title("p(x | y) p(y)", loc="center")
    bayes.plot(x, exact, color=TRUE, lw=5, alpha=0.35, label="exact")
    bayes.plot(x, inverted, color=ONE, label="story")
    bayes.set(xlabel="x", yticks=[0, 1], ylim=(-0.03, 1.03))
    bayes.set_title("→  p(y = 1 | x)", loc="center")
    bayes.legend(loc="upper left", fontsize=9, handlelength=1.2, borderaxespad=0)
    laws = _three_laws(x)
    for row, law in enumerate(laws):
        floor, top = 2.0 - row, (0.8 * law / law.max()).numpy()
        split = top * (1 - exact.numpy())
        back.fill_between(x, floor, floor + split, color=ZERO, alpha=0.55, lw=0)
        back.fill_between(x, floor + split, floor + top, color=ONE, alpha=0.55, lw=0)
        back.plot(x, floor + top, color=TRUE, lw=1)
    back.set(xlabel="x", yticks=[], ylim=(-0.05, 3.0))
    back.set_title("↛  p(x): any of these", loc="center")
    for axes in (joint, back):
        axes.spines["left"].set_visible(False)


def _three_laws(x: Tensor) -> list[Tensor]:
    """Two Gaussians; an even law; three narrow bumps."""
    bumps = [torch.exp(-0.5 * ((x - centre) / 0.35) ** 2) for centre in (-2.6, 0.2, 2.2)]
    gaussians = torch.exp(-0.5 * (x + 1) ** 2) + torch.exp(-0.5 * (x - 1) ** 2)
    return [gaussians, torch.ones_like(x), torch.stack(bumps).sum(0)]


def draws_of_a_law(rows: Tensor, density: Tensor, bounds: tuple[float, float], figure: Any) -> None:
    """Rows; rows on the density that made them."""
    seen, unseen = figure.subplots(1, 2)
    _heat(unseen, density, bounds, "Greys", 1.5 * density.max().item())
    for axes, title in ((seen, f"what one has: {len(rows)} rows"), (unseen, "what made them: p(x)")):
        axes.plot(*rows.T.numpy(), ".", color=ESTIMATED if axes is unseen else TRUE, ms=4, mew=0)
        axes.set_title(title, loc="center")
        _framed(axes, MOONS)


def the_loss(
    images: Mapping[str, Tensor], truth: Tensor, curve: Sequence[tuple[int, float]], law: Law, figure: Any
) -> None:
    """Densities along the training, and the loss that falls to the entropy."""
    names = [*"abcde"[: len(images)], "t"]
    panels = figure.subplot_mosaic(
        [names, ["l"] * len(names)], height_ratios=[1.15, 1.0], gridspec_kw={"hspace": 0.02, "wspace": 0.02}
    )
    for name, (title, image) in zip(names, images.items(), strict=False):
        _heat(panels[name], image, law.bounds, "Blues", truth.max().item())
        panels[name].set_title(title, loc="center", color=ESTIMATED, fontsize=11)
    _heat(panels["t"], truth, law.bounds, "Greys", truth.max().item())
    panels["t"].set_title("truth", loc="center", fontsize=11)
    loss, floor = panels["l"], law.entropy().item()
    steps, values = np.array(curve).T
    loss.axhline(floor, color=TRUE, lw=1.2)
    loss.plot(steps, values, color=ESTIMATED)
    loss.text(steps[-1], floor - 0.06, "entropy of the truth", ha="right", va="top", fontsize=10)
    loss.set(xlabel="step", ylabel="loss (nats)", ylim=(floor - 0.5, None), xlim=(0, steps[-1]))


def given_y(real: Labelled, drawn: Tensor, figure: Any) -> None:
    """Draws of every label, one colour each: the law's and the story's."""
    truth, story = figure.subplots(1, 2)
    for axes, x, title in ((truth, real.x, "truth: p(x | y)"), (story, drawn, "fitted: x′ ~ p(x | y)")):
        for y in range(5):
            axes.plot(*x[real.y == y][:500].T.numpy(), ".", color=PALETTE[y], ms=3, mew=0)
        axes.set_title(title, loc="center", color=TRUE if axes is truth else ESTIMATED)
        _framed(axes, PINWHEEL)


def the_map(g: Callable[[Tensor], Tensor], seed: int, figure: Any) -> None:
    """Grains of noise, circles and rays; and where the map takes them."""
    before, after = figure.subplots(1, 2)
    z = torch.randn(6_000, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    colours = _wheel(torch.atan2(z[:, 1], z[:, 0]))
    turn = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    circles = [r * torch.stack([turn.cos(), turn.sin()], -1) for r in (0.5, 1.0, 1.5, 2.0)]
    out = torch.linspace(0.0, 2.0, 200, dtype=torch.float64)[:, None]
    rays = [out * torch.stack([a.cos(), a.sin()]) for a in turn[:-1:45]]
    for axes, move, title in ((before, lambda points: points, "π: noise"), (after, g, "g(π): data")):
        axes.scatter(*move(z).T.numpy(), color=colours, s=4, lw=0)
        for line in (*circles, *rays):
            axes.plot(*move(line).T.numpy(), color=TRUE, lw=0.7)
        axes.set_title(title, loc="center")
    _framed(before, ((-4.22, 4.22), (-3.0, 3.0)))
    _framed(after, MOONS)


def _wheel(angle: Tensor) -> Any:
    """A colour for every direction; ``twilight`` a little darker, whose white would not be seen on paper."""
    import matplotlib

    colours = matplotlib.colormaps["twilight"]((angle.numpy() / (2 * math.pi)) % 1.0)
    colours[:, :3] *= 0.85
    return colours


def _heat(axes: Any, image: Tensor, bounds: tuple[float, float], colours: str, top: float) -> None:
    """A density on a square; its root shows thin places, too."""
    axes.imshow(
        image.sqrt().numpy(), cmap=colours, vmin=0, vmax=math.sqrt(top), origin="lower",
        extent=(*bounds, *bounds), interpolation="bilinear",
    )  # fmt: skip
    _framed(axes, MOONS)


def _framed(axes: Any, view: View) -> None:
    axes.set(xlim=view[0], ylim=view[1], xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set(visible=True, color="#cccccc")
