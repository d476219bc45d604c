"""Permutation tests for statistics that are quadratic in the labels.

With a matrix D of pairwise distances of the pooled rows and weights w (1/n on the first n rows,
-1/m on the others), the energy distance is -w'Dw; with minus a kernel matrix for D it is the
squared MMD. One matrix product then serves all relabellings at once.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from experiments.compare.result import Z_POWER, Comparison

# Relabellings that tie with the data must count as ties, whatever the order of summation.
ROUNDING = 1e-12


def quadratic_test(matrix: Tensor, n: int, permutations: int, generator: Generator, kind: str) -> Comparison:
    """Compare the first ``n`` rows with the others by -w'Dw and random relabellings.

    Parameters
    ----------
    matrix
        D, (n + m, n + m), symmetric, with a zero diagonal; -D is
        positive semidefinite on vectors that sum to 0 (distances of negative type).
    n
        Rows of the first sample.
    permutations, generator, kind
        As in :func:`experiments.compare.two_sample`.

    Returns
    -------
    Comparison
        ``floor`` and ``null_mean`` are the 95 % quantile and the mean of the relabellings,
        ``error`` a jackknife over rows, ``detectable`` the statistic's mean at a power of about .8
        whatever the kind of difference (see :func:`detectable_mean`).

    Source
    ------
    Phipson and Smyth (2010), Permutation p-values should never be zero.
    """
    m = len(matrix) - n
    weights = torch.cat([torch.full((n,), 1 / n), torch.full((m,), -1 / m)]).to(matrix)
    value = _quadratic(matrix, weights[:, None]).item()
    order = torch.rand(permutations, n + m, generator=generator).argsort(-1)
    null = _quadratic(matrix, weights[order].T)
    at_least = int((null >= value - ROUNDING * matrix.mean().item()).sum())
    floor = torch.quantile(null, 0.95).item()
    largest = -dominant_eigenvalue(matrix, generator, centre=True) * (1 / n + 1 / m)
    return Comparison(
        value=value,
        error=_jackknife(matrix, n),
        p_value=(1 + at_least) / (1 + permutations),
        floor=floor,
        detectable=detectable_mean(null, floor, largest),
        kind=kind,
        null_mean=null.mean().item(),
    )


def _quadratic(matrix: Tensor, weights: Tensor) -> Tensor:
    """Return -w'Dw for every column w of ``weights`` (rows, columns)."""
    return -(weights * (matrix @ weights)).sum(0)


def detectable_mean(null: Tensor, floor: float, largest: float) -> float:
    """Mean of the statistic at the difference that is seen 4 times in 5.

    The statistic is sum_j l_j (Z_j + delta_j)^2 with independent standard normal Z_j, eigenvalues
    l_j (``largest`` is l_1) and, at a distance d = sum_j l_j delta_j^2, mean null mean + d and
    variance null variance + 4 sum_j (l_j delta_j)^2 <= null variance + 4 l_1 d. With the bound,
    which holds for every kind of difference, and a normal approximation, a power of .8 asks for
    d = floor - null mean + z_.8 sqrt(null variance + 4 l_1 d), a quadratic equation in d.
    """
    start = floor - null.mean().item()
    middle = start + 2 * Z_POWER**2 * largest
    constant = start**2 - Z_POWER**2 * null.var().item()
    root: float = max(middle**2 - constant, 0.0) ** 0.5
    return null.mean().item() + middle + root


def dominant_eigenvalue(matrix: Tensor, generator: Generator, centre: bool = False, steps: int = 50) -> float:
    """Eigenvalue of largest size of a symmetric matrix (doubly centred if so asked) over its rows.

    By power iteration, for a matrix that is semidefinite (where centred, on what sums to 0).
    """
    vector = torch.randn(len(matrix), generator=generator, dtype=matrix.dtype)
    value = 0.0
    for _ in range(steps):
        vector = vector - vector.mean() if centre else vector
        image = matrix @ vector
        norm = vector.norm().item()
        if norm == 0:  # all rows equal: nothing varies
            return 0.0
        value = (vector @ image).item() / norm**2
        vector = image / image.norm().clamp_min(torch.finfo(image.dtype).tiny)
    return value / len(matrix)


def _jackknife(matrix: Tensor, n: int) -> float:
    """Standard error of -w'Dw, leaving out one row of either sample at a time.

    Source: Efron and Stein (1981), The jackknife estimate of variance; for two samples the
    variances of the two jackknives add.
    """
    within = [matrix[:n, :n], matrix[n:, n:]]
    across = [matrix[:n, n:], matrix[n:, :n]]
    variance = 0.0
    for own, cross, other in zip(within, across, reversed(within), strict=True):
        k, m = cross.shape
        own_left = (own.sum() - 2 * own.sum(1)) / (k - 1) ** 2
        cross_left = (cross.sum() - cross.sum(1)) / ((k - 1) * m)
        left_out = 2 * cross_left - own_left - other.mean()
        variance += (k - 1) * left_out.var(correction=0).item()
    return float(variance**0.5)
