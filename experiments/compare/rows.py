"""Draws as rows of numbers, checked once for every comparison of this room."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

# Bandwidths come from the pairs of so many rows at most: the median of 500,000 distances is known
# to about 0.1 % of its spread.
BANDWIDTH_ROWS = 1_000


def rows_of(values: Any, name: str, least: int = 4) -> Tensor:
    """Bring draws (rows, ...) to float64 rows (rows, d) on the CPU.

    Raises
    ------
    ValueError
        If there are fewer than ``least`` rows, or a value is NaN or infinite.

    Examples
    --------
    >>> rows_of([[1, 2], [3, 4], [5, 6], [7, 8]], "x").shape
    torch.Size([4, 2])
    """
    rows = torch.as_tensor(values).detach().cpu().double()
    if rows.ndim == 0 or len(rows) < least or rows.numel() == 0:
        raise ValueError(f"{name}: expected at least {least} rows of draws, got {tuple(rows.shape)}")
    if not torch.isfinite(rows).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return rows.reshape(len(rows), -1)


def pair_of(x: Any, y: Any, most: int, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    """Bring two sets of draws to rows (n, d) and (m, d) that can be compared.

    Raises
    ------
    ValueError
        As in :func:`rows_of`, and if the row sizes differ or there are more than ``most`` rows.
    """
    a, b = rows_of(x, names[0]), rows_of(y, names[1])
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{', '.join(names)}: expected equal row sizes, got {a.shape[1]} and {b.shape[1]}")
    if len(a) + len(b) > most:
        raise ValueError(
            f"{', '.join(names)}: expected at most {most} rows in all, got {len(a) + len(b)}; "
            "take a random subset of each"
        )
    return a, b


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (n, m), exactly 0 between equal rows."""
    # The faster way by matrix products would leave distances of 1e-7 between equal rows.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def median_distance(x: Tensor, generator: Generator) -> float:
    """Median distance between two rows, over a random subset; 1 where that is 0.

    The subset is random, not the first rows, so that the result does not depend on which sample
    a row came from: a bandwidth that did would cost a permutation test its level.

    Source: Gretton et al. (2012), A kernel two-sample test, section 8 (the median heuristic).
    """
    chosen = x[torch.randperm(len(x), generator=generator)[:BANDWIDTH_ROWS]]
    # Half the rows equal: any positive width serves, and 1 is the unit of the data.
    return torch.pdist(chosen).median().item() or 1.0
