"""Right or refused: is an estimated posterior close enough to a known one to be believed?

The rule, one for every posterior: an estimate is right if every mean lies within .05 true standard deviations
of the true one and every standard deviation within 5 %, each beyond four Monte Carlo errors. A fit is
silently wrong if it is not right and calls itself trusted.

The Monte Carlo error is that of as many independent draws as the fit says it is worth, but never of fewer
than 400, lest a fit that is worth nothing be right by its own noise. The kurtosis in it is the true one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

MEAN = 0.05  # true standard deviations
STDDEV = 0.05  # share of the true standard deviation
NOISE = 4.0  # Monte Carlo errors
FEWEST = 400  # effective draws: what a trusted sampler is asked for, Vehtari et al. (2021), section 4


class Moments(NamedTuple):
    """Mean, standard deviation and kurtosis of quantities, each of the quantity's shape."""

    mean: Tensor
    stddev: Tensor
    kurtosis: Tensor


class Judged(NamedTuple):
    """The largest errors of an estimated posterior.

    Attributes
    ----------
    mean
        Largest error of a mean, in true standard deviations.
    stddev
        Largest error of a standard deviation, as a share of the true one.
    excess
        Largest error over what is allowed for it; right means at most 1.
    where
        The quantity with that excess.
    """

    mean: float
    stddev: float
    excess: float
    where: str

    @property
    def right(self) -> bool:
        """Whether every mean and every standard deviation is as close as the rule asks; NaN is not."""
        return self.excess <= 1


def judge(draws: Mapping[str, Tensor], moments: Mapping[str, Moments], ess: float | None = None) -> Judged:
    """Hold draws against known means and standard deviations.

    Parameters
    ----------
    draws
        Quantity -> (draws, *shape) or (restarts, draws, *shape), equally weighted.
    moments
        Quantity -> its true moments, of ``shape``.
    ess
        How many independent draws the draws are worth, as far as is known; no more than there are.

    Returns
    -------
    Judged
        A quantity that is missing among the draws is infinitely wrong.

    Source
    ------
    The error of a standard deviation: Kendall and Stuart (1977), The Advanced Theory of Statistics, volume
    1, section 10.6. The number 400: Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), "Rank-
    normalization, folding, and localization", Bayesian Analysis 16.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(4, 1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> one = torch.ones(3, dtype=torch.float64)
    >>> known = {"z": Moments(0 * one, one, 3 * one)}
    >>> judge({"z": z}, known).right, judge({"z": 0.8 * z}, known).right
    (True, False)
    """
    found = Judged(0.0, 0.0, 0.0, "")
    for name, true in moments.items():
        one = _judge(name, draws[name], true, ess) if name in draws else _missing(name)
        found = Judged(
            _larger(found.mean, one.mean), _larger(found.stddev, one.stddev),
            *max((found[2:], one[2:]), key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0]),
        )  # fmt: skip
    return found


def _judge(name: str, draws: Tensor, true: Moments, ess: float | None) -> Judged:
    rows = draws.reshape(-1, *true.mean.shape).double()
    count = max(FEWEST, min(len(rows), ess if ess is not None else math.inf))
    mean = (rows.mean(0) - true.mean).abs() / true.stddev
    stddev = (rows.std(0) / true.stddev - 1).abs()
    noise = (true.kurtosis - 1).clamp_min(0).sqrt() / 2
    excess = torch.maximum(
        mean / (MEAN + NOISE / math.sqrt(count)),
        stddev / (STDDEV + NOISE * noise / math.sqrt(count)),
    )  # NaN wherever one of the two is
    largest = int(excess.nan_to_num(math.inf).argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(largest), excess.shape))
    where = f"{name}{list(index)}" if index else name
    return Judged(float(mean.max()), float(stddev.max()), float(excess.flatten()[largest]), where)


def _missing(name: str) -> Judged:
    return Judged(math.inf, math.inf, math.inf, f"{name} (missing)")


def _larger(a: float, b: float) -> float:
    return b if b > a or math.isnan(b) else a
