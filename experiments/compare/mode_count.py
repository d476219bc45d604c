"""Modes covered: where the centres of a law's modes are known, how many do generated rows hit?"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.compare.result import Z_POWER, Comparison
from experiments.compare.rows import distances, rows_of

SIMULATIONS = 999


class Modes(NamedTuple):
    """Which modes are hit, and by how many rows.

    Attributes
    ----------
    covered
        Share of the modes with at least ``least`` rows near their centre.
    precision
        Share of the rows near a centre.
    counts
        Rows near each centre, (modes,).
    """

    covered: Comparison
    precision: Comparison
    counts: Tensor


def modes(
    x: Any, centres: Any, stddev: float, weights: Any = None, within: float = 3.0, least: int = 1
) -> Modes:
    """Count the rows near each mode of a mixture of spherical normals.

    A row is near the centre that is nearest to it, if no farther than ``within`` standard deviations.
    What rows of the truth would show is simulated: counts are multinomial, with each mode's weight
    times the chi-squared probability of that ball (modes do not overlap).

    Blind to the shapes and, beyond ``least`` rows, to the weights of modes: look at ``counts``.

    Parameters
    ----------
    x
        Rows (n, d), independent.
    centres
        (modes, d).
    stddev
        Of every mode in every direction, in the data's unit.
    weights
        Of the modes, (modes,), positive; equal ones by default.
    within
        Radius in standard deviations; 3 is usual in two dimensions, where it holds .989.
    least
        Rows that make a mode count as hit.

    Returns
    -------
    Modes
        ``covered`` and ``precision`` are similarities, small is bad; ``p_value`` is the share of
        samples of the truth that show as little.

    Raises
    ------
    ValueError
        If shapes do not fit, there are fewer than 4 rows, or ``stddev``, ``within``, ``least`` or a
        weight is not positive.

    Source
    ------
    Srivastava et al. (2017), VEEGAN; Lin et al. (2018), PacGAN, for the radius of 3.

    Examples
    --------
    >>> centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    >>> x = centres[[0]] + 0.1 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    >>> found = modes(x, centres, stddev=0.1)
    >>> found.covered.value, found.counts.tolist()[1]
    (0.5, 0)
    """
    from scipy.stats import chi2

    rows, middle = rows_of(x, "x"), torch.as_tensor(centres).double()
    share = torch.ones(len(middle)) if weights is None else torch.as_tensor(weights)
    share = _checked(rows, middle, share.double(), {"stddev": stddev, "within": within, "least": least})
    distance, nearest = distances(rows, middle).min(1)
    counts = nearest[distance <= within * stddev].bincount(minlength=len(middle))
    inside = share * float(chi2.cdf(within**2, rows.shape[1]))
    return Modes(_covered(counts, inside, len(rows), least), _precision(counts, inside, len(rows)), counts)


def _covered(counts: Tensor, inside: Tensor, n: int, least: int) -> Comparison:
    value = (counts >= least).double().mean().item()
    null = _simulated(inside, n, least)
    floor = torch.quantile(null, 0.05, interpolation="lower").item()
    return Comparison(
        value=value,
        error=_simulated(counts.double() / n, n, least).std().item(),
        p_value=(1 + int((null <= value + 1e-12).sum())) / (1 + len(null)),
        floor=floor,
        # One mode fewer is the smallest step there is.
        detectable=max(min(floor - 1 / len(counts), floor - Z_POWER * null.std().item()), 0.0),
        kind="modes covered",
        null_mean=null.mean().item(),
        similarity=True,
    )


def _precision(counts: Tensor, inside: Tensor, n: int) -> Comparison:
    from scipy.stats import beta, binom

    hits, truth = int(counts.sum()), min(float(inside.sum()), 1.0)
    value, least = hits / n, float(binom.ppf(0.05, n, truth))
    return Comparison(
        value=value,
        error=math.sqrt(value * (1 - value) / n),
        p_value=float(binom.cdf(hits, n, truth)),
        floor=least / n,
        # P(fewer than `least` hits) = .8 there: the limit of Clopper and Pearson (1934).
        detectable=float(beta.ppf(0.2, least, n - least + 1)) if least else 0.0,
        kind="precision",
        null_mean=truth,
        similarity=True,
    )


def _simulated(inside: Tensor, n: int, least: int) -> Tensor:
    """Shares of modes hit by ``n`` rows, each in mode k with probability ``inside[k]``: (SIMULATIONS,)."""
    chances = torch.cat([inside, (1 - inside.sum()).clamp_min(0)[None]])
    counts = np.random.default_rng(0).multinomial(n, (chances / chances.sum()).numpy(), SIMULATIONS)
    return torch.as_tensor(counts[:, :-1] >= least).double().mean(1)


def _checked(rows: Tensor, centres: Tensor, weights: Tensor, positive: dict[str, float]) -> Tensor:
    if centres.ndim != 2 or centres.shape[1] != rows.shape[1]:
        raise ValueError(f"centres: expected (modes, {rows.shape[1]}), got {tuple(centres.shape)}")
    if weights.shape != (len(centres),) or not (weights > 0).all():
        raise ValueError(f"weights: expected {len(centres)} positive numbers, got {weights.tolist()}")
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")
    return weights / weights.sum()
