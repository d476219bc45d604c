"""Stories of one or two unknowns whose posteriors have several modes, and what quadrature says of them.

Six of them are fitted to many data sets, simulated with truths from the prior; the others to one data set
with modes of a few per cent each. Seeds, cases and tolerances were fixed before anything was fitted. An
estimate is right if every unknown's mean and standard deviation are as near as
:mod:`experiments.compare.right` asks, and the shares of draws below 0 and below the true 90 % quantile within
four Monte Carlo errors and .02. No grid has a point at 0, which is the edge of two of its cells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.compare.right import FEWEST, NOISE, judge
from experiments.truth.quadrature import even, grid_moments
from inference import fit_many

SHARE = 0.02  # error of a probability that is allowed beside Monte Carlo's
Grid = Mapping[str, Tensor]  # unknowns at the points of a grid, (points,) each


@dataclass(frozen=True)
class Several:
    """A story with several modes.

    Attributes
    ----------
    story
        Takes no arguments.
    log_joint
        Unknowns at grid points (points,) and one data set -> (points,), in nats.
    axes
        Unknown -> its grid; the points are all combinations.
    simulate
        A truth from the prior, and data from it: generator -> data.
    """

    story: Callable[[], Any]
    log_joint: Callable[[Grid, Mapping[str, Tensor]], Tensor]
    axes: Mapping[str, Tensor]
    simulate: Callable[[torch.Generator], dict[str, Tensor]] | None = None

    def points(self) -> tuple[dict[str, Tensor], Tensor]:
        """The grid's points, and the logarithms of their cells."""
        mesh = torch.meshgrid(*self.axes.values(), indexing="ij")
        cells = torch.meshgrid(*(_cells(x).log() for x in self.axes.values()), indexing="ij")
        return {n: m.flatten() for n, m in zip(self.axes, mesh, strict=True)}, torch.stack(cells).sum(
            0
        ).flatten()

    def excess(self, draws: Mapping[str, Tensor], data: Mapping[str, Tensor], ess: float | None) -> float:
        """Largest error over what is allowed; right means at most 1."""
        points, cells = self.points()
        weights = (self.log_joint(points, data) + cells).softmax(0)
        count = max(FEWEST, min(next(iter(draws.values())).numel(), ess or math.inf))
        moments = {n: grid_moments(weights, x) for n, x in points.items()}
        worst = judge(draws, moments, ess).excess
        for name, x in points.items():
            for level in (0.0, _ninth_decile(x, weights)):
                share = float(weights[x <= level].sum())
                found = float((draws[name] <= level).double().mean())
                allowed = NOISE * math.sqrt(max(share * (1 - share), 0.0) / count) + SHARE
                worst = max(worst, abs(found - share) / allowed)
        return worst


def _ninth_decile(x: Tensor, weights: Tensor) -> float:
    """The edge of the cell in which the 90 % quantile lies."""
    values, index = x.unique(return_inverse=True)
    share = torch.zeros_like(values).index_add_(0, index, weights).cumsum(0)
    above = min(int((share < 0.9).sum()), len(values) - 2)
    return float(values[above] + values[above + 1]) / 2


def _cells(x: Tensor) -> Tensor:
    """Widths of the cells of a grid, trapezoid rule."""
    gap = x.diff()
    return torch.cat([gap[:1], gap[:-1] + gap[1:], gap[-1:]]) / 2


def _rows(x: Tensor) -> Tensor:
    return x.double()[None]


def _normal(generator: torch.Generator, mean: float = 0.0, stddev: float = 1.0) -> Tensor:
    return mean + stddev * torch.randn((), generator=generator, dtype=torch.float64)


def _noisy(generator: torch.Generator, mean: Tensor, stddev: float, rows: int) -> Tensor:
    return mean + stddev * torch.randn(rows, generator=generator, dtype=torch.float64)


def _squares_story() -> None:
    a = pyro.sample("a", dist.Normal(0.3, 1.0))
    with pyro.plate("row", 3):
        pyro.sample("x", dist.Normal(a * a, 0.3))


def _squares() -> Several:
    """The sign of a, which the prior tells a little of."""
    return Several(
        _squares_story,
        lambda g, d: (
            dist.Normal(0.3, 1.0).log_prob(g["a"])
            + dist.Normal(g["a"][:, None] ** 2, 0.3).log_prob(_rows(d["x"])).sum(1)
        ),
        {"a": even(-6, 6, 6000)},
        lambda g: {"x": _noisy(g, _normal(g, 0.3) ** 2, 0.3, 3)},
    )


def _signs_story() -> None:
    a = pyro.sample("a", dist.Normal(0.3, 1.0))
    b = pyro.sample("b", dist.Normal(-0.5, 1.0))
    with pyro.plate("row", 3):
        pyro.sample("x", dist.Normal(a * a, 0.3))
        pyro.sample("y", dist.Normal(b * b + 0.5 * a * a, 0.3))


def _signs() -> Several:
    """Two signs, four modes of unequal mass."""

    def simulate(g: torch.Generator) -> dict[str, Tensor]:
        a, b = _normal(g, 0.3), _normal(g, -0.5)
        return {"x": _noisy(g, a * a, 0.3, 3), "y": _noisy(g, b * b + 0.5 * a * a, 0.3, 3)}

    return Several(
        _signs_story,
        lambda g, d: (
            dist.Normal(0.3, 1.0).log_prob(g["a"])
            + dist.Normal(-0.5, 1.0).log_prob(g["b"])
            + dist.Normal(g["a"][:, None] ** 2, 0.3).log_prob(_rows(d["x"])).sum(1)
            + dist.Normal(g["b"][:, None] ** 2 + 0.5 * g["a"][:, None] ** 2, 0.3)
            .log_prob(_rows(d["y"]))
            .sum(1)
        ),
        {"a": even(-5, 5, 400), "b": even(-5, 5, 400)},
        simulate,
    )


def _labels_story() -> None:
    a = pyro.sample("a", dist.Normal(-0.5, 2.0))
    b = pyro.sample("b", dist.Normal(0.5, 2.0))
    parts = dist.Normal(torch.stack([a, b], -1), 0.8)
    with pyro.plate("row", 12):
        pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.5, 0.5])), parts))


def _labels() -> Several:
    """Which component is which, of two."""

    def simulate(g: torch.Generator) -> dict[str, Tensor]:
        centres = torch.stack([_normal(g, -0.5, 2.0), _normal(g, 0.5, 2.0)])
        which = torch.randint(2, (12,), generator=g)
        return {"x": centres[which] + 0.8 * torch.randn(12, generator=g, dtype=torch.float64)}

    def log_joint(g: Grid, d: Mapping[str, Tensor]) -> Tensor:
        a, b = (dist.Normal(g[n][:, None], 0.8).log_prob(_rows(d["x"])) for n in ("a", "b"))
        prior = dist.Normal(-0.5, 2.0).log_prob(g["a"]) + dist.Normal(0.5, 2.0).log_prob(g["b"])
        return prior + (torch.logaddexp(a, b) - math.log(2)).sum(1)

    return Several(_labels_story, log_joint, {"a": even(-9, 9, 360), "b": even(-9, 9, 360)}, simulate)


def _waves_story() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 1.5))
    with pyro.plate("row", 4):
        pyro.sample("x", dist.Normal((3 * a).sin(), 0.3))


def _waves() -> Several:
    """A frequency that aliases: two modes for every period."""
    return Several(
        _waves_story,
        lambda g, d: (
            dist.Normal(0.0, 1.5).log_prob(g["a"])
            + dist.Normal((3 * g["a"][:, None]).sin(), 0.3).log_prob(_rows(d["x"])).sum(1)
        ),
        {"a": even(-9, 9, 9000)},
        lambda g: {"x": _noisy(g, (3 * _normal(g, 0.0, 1.5)).sin(), 0.3, 4)},
    )


def _clusters_story() -> None:
    a = pyro.sample("a", dist.Normal(0.0, 4.0))
    with pyro.plate("row", 6):
        pyro.sample("x", dist.Cauchy(a, 0.3))


def _clusters() -> Several:
    """A place, by rows of which a third lie about another place: Cauchy's likelihood keeps both."""

    def simulate(g: torch.Generator) -> dict[str, Tensor]:
        place, other = _normal(g, 0.0, 4.0), _normal(g, 0.0, 4.0)
        centres = torch.stack([place, place, place, other, other, other])
        return {"x": centres + 0.3 * torch.randn(6, generator=g, dtype=torch.float64)}

    return Several(
        _clusters_story,
        lambda g, d: (
            dist.Normal(0.0, 4.0).log_prob(g["a"])
            + dist.Cauchy(g["a"][:, None], 0.3).log_prob(_rows(d["x"])).sum(1)
        ),
        {"a": even(-20, 20, 16000)},
        simulate,
    )


def _product_story() -> None:
    a = pyro.sample("a", dist.Normal(0.5, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 4):
        pyro.sample("x", dist.Normal(a * b, 0.5))


def _product() -> Several:
    """Two factors of which the product is seen: two bent branches."""
    return Several(
        _product_story,
        lambda g, d: (
            dist.Normal(0.5, 1.0).log_prob(g["a"])
            + dist.Normal(0.0, 1.0).log_prob(g["b"])
            + dist.Normal((g["a"] * g["b"])[:, None], 0.5).log_prob(_rows(d["x"])).sum(1)
        ),
        {"a": even(-5.5, 5.5, 440), "b": even(-5.5, 5.5, 440)},
        lambda g: {"x": _noisy(g, _normal(g, 0.5) * _normal(g), 0.5, 4)},
    )


MANY: dict[str, Callable[[], Several]] = {
    "squares": _squares,
    "signs": _signs,
    "labels": _labels,
    "waves": _waves,
    "clusters": _clusters,
    "product": _product,
}
SETS = {"squares": 200, "signs": 100, "labels": 100, "waves": 100, "clusters": 100, "product": 100}
SEED = 2027  # of the data sets


def data_sets(name: str, count: int | None = None) -> list[dict[str, Tensor]]:
    """Simulated data sets of one of ``MANY``.

    Examples
    --------
    >>> len(data_sets("squares", 3)), data_sets("squares", 3)[0]["x"].shape
    (3, torch.Size([3]))
    """
    generator, simulate = torch.Generator().manual_seed(SEED), MANY[name]().simulate
    assert simulate is not None
    return [simulate(generator) for _ in range(SETS[name])][:count]


def outcomes(name: str, count: int | None = None) -> Counter[str]:
    """How ``fit_many`` comes out on the data sets of one of ``MANY``, counted."""
    case, data = MANY[name](), data_sets(name, count)
    found = fit_many(case.story, data, seed=0, progress=False)
    counted: Counter[str] = Counter()
    for i, (one, certificate) in enumerate(zip(data, found.certificates, strict=True)):
        right = case.excess({n: v[i] for n, v in found.draws.items()}, one, certificate.ess) <= 1
        counted[OUTCOME[certificate.trusted, right]] += 1
    return counted


OUTCOME = {
    (True, True): "trusted and right",
    (False, True): "refused, was right",
    (False, False): "refused, was wrong",
    (True, False): "SILENTLY WRONG",
}

RARE_X = torch.tensor([1.267, 1.306, 1.153, 0.961, 0.912, 0.777, 1.179, 1.218, 1.271, 1.009])
PRIORS: dict[str, tuple[Callable[[], Any], Tensor]] = {
    "gamma": (lambda: dist.Gamma(0.5, 0.5), even(-45, 4, 200_001).exp()),
    "normal": (lambda: dist.Normal(0.0, 2.0), even(-16, 16, 200_000)),
    "exponential": (lambda: dist.Exponential(0.5), even(-20, 4.2, 200_001).exp()),
    "lognormal": (lambda: dist.LogNormal(0.0, 1.0), even(-8, 6, 400_001).exp()),
    "uniform": (lambda: dist.Uniform(0.0, 8.0), even(1e-6, 8 - 1e-6, 200_001)),
    "wide": (lambda: dist.Normal(0.0, 100.0), even(-600, 600, 1_000_000)),
    "halfcauchy": (lambda: dist.HalfCauchy(1.0), even(-14, 9, 1_000_001).exp()),
}


def rare(prior: str) -> Several:
    """Modes of a few per cent and less under one of ``PRIORS``: 2 sin(3 a), ten rows."""
    law, axis = PRIORS[prior]

    def story() -> None:
        a = pyro.sample("a", law())
        with pyro.plate("row", 10):
            pyro.sample("x", dist.Normal(2 * (3 * a).sin(), 0.2))

    def log_joint(g: Grid, d: Mapping[str, Tensor]) -> Tensor:
        return law().log_prob(g["a"]) + sum(
            dist.Normal(2 * (3 * g["a"]).sin(), 0.2).log_prob(x) for x in d["x"].double()
        )

    return Several(story, log_joint, {"a": axis})


def rare_with_offset() -> Several:
    """The same under a gamma prior, with an unknown offset."""

    def story() -> None:
        a = pyro.sample("a", dist.Gamma(0.5, 0.5))
        b = pyro.sample("b", dist.Normal(0.0, 0.3))
        with pyro.plate("row", 10):
            pyro.sample("x", dist.Normal(2 * (3 * a).sin() + b, 0.2))

    def log_joint(g: Grid, d: Mapping[str, Tensor]) -> Tensor:
        mean = 2 * (3 * g["a"]).sin() + g["b"]
        prior = dist.Gamma(0.5, 0.5).log_prob(g["a"]) + dist.Normal(0.0, 0.3).log_prob(g["b"])
        return prior + sum(dist.Normal(mean, 0.2).log_prob(x) for x in d["x"].double())

    low = even(-45, -6, 300)[:-1].exp()
    return Several(
        story, log_joint, {"a": torch.cat([low, even(-6, 3.4, 8001).exp()]), "b": even(-1.6, 1.6, 161)}
    )
