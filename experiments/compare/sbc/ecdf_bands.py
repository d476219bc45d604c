"""Are ranks uniform? Simultaneous bands of their ECDF, with exact levels, p-values and power.

Of N independent ranks, uniform on 0 .. L, the number below k is Binomial(N, k / (L + 1)), and from one k to
the next these numbers are a Markov chain. So the chance that an ECDF stays inside any band is a product of
small matrices: nothing is simulated, and a p-value has no Monte Carlo error. The same product gives the
chance that ranks of another law leave the band, which is the power of the test.

The band is that of equal local probabilities: at every k, two binomial tails of gamma/2 are cut off, with
gamma such that all k together are inside with the chance that was asked for.

Source: Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity and its applications in
goodness-of-fit evaluation and multiple sample comparison, Statistics and Computing 32, who give the band, the
recursion (their algorithm 2) and a simulation in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.compare.result import number

# Beyond that many, neighbouring points of the ECDF say the same.
MOST_POINTS = 200
# Local probabilities below this are taken for this: p-values are then at most about 1e-10.
SMALLEST = 1e-12
# Equal local probabilities, from either tail, differ by rounding.
_TIES = 1e-9
_POWER = 0.8


class Uniformity(NamedTuple):
    """How far ranks are from uniform.

    Attributes
    ----------
    value
        Largest difference between the ECDF and that of uniform ranks.
    error
        Its binomial standard error, where it is largest.
    at
        Where it is largest, as a share of all ranks.
    p_value
        Of the simultaneous band: the chance that uniform ranks leave some wider band. Exact.
    floor
        95 % of sets of uniform ranks stay below this ``value``.
    """

    value: float
    error: float
    at: float
    p_value: float
    floor: float

    def __str__(self) -> str:
        return (
            f"ECDF off by {number(self.value)} at {number(self.at, 2)}, p = {number(self.p_value)}; 95 % of "
            f"sets of uniform ranks stay below {number(self.floor)}"
        )


@lru_cache(maxsize=32)
def rank_test(count: int, highest: int) -> RankTest:
    """The test for ``count`` ranks, each 0 .. ``highest``; kept, for its tables take a moment.

    Raises
    ------
    ValueError
        If there are fewer than two ranks, or they cannot differ.
    """
    if count < 2 or highest < 1:
        raise ValueError(f"count, highest: expected at least 2 and 1, got {count} and {highest}")
    return RankTest(count, highest)


class RankTest:
    """Bands, p-values and power for the ECDF of uniform ranks; made by :func:`rank_test`.

    Attributes
    ----------
    count, highest
        Number of ranks N, and the largest one L.
    points
        (points,) k: the ECDF is looked at where it counts the ranks below k; all of 1 .. L up to 200.
    at
        (points,) k / (L + 1), the chance of a rank below k.

    Examples
    --------
    >>> test = rank_test(1000, 199)
    >>> ranks = torch.randint(200, (1000,), generator=torch.Generator().manual_seed(0))
    >>> uniform, other = test.judge(torch.stack([ranks, (0.9 * ranks).long()]))
    >>> uniform.p_value > 0.05, other.p_value < 1e-6
    (True, True)
    """

    def __init__(self, count: int, highest: int) -> None:
        self.count, self.highest = count, highest
        points = torch.arange(1, highest + 1)
        if highest > MOST_POINTS:
            points = torch.linspace(1, highest, MOST_POINTS, dtype=torch.float64).round().long()
        self.points = points
        self.at = points.double() / (highest + 1)
        self._local = _local_probabilities(count, self.at)

    def counts(self, ranks: Tensor) -> Tensor:
        """How many ranks are below each of the points: (..., count) -> (..., points).

        Raises
        ------
        ValueError
            If there are not ``count`` ranks, or one is not an integer 0 .. ``highest``.
        """
        if ranks.shape[-1:] != (self.count,) or ranks.is_floating_point():
            raise ValueError(f"ranks: expected integers (..., {self.count}), got {tuple(ranks.shape)}")
        if ranks.min() < 0 or ranks.max() > self.highest:
            raise ValueError(f"ranks: expected 0 .. {self.highest}, got {int(ranks.min())} .. {ranks.max()}")
        cells = torch.zeros(*ranks.shape[:-1], self.highest + 1, dtype=torch.long)
        cells.scatter_add_(-1, ranks.long(), torch.ones_like(ranks, dtype=torch.long))
        return cells.cumsum(-1)[..., self.points - 1]

    def p_values(self, ranks: Tensor) -> Tensor:
        """Exact p-values of sets of ranks, (..., count) -> (...)."""
        counts = self.counts(ranks)
        local = self._local.expand(*counts.shape[:-1], -1, -1).gather(-1, counts[..., None])[..., 0]
        worst, place = local.min(-1).values.reshape(-1).unique(return_inverse=True)
        # One tail of that probability was seen, so no less is its chance: a bound where 1 - x would round.
        outside = torch.maximum(1 - self._inside(worst), worst / 2)
        return outside[place].reshape(counts.shape[:-1])

    def judge(self, ranks: Tensor) -> list[Uniformity]:
        """Judge several sets of ranks at once, (sets, count)."""
        share = self.counts(ranks).double() / self.count
        apart = (share - self.at).abs()
        value, largest = apart.max(-1)
        here = share.gather(-1, largest[:, None])[:, 0]
        error = (here * (1 - here) / self.count).sqrt()
        p_value = self.p_values(ranks)
        return [
            Uniformity(float(value[i]), float(error[i]), float(self.at[k]), float(p_value[i]), self.floor)
            for i, k in enumerate(largest)
        ]

    def band(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The simultaneous band: least and largest ECDF at :attr:`at` that are still inside, (points,) each.

        An ECDF leaves it with chance at most 1 - ``level``, and leaves it if its p-value is at most that.
        """
        lower, upper = self._bounds(torch.tensor([self._gamma(level)], dtype=torch.float64))
        return lower[0].double() / self.count, upper[0].double() / self.count

    def power(self, cdf: Tensor, level: float = 0.95) -> float:
        """The chance that ranks of another law leave the band.

        ``cdf`` (points,) is the chance under that law of a rank below each of the points.
        """
        bounds = self._bounds(torch.tensor([self._gamma(level)], dtype=torch.float64))
        return 1 - float(_stay(*bounds, cdf.double(), self.count)[0])

    @cached_property
    def floor(self) -> float:
        """95 % quantile of the largest difference of the ECDF of uniform ranks."""
        near = torch.arange(1, math.ceil(2 * math.sqrt(self.count)) + 2, dtype=torch.float64)
        centre = self.at * self.count
        lower = (centre - near[:, None]).ceil().clamp_min(0).long()
        upper = (centre + near[:, None]).floor().clamp_max(self.count).long()
        inside = _stay(lower, upper, self.at, self.count)
        return float(near[inside >= 0.95][0]) / self.count

    def detectable(self, level: float = 0.95) -> tuple[float, float]:
        """The smallest faults of a posterior that leave the band 4 times in 5.

        Returns
        -------
        tuple
            A shift of the mean, in posterior standard deviations, and a standard deviation that is too
            small, as a share of the right one (.9: a tenth too small); of normal posteriors, the same
            fault in all fits.
        """
        level = round(level, 12)
        normal = torch.distributions.Normal(0.0, 1.0)
        quantiles = normal.icdf(self.at)
        shift = _solve(lambda d: self.power(normal.cdf(quantiles - d), level), 0.0, 5.0)
        narrow = _solve(lambda d: self.power(normal.cdf(quantiles * math.exp(-d)), level), 0.0, 4.0)
        return shift, math.exp(-narrow)

    # ---- the recursion

    def _bounds(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest counts with a local probability above gamma (g,): (g, points) each."""
        inside = self._local > gamma[:, None, None] * (1 + _TIES)
        numbers = torch.arange(self.count + 1)
        lower = torch.where(inside, numbers, self.count + 1).min(-1).values
        return lower, torch.where(inside, numbers, -1).max(-1).values

    def _inside(self, gamma: Tensor) -> Tensor:
        """The chance that uniform ranks have all local probabilities above gamma: (g,)."""
        parts = gamma.clamp_min(SMALLEST).split(64)
        return torch.cat([_stay(*self._bounds(part), self.at, self.count) for part in parts])

    def _gamma(self, level: float) -> float:
        """The largest local probability to cut off at every point, so that ``level`` stays inside."""
        if not 0 < level < 1:
            raise ValueError(f"level: expected between 0 and 1, got {level}")
        return _gamma(self, level)


@lru_cache(maxsize=64)
def _gamma(test: RankTest, level: float) -> float:
    low, high = math.log(SMALLEST), math.log(1 - level)  # at one point alone, 1 - level is cut off
    for _ in range(3):
        grid = torch.linspace(low, high, 32, dtype=torch.float64)
        inside = test._inside(grid.exp()) >= level
        last = int(inside.nonzero().max()) if bool(inside.any()) else 0
        low, high = float(grid[last]), float(grid[min(last + 1, 31)])
    return math.exp(low)


def _local_probabilities(count: int, at: Tensor) -> Tensor:
    """Two-sided binomial tails 2 min(P(R <= r), P(R >= r)) at every point: (points, count + 1)."""
    number_below = torch.arange(count + 1, dtype=torch.float64)
    binomial = torch.distributions.Binomial(count, at[:, None])
    pmf = binomial.log_prob(number_below).exp()
    below, above = pmf.cumsum(-1), pmf.flip(-1).cumsum(-1).flip(-1)
    return (2 * torch.minimum(below, above)).clamp_max(1.0)


def _stay(lower: Tensor, upper: Tensor, cdf: Tensor, count: int) -> Tensor:
    """The chance that the numbers of ranks below each point stay within bounds.

    Given R_{i-1} = r of ``count`` below one point, R_i - r of the others, Binomial(count - r, q_i), lie
    below the next, q_i = (cdf_i - cdf_{i-1}) / (1 - cdf_{i-1}).

    Parameters
    ----------
    lower, upper
        (bounds, points) integers; nothing stays where they cross.
    cdf
        (points,) increasing.

    Returns
    -------
    Tensor
        (bounds,).
    """
    factorial = torch.lgamma(torch.arange(count + 1, dtype=torch.float64) + 1)
    state, numbers, before = torch.ones(len(lower), 1, dtype=torch.float64), torch.zeros(1).long(), 0.0
    for i, now in enumerate(cdf.tolist()):
        first, last = int(lower[:, i].min()), int(upper[:, i].max())
        if first > last:
            return torch.zeros(len(lower), dtype=torch.float64)
        q = min(max((now - before) / max(1 - before, 1e-300), 1e-300), 1 - 1e-16)
        after = torch.arange(first, last + 1)
        more = after - numbers[:, None]
        log_q, log_rest = math.log(q), math.log1p(-q)
        log_chance = (
            (factorial[count - numbers] - numbers.double() * log_q)[:, None]
            - factorial[more.clamp_min(0)]
            + (after.double() * log_q + (count - after).double() * log_rest - factorial[count - after])
        )
        state = state @ torch.where(more >= 0, log_chance, -math.inf).exp()
        state = state * ((after >= lower[:, i, None]) & (after <= upper[:, i, None]))
        numbers, before = after, now
    return state.sum(-1).clamp(0, 1)


def _solve(power: Callable[[float], float], low: float, high: float) -> float:
    """The smallest fault that is seen 4 times in 5, to a thousandth of itself."""
    for _ in range(11):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle) < _POWER else (low, middle)
    return high
