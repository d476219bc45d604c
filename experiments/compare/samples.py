"""Two-sample tests: do two sets of draws come from one law?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments.compare import statistics
from experiments.compare.found import part
from experiments.compare.result import Comparison

# The matrix of pairwise distances of that many rows takes 3.2 GB.
MOST_ROWS = 20_000


def two_sample(x: Any, y: Any, test: str = "energy", permutations: int = 999, seed: int = 0) -> Comparison:
    """Test whether two sets of independent draws come from one law, by permutation.

    Parameters
    ----------
    x, y
        Tensors or arrays, (rows, ...) each; the trailing shapes agree and are flattened. Rows must
        be independent (thin a Markov chain first) and are compared as they are: bring columns
        with different units to one scale before.
    test
        A file of ``statistics/``; "energy" is the energy distance.
    permutations
        Random relabellings B; the p-value is (1 + number at least as large) / (1 + B), which has
        its level exactly. At least 19, so that 5 % can be reached.
    seed
        Of the relabellings; the global random state is not touched.

    Returns
    -------
    Comparison
        ``floor`` is the 95 % quantile of the relabellings and ``null_mean`` their mean;
        ``error`` is a jackknife over rows.

    Raises
    ------
    ValueError
        If the test is unknown, the trailing shapes differ, a set has fewer than 4 rows, values are
        not finite, ``permutations`` is below 19, or there are more than 20,000 rows in all.

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(100, 2, generator=g), torch.randn(100, 2, generator=g)
    >>> two_sample(x, y).p_value > 0.05
    True
    >>> two_sample(x, y + 1).p_value
    0.001
    """
    compare = part(statistics, test, "test").compare
    x, y = _rows(x, "x"), _rows(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x, y: expected equal row sizes, got {x.shape[1]} and {y.shape[1]}")
    if len(x) + len(y) > MOST_ROWS:
        raise ValueError(
            f"x, y: expected at most {MOST_ROWS} rows in all, got {len(x) + len(y)}; "
            "take a random subset of each"
        )
    if permutations < 19:
        raise ValueError(f"permutations: expected at least 19, got {permutations}")
    result: Comparison = compare(x, y, permutations, torch.Generator().manual_seed(seed))
    return result


def _rows(values: Any, name: str) -> Tensor:
    rows = torch.as_tensor(values).detach().cpu().double()
    if rows.ndim == 0 or len(rows) < 4 or rows.numel() == 0:
        raise ValueError(f"{name}: expected at least 4 rows of draws, got {tuple(rows.shape)}")
    if not torch.isfinite(rows).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return rows.reshape(len(rows), -1)
