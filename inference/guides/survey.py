"""A look all over the prior: where, of many places, the density of a problem is higher than all around.

Starts near 0 lead to the modes near 0. How far away others may lie the prior knows: places are spread over
the range of some draws from it, evenly (Sobol's sequence, scrambled), and as densely as it draws. The density
at all of them is one call. A place is a peak if none of its nearest neighbours among them is higher; climbs
from the peaks end in every mode that some place leads to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from inference.density.problems import Problems

FEW = 3  # unknowns up to which places can be close together
SEVERAL = 10  # unknowns up to which neighbours say something
REACHING = 24  # draws that tell how far the prior reaches
_BOXES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the reach, where no prior can be drawn from
_BEYOND = 0.5  # of the range of the draws, by which it is widened at both ends
_SHARE = 16  # of the places, at most every so many is among the neighbours of one
_LEAST = 4  # draws that have a range


@dataclass(frozen=True)
class Survey:
    """Places to look at, shared by all problems.

    Attributes:
        points: (places, size).
        neighbours: (places, nearest) indices of those around each.
        low, high: (size,) corners of the box that the even ones fill.
        proper: whether they come from a prior; else from boxes around 0, which ``reach`` so far at most.
    """

    reach: ClassVar[float] = 16.0

    points: Tensor
    neighbours: Tensor
    low: Tensor
    high: Tensor
    proper: bool

    @classmethod
    def of(cls, draws: Tensor | None, size: int, count: int, seed: int) -> Survey:
        """Spread places.

        Args:
            draws: (draws, size) from the prior; ``None`` where it is improper.
            size: unknowns.
            count: places.
            seed: of the places.
        """
        proper = draws is not None and len(draws) >= _LEAST
        if proper and draws is not None:
            low, high = _range(draws)
            points = _spread(draws, low, high, count, seed)
        else:
            high = torch.full((size,), cls.reach, dtype=torch.float64)
            low, points = -high, _boxes(high, count, seed)
        if count < 2:
            return cls(points, torch.zeros(count, 0, dtype=torch.long), low, high, proper)
        return cls(points, _neighbours(points), low, high, proper)

    @property
    def log_volume(self) -> float:
        """Log volume of the box."""
        return float((self.high - self.low).log().sum())

    def even(self, count: int, seed: int) -> Tensor:
        """Fresh places (places, size), even in the box."""
        return _even(self.low, self.high, count, seed)

    def strides(self) -> Tensor:
        """Mean distance of every place from its neighbours (places,)."""
        return (self.points[:, None] - self.points[self.neighbours]).norm(dim=-1).mean(1).clamp(max=1.0)

    def peaks(self, problems: Problems, most: int) -> Peaks:
        """The highest peaks of each problem.

        Args:
            problems: the targets.
            most: peaks of each.

        Returns:
            The best one is repeated where there are fewer. At least one is returned; it may be of no density.
        """
        values = problems.log_prob(self.points.expand(problems.count, *self.points.shape))
        values = torch.where(torch.isfinite(values), values, -torch.inf)
        peak = (values > -torch.inf) & (values >= values[:, self.neighbours].amax(-1))
        count = peak.sum(1)
        best = torch.where(peak, values, -torch.inf).topk(int(count.max().clamp(1, most)), 1).indices
        within = torch.arange(best.shape[1]) < count[:, None]
        index = torch.where(within, best, best[:, :1])
        return Peaks(self.points[index], self.strides()[index], count)


@dataclass(frozen=True)
class Peaks:
    """Where to climb from.

    Attributes:
        points: (problems, peaks, size).
        strides: (problems, peaks) how far apart places lie there: a longer step may miss a mode.
        count: (problems,) how many there are, beyond those returned too.
    """

    points: Tensor
    strides: Tensor
    count: Tensor


def _neighbours(points: Tensor) -> Tensor:
    """The nearest of every place (places, nearest): on a line one below and one above."""
    count, size = points.shape
    if size == 1:
        order = points[:, 0].argsort()
        beside = order.argsort()[:, None] + torch.tensor([-1, 1])
        return order[beside.clamp(0, count - 1)]
    spread = points.std(0).clamp(min=1e-300)
    nearest = min(2 * size + 2, max(1, count // _SHARE), count - 1)
    near = torch.cdist(points / spread, points / spread).topk(nearest + 1, largest=False)
    return near.indices[:, 1:]


def _range(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of a box that reaches somewhat beyond the draws."""
    low, high = draws.amin(0), draws.amax(0)
    width = torch.where(high > low, high - low, 4.0)
    return low - _BEYOND * width, high + _BEYOND * width


def _spread(draws: Tensor, low: Tensor, high: Tensor, count: int, seed: int) -> Tensor:
    """Places in the box and near the draws; near these only in many unknowns, where the box is mostly empty.

    Near the draws: one of them plus a multiple of the difference of two others, which has their covariance
    (as a kernel of Silverman's width, 1986).
    """
    size, generator = draws.shape[1], torch.Generator().manual_seed(seed)
    even = _even(low, high, count // 2, seed) if size <= FEW else draws[:count]
    some = count - len(even)
    base = draws[torch.arange(some) % len(draws)]
    one = torch.randint(len(draws), (some,), generator=generator)
    other = one + torch.randint(1, len(draws), (some,), generator=generator)
    width = (4 / (len(draws) * (size + 2))) ** (1 / (size + 4))
    scale = width * torch.randn(some, 1, generator=generator, dtype=torch.float64).abs()
    return torch.cat([even, base + scale * (draws[one] - draws[other % len(draws)])])


def _even(low: Tensor, high: Tensor, count: int, seed: int) -> Tensor:
    """Places spread evenly over a box."""
    unit = torch.quasirandom.SobolEngine(len(low), scramble=True, seed=seed)
    return low + (high - low) * unit.draw(count, dtype=torch.float64)


def _boxes(reach: Tensor, count: int, seed: int) -> Tensor:
    """Places in boxes around 0, one in another."""
    part = torch.tensor(_BOXES, dtype=torch.float64)[torch.arange(count) % len(_BOXES)]
    return part[:, None] * _even(-reach, reach, count, seed)
