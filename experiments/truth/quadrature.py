"""Moments, normalizers and draws of densities on a grid, for truths that have no closed form.

A trapezoid rule on an even grid converges faster than any power of its spacing for a smooth density that
vanishes at both ends, which is how all grids here are chosen; tests double every resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.compare.right import Moments


def even(low: float, high: float, points: int) -> Tensor:
    """An even grid, float64, both ends included."""
    return torch.linspace(low, high, points, dtype=torch.float64)


def log_normalizer(log_density: Tensor, spacing: float, dims: int = 1) -> Tensor:
    """Log of the integral over the last ``dims`` dimensions; ``spacing`` is the volume of one cell.

    Examples
    --------
    >>> x = even(-9.0, 9.0, 400)
    >>> abs(log_normalizer(-x * x / 2, 18.0 / 399).item() - math.log(2 * math.pi) / 2) < 1e-14
    True
    """
    return log_density.flatten(-dims).logsumexp(-1) + math.log(spacing)


def expected_moments(weights: Tensor, powers: Sequence[Tensor]) -> Moments:
    """Moments from the first four raw moments at every grid point.

    Parameters
    ----------
    weights
        (points,) probabilities.
    powers
        E[x], E[x^2], E[x^3] and E[x^4] at every point, each (points, *shape).
    """
    first, second, third, fourth = (torch.tensordot(weights, power, 1) for power in powers)
    variance = second - first**2
    central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return Moments(first, variance.sqrt(), central / variance**2)


def grid_moments(weights: Tensor, values: Tensor) -> Moments:
    """Moments of ``values`` (points, *shape) under ``weights`` (points,), centred first for its digits."""
    middle = torch.tensordot(weights, values, 1)
    away = values - middle
    found = expected_moments(weights, [away, away**2, away**3, away**4])
    return Moments(found.mean + middle, found.stddev, found.kurtosis)


def normal_powers(mean: Tensor, variance: Tensor) -> list[Tensor]:
    """First four raw moments of normals.

    Examples
    --------
    >>> [p.item() for p in normal_powers(torch.tensor(1.0), torch.tensor(2.0))]
    [1.0, 3.0, 7.0, 25.0]
    """
    return [
        mean,
        mean**2 + variance,
        mean**3 + 3 * mean * variance,
        mean**4 + 6 * mean**2 * variance + 3 * variance**2,
    ]


def jittered(weights: Tensor, grid: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
    """Draw grid points by their weights, moved evenly within their cells: (num_samples,)."""
    index = weights.multinomial(num_samples, replacement=True, generator=generator)
    move = torch.rand(num_samples, generator=generator, dtype=torch.float64) - 0.5
    return grid[index] + move * (grid[1] - grid[0])
