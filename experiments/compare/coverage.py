"""Density and coverage: are generated rows where real rows are, and everywhere they are?"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from experiments.compare.result import Z_POWER, Comparison
from experiments.compare.rows import distances, pair_of

# The matrix of pairwise distances of that many rows takes .8 GB.
MOST_ROWS = 10_000
SPLITS = 20  # into halves: more add little, for they share their rows


class DensityCoverage(NamedTuple):
    """Density (are generated rows plausible?) and coverage (is every region of the truth reached?)."""

    density: Comparison
    coverage: Comparison


def density_coverage(
    real: Any, generated: Any, nearest: int = 5, permutations: int = 999, seed: int = 0
) -> DensityCoverage:
    """Lay generated rows into the balls that reach from each real row to its k-th real neighbour.

    Density is the mean number of balls that a generated row lies in, over k; its mean is exactly 1
    for two samples of one law. Coverage is the share of balls that hold a generated row; its mean is
    then exactly 1 - C(n - 1, k) / C(n + m - 1, k). A missing mode shows as missing coverage, rows
    between the modes as missing density; a density above 1 as rows crowded in the thick of the truth.

    Blind spots: both depend on k and on the scales of the columns; k rows of a mode suffice to make
    it count, and differences in means, spreads and weights hardly show. As tests, both are weak
    (of pairs of 500 rows in ten dimensions, one with 10 % of its rows in another mode, coverage told
    24 % apart and density 52 %): :mod:`experiments.compare.statistics` has better ones.

    Parameters
    ----------
    real, generated
        Rows (n, ...) and (m, ...), independent, flattened; at most 10,000 in all.
    nearest
        k. The authors advise 5, or a k for which two samples of the truth cover .95.
    permutations
        Random relabellings, for ``floor``, ``null_mean`` and ``p_value`` (of too small a value).
    seed
        Of the relabellings; the global random state is not touched.

    Returns
    -------
    DensityCoverage
        Two comparisons that are similarities: small is bad, ``floor`` is the 5 % quantile.
        ``error`` comes from halves of both samples; ``detectable`` is the value at
        which a region that is missed altogether (rows off the truth altogether) is seen 4 times in 5.

    Raises
    ------
    ValueError
        As in :func:`experiments.compare.two_sample`, and if ``nearest`` is not between 1 and n/2 - 1.

    Source
    ------
    Naeem, Oh, Uh, Choi and Yoo (2020), Reliable fidelity and diversity metrics for generative models.

    Examples
    --------
    >>> real = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> half = density_coverage(real, real[real[:, 0] > 0])
    >>> half.coverage.value < half.coverage.floor
    True
    """
    x, y = pair_of(real, generated, MOST_ROWS, ("real", "generated"))
    if not 1 <= nearest <= len(x) // 2 - 1:
        raise ValueError(f"nearest: expected 1 .. {len(x) // 2 - 1} (half the real rows), got {nearest}")
    if permutations < 19:
        raise ValueError(f"permutations: expected at least 19, got {permutations}")
    pooled = torch.cat([x, y])
    matrix, real_rows = distances(pooled, pooled), torch.arange(len(pooled)) < len(x)
    near, index = _neighbours(matrix, len(x), nearest)
    generator = torch.Generator().manual_seed(seed)
    labellings = [real_rows] + [
        real_rows[torch.randperm(len(pooled), generator=generator)] for _ in range(permutations)
    ]
    inside = torch.stack([_inside(matrix, near, index, labels, nearest) for labels in labellings])
    values = _score(inside.sum(1), (inside > 0).sum(1), len(x), len(y), nearest)
    errors = _half_sampling_errors(matrix, len(x), nearest, generator)
    return DensityCoverage(
        _comparison(values[0], errors[0], len(y), 1 / (nearest * len(y)), f"density (k = {nearest})"),
        _comparison(values[1], errors[1], len(x), 1 / len(x), f"coverage (k = {nearest})"),
    )


def _neighbours(matrix: Tensor, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Distances and indices of nearest rows, enough to hold k real ones nearly always: (rows, K)."""
    count = min(math.ceil(4 * k * len(matrix) / n) + 20, len(matrix) - 1)
    matrix.fill_diagonal_(-1)  # a row itself comes first, also among its copies
    near, index = matrix.topk(count + 1, largest=False)
    matrix.fill_diagonal_(0)
    return near[:, 1:], index[:, 1:]


def _inside(matrix: Tensor, near: Tensor, index: Tensor, real: Tensor, k: int) -> Tensor:
    """Generated rows nearer to each real row than its k-th real neighbour, for labels (rows,): (n,)."""
    label, close = real[index[real]], near[real]
    at = (label.cumsum(1) < k).sum(1)
    beyond = at == close.shape[1]
    radius = close.gather(1, at.clamp(max=close.shape[1] - 1)[:, None])
    inside = (~label & (close < radius)).sum(1)
    if beyond.any():
        rows = matrix[real.nonzero().squeeze(1)[beyond]]
        radius = rows[:, real].topk(k + 1, largest=False).values[:, -1:]
        inside[beyond] = (rows[:, ~real] < radius).sum(1)
    return inside.double()


def _score(pairs: Tensor, covered: Tensor, n: int, m: int, k: int) -> Tensor:
    return torch.stack([pairs / (k * m), covered / n])


def _half_sampling_errors(matrix: Tensor, n: int, k: int, generator: Generator) -> Tensor:
    """Standard errors of both, from random halves of both samples: (2,).

    Two disjoint halves are independent and have twice the variance, so the squared difference of their
    values is on average four times the variance of all. (Leaving out one row at a time gives 1.5 times
    the error: values that jump are not smooth enough for a jackknife.)

    Source: Politis, Romano and Wolf (1999), Subsampling.
    """
    m = len(matrix) - n
    squares = torch.zeros(2, dtype=matrix.dtype)
    for _ in range(SPLITS):
        x = torch.randperm(n, generator=generator)[: n - n % 2].reshape(2, -1)
        y = n + torch.randperm(m, generator=generator)[: m - m % 2].reshape(2, -1)
        first, second = (
            _from_scratch(matrix[a][:, a], matrix[a][:, b], k) for a, b in zip(x, y, strict=True)
        )
        squares += (first - second).square() / 4
    return (squares / SPLITS).sqrt()


def _from_scratch(among: Tensor, across: Tensor, k: int) -> Tensor:
    radius = among.topk(k + 1, largest=False).values[:, -1:]  # the nearest row to a row is itself
    inside = (across < radius).sum(1).double()
    return _score(inside.sum(), (inside > 0).sum(), across.shape[0], across.shape[1], k)


def _comparison(values: Tensor, error: Tensor, rows: int, step: float, kind: str) -> Comparison:
    """Set the first of ``values``, multiples of ``step``, beside the others, those of the relabellings."""
    value, null = values[0], values[1:]
    # Below it, at most 5 % of all labellings are as small; ties with it are more.
    floor = null.sort().values[int(0.05 * (1 + len(null)) + 1e-9) - 1].item()
    mean = null.mean().item()
    at_most = int((null <= value + 1e-12).sum())
    return Comparison(
        value=value.item(),
        error=error.item(),
        p_value=(1 + at_most) / (1 + len(null)),
        floor=floor,
        detectable=_detectable(floor - step / 2, mean, null.var().item(), rows),
        kind=kind,
        null_mean=mean,
        similarity=True,
    )


def _detectable(critical: float, mean: float, variance: float, rows: int) -> float:
    """Mean of a value that falls below the critical one 4 times in 5.

    The loss, mean - value, is the share of rows in a region that is missed altogether: a binomial
    share, whose variance adds to that of the null. A fixed point, reached within a few steps.
    """
    value = critical
    for _ in range(50):
        lost = min(max(mean - value, 0.0), 1.0)
        value = max(critical - Z_POWER * math.sqrt(variance + lost * (1 - lost) / rows), 0.0)
    return value
