"""The figures of ``bayes_inversion``: numbers in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Beta

from experiments.compare.classification import Reliability
from experiments.compare.moments import MomentErrors
from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE
from experiments.truth.images.digits import LEVELS, SIDE, Images

GAP = 1  # pixels of paper between two images


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def mosaic(images: Tensor, columns: int) -> np.ndarray:
    """Lay images (rows, 64) out in a grid, with gaps of NaN between them."""
    tiles = images.reshape(-1, columns, SIDE, SIDE)
    padded = torch.nn.functional.pad(tiles, (0, GAP, 0, GAP), value=torch.nan)
    sheet = padded.permute(0, 2, 1, 3).reshape(len(tiles) * (SIDE + GAP), -1)
    return sheet[:-GAP, :-GAP].numpy()


def show(axes: Any, images: Tensor, columns: int, title: str = "", levels: float = LEVELS) -> None:
    """Draw images as ink on paper, without ticks."""
    axes.imshow(mosaic(images.double(), columns), cmap="Greys", vmin=0, vmax=levels)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)


def label_rows(axes: Any, labels: Sequence[Any]) -> None:
    """Name the rows of a mosaic."""
    middles = [(SIDE + GAP) * row + (SIDE - 1) / 2 for row in range(len(labels))]
    axes.set_yticks(middles, [str(label) for label in labels])
    axes.tick_params(length=0)


def the_picture(data: Tensor, ink: Tensor, history: Sequence[tuple[str, int, float]], drawn: Tensor) -> Any:
    """Four panels: data, estimated distribution, loss falling, generated images."""
    figure = _figure(13, 4)
    # Shares of the width in which images as tall as the curve keep their square pixels.
    panels = figure.subplots(1, 4, width_ratios=[0.7, 0.4, 1.1, 0.7])
    columns = len(data) // len(ink)
    show(panels[0], data, columns, "data")
    show(panels[1], ink, 2, "estimated\ndistribution", levels=1)
    loss_curve(panels[2], history)
    show(panels[3], drawn, columns, "x′ ~ p(x | y)")
    return figure


def loss_curve(axes: Any, history: Sequence[tuple[str, int, float]]) -> None:
    """Negative ELBO against the step (from 1), one line per restart, one colour per guide."""
    from matplotlib.ticker import LogLocator, NullLocator

    colours: dict[str, str] = {}
    for rung, line in _restarts(history):
        steps, elbos = np.array([row[1] for row in line]), np.array([row[2] for row in line])
        label = None if rung in colours else rung.replace("_", " ")
        colour = colours.setdefault(rung, PALETTE[len(colours) % len(PALETTE)])
        axes.plot(steps + 1, -elbos, color=colour, alpha=0.8, lw=1.4, label=label)
    axes.set(title="loss, falling", xlabel="step", ylabel="negative ELBO / nats", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(title="guide")


def _restarts(history: Sequence[tuple[str, int, float]]) -> list[tuple[str, list[Any]]]:
    """Cut the history where the guide changes or the steps begin anew."""
    lines: list[tuple[str, list[Any]]] = []
    for rung, rows in groupby(history, key=lambda row: row[0]):
        line: list[Any] = []
        for row in rows:
            if line and row[1] <= line[-1][1]:
                lines.append((rung, line))
                line = []
            line.append(row)
        lines.append((rung, line))
    return lines


def generated(data: Tensor, drawn: Tensor) -> Any:
    """Training images of every digit on the left, generated ones on the right."""
    figure = _figure(9, 5.6)
    left, right = figure.subplots(1, 2)
    show(left, data, len(data) // 10, "training images")
    show(right, drawn, len(drawn) // 10, "x′ ~ p(x | y)")
    label_rows(left, range(10))
    label_rows(right, range(10))
    return figure


def reliability(curves: Mapping[str, Reliability]) -> Any:
    """Share that is right in every bin on the left, how full the bins are on the right."""
    figure = _figure(10, 4.4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=TRUE, lw=1, ls=":", label="calibrated")
    for index, (name, curve) in enumerate(curves.items()):
        colour, marker = (ESTIMATED, OTHER)[index], "os"[index]
        kept = curve.rows > 0
        interval = torch.stack([curve.accuracy - curve.low, curve.high - curve.accuracy])
        places = curve.confidence[kept], curve.accuracy[kept], interval[:, kept].clamp_min(0)
        place = [values.numpy() for values in places]
        left.errorbar(*place, fmt=marker, color=colour, capsize=3, lw=1.2, label=name)
        bins = len(curve.rows)
        middle = (torch.arange(bins) + 0.3 + 0.4 * index) / bins
        right.bar(middle[kept].numpy(), curve.rows[kept].numpy(), 0.38 / bins, color=colour)
    left.set(xlim=(0, 1.02), ylim=(-0.02, 1.04), title="reliability")
    left.set(xlabel="probability of the favourite digit", ylabel="share that is right")
    right.set(yscale="log", title="how sure they are", xlim=(0, 1.02))
    right.set(xlabel="probability of the favourite digit", ylabel="held-out digits")
    handles, names = left.get_legend_handles_labels()
    right.legend(handles, names, loc="upper left")
    return figure


def surprise(images: Mapping[str, Tensor], density: Mapping[str, Tensor]) -> Any:
    """For every kind of image a few examples and the histogram of -log p(x)."""
    figure = _figure(10, 0.95 * len(images) + 0.6)
    rows = figure.subplots(len(images), 2, width_ratios=[1, 3], squeeze=False)
    nats = [-values.numpy() for values in density.values()]
    low, high = min(v.min() for v in nats) * 0.95, max(v.max() for v in nats) * 1.05
    bins = np.geomspace(low, high, 80)
    ticks = [t for t in (50, 100, 200, 500, 1000, 2000, 5000) if low < t < high]
    for name, values, (picture, axes) in zip(images, nats, rows, strict=True):
        show(picture, images[name][:6], 6)
        picture.set_title(name, fontsize=11)
        axes.hist(values, bins, color=ESTIMATED if name == next(iter(images)) else OTHER)
        axes.axvline(np.median(nats[0]), color=TRUE, lw=1, ls=":")
        axes.set(xscale="log", xlim=(low, high), yticks=[])
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks] if axes is rows[-1, 1] else [])
        axes.set_xticks([], minor=True)
        axes.spines["left"].set_visible(False)
    rows[-1, 1].set_xlabel("-log p(x) / nats (dotted: median of held-out digits)")
    return figure


def half_seen(truth: Tensor, hidden: Tensor, completed: Tensor, probabilities: Tensor) -> Any:
    """Seen half, completions, truth, and the probabilities of the digits, row by row."""
    figure = _figure(8.4, 6.4)
    columns = [1.1, len(completed) + 0.4, 1.1, 4]
    seen, filled, whole, chances = figure.subplots(1, 4, width_ratios=columns)
    show(seen, torch.where(hidden, torch.nan, truth), 1, "seen")
    cover(seen, len(truth))
    show(filled, completed.transpose(0, 1).flatten(0, 1), len(completed), "completed")
    show(whole, truth, 1, "truth")
    drawn = chances.imshow(probabilities.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    chances.set(xticks=range(10), yticks=[], xlabel="y", title="p(y | upper half)")
    chances.tick_params(length=0)
    figure.colorbar(drawn, ax=chances, label="probability", shrink=0.6)
    label_rows(seen, range(len(truth)))
    return figure


def cover(axes: Any, rows: int) -> None:
    """Hatch the lower half of the images of a mosaic."""
    from matplotlib.patches import Rectangle

    for row in range(rows):
        corner = (-0.5, (SIDE + GAP) * row + SIDE / 2 - 0.5)
        style: dict[str, Any] = {"facecolor": "#f2f2f2", "edgecolor": "#bbbbbb", "hatch": "////", "lw": 0}
        axes.add_patch(Rectangle(corner, SIDE, SIDE / 2, **style))


def posterior_errors(draws: Tensor, law: Any, errors: MomentErrors, blank: Tensor) -> Any:
    """Errors of means and sds of every ink, and two marginals beside the exact density."""
    figure = _figure(12, 6.8)
    (means, stddevs), below = figure.subplots(2, 2)
    groups = {"inked somewhere": (~blank, ESTIMATED), "always blank": (blank, OTHER)}
    for name, (cells, colour) in groups.items():
        style = {"s": 8, "color": colour, "alpha": 0.7, "label": f"{name} ({int(cells.sum())})"}
        means.scatter(law.mean[cells].numpy(), errors.mean[cells].numpy(), **style)
        stddevs.scatter(law.mean[cells].numpy(), 100 * errors.stddev[cells].numpy(), **style)
    for axes, unit, tolerance in ((means, "mean / exact sd", 0.1), (stddevs, "sd / %", 10)):
        axes.axhspan(-tolerance, tolerance, color="#e4e4e4", zorder=0)
        axes.set(xscale="log", xlabel="exact posterior mean of ink", ylabel=f"error of {unit}")
    means.set_title("posterior means")
    stddevs.set_title("posterior sds")
    stddevs.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, handletextpad=0)
    examples = {"always blank": blank, "inked": (law.mean > 0.5) & ~blank}
    for axes, (name, chosen) in zip(below, examples.items(), strict=True):
        digit, pixel = (int(i) for i in chosen.nonzero()[0])
        _marginal(axes, draws[..., digit, pixel], law, digit, pixel)
        axes.set_title(f"ink of digit {digit}, pixel {pixel}: {name}")
    return figure


def _marginal(axes: Any, draws: Tensor, law: Any, digit: int, pixel: int) -> None:
    exact = Beta(law.concentration1[digit, pixel], law.concentration0[digit, pixel])
    flat = draws.flatten()
    low, high = flat.min().item(), flat.max().item()
    grid = torch.linspace(low, high, 400, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    axes.hist(flat.numpy(), 50, density=True, color=ESTIMATED, alpha=0.6, label="estimated")
    axes.plot(grid.numpy(), exact.log_prob(grid).exp().numpy(), color=TRUE, label="exact")
    axes.set(xlabel="ink", ylabel="posterior density")
    axes.legend()


def distributions(true: Images, story: Images) -> Any:
    """Means, sds and correlations of pixels within a digit, and two principal components."""
    figure = _figure(9.5, 8.4)
    (means, stddevs), (correlations, components) = figure.subplots(2, 2)
    _against(means, _by_digit(true, torch.mean), _by_digit(story, torch.mean), (0, LEVELS))
    _against(stddevs, _by_digit(true, torch.std), _by_digit(story, torch.std), (0, 8))
    _against(correlations, _correlations(true), _correlations(story), (-1, 1))
    means.set_title("mean of a pixel within a digit / grey levels")
    stddevs.set_title("sd of a pixel within a digit / grey levels")
    correlations.set_title("correlation of two pixels within a digit")
    _, _, directions = torch.linalg.svd(true.x - true.x.mean(0), full_matrices=False)
    groups = (("held-out digits", true, TRUE, "o"), ("fitted story", story, OTHER, "^"))
    for name, images, colour, marker in groups:
        place = (images.x - true.x.mean(0)) @ directions[:2].T
        components.scatter(*place.T.numpy(), s=12, color=colour, marker=marker, alpha=0.6, label=name)
    components.set(title="principal components / grey levels", xlabel="first", ylabel="second")
    components.legend(loc="lower right", bbox_to_anchor=(1, -0.02))
    return figure


def _against(axes: Any, true: Tensor, story: Tensor, limits: tuple[float, float]) -> None:
    axes.scatter(true.numpy(), story.numpy(), s=5, color=ESTIMATED, alpha=0.4)
    axes.plot(limits, limits, color=TRUE, lw=1, ls=":")
    axes.set(xlim=limits, ylim=limits, xlabel="held-out digits", ylabel="fitted story")
    axes.locator_params(nbins=5)
    axes.set_aspect("equal")


def _by_digit(images: Images, statistic: Callable[..., Tensor]) -> Tensor:
    return torch.cat([statistic(images.x[images.y == digit], 0) for digit in range(10)])


def _correlations(images: Images) -> Tensor:
    """Correlation of every pair of pixels that vary, each image centred by its digit's mean."""
    means = _by_digit(images, torch.mean).reshape(10, -1)
    centred = images.x - means[images.y]
    scaled = centred / centred.norm(dim=0)
    first, second = torch.triu_indices(centred.shape[1], centred.shape[1], 1)
    return (scaled.T @ scaled)[first, second]
