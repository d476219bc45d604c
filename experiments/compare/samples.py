"""Two-sample tests: do two sets of draws come from one law?"""

from __future__ import annotations

from typing import Any

import torch

from experiments.compare import statistics
from experiments.compare.found import part
from experiments.compare.result import Comparison
from experiments.compare.rows import pair_of

# The matrix of pairwise distances of that many rows takes 3.2 GB.
MOST_ROWS = 20_000


def two_sample(x: Any, y: Any, test: str = "energy", permutations: int = 999, seed: int = 0) -> Comparison:
    """Test whether two sets of independent draws come from one law.

    What each test sees and does not see stands, with its measured power, in
    :mod:`experiments.compare.statistics`.

    Parameters
    ----------
    x, y
        Tensors or arrays, (rows, ...) each; the trailing shapes agree and are flattened. Rows must
        be independent (thin a Markov chain first) and are compared as they are: bring columns
        with different units to one scale before.
    test
        A file of ``statistics/``: "energy" (energy distance), "mmd" (squared maximum mean
        discrepancy), "sliced_wasserstein" (an effect size in the data's unit), "classifier" and
        "network" (accuracy on held-out rows).
    permutations
        Random relabellings B; the p-value is (1 + number at least as large) / (1 + B), which has
        its level exactly. At least 19, so that 5 % can be reached. The classifiers use none.
    seed
        Of relabellings, splits and directions; the global random state is not touched.

    Returns
    -------
    Comparison
        ``floor`` is the 95 % quantile of the relabellings and ``null_mean`` their mean (of the
        classifiers: of a binomial law); ``error`` is the spread that other rows would bring.

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
    a, b = pair_of(x, y, MOST_ROWS)
    if permutations < 19:
        raise ValueError(f"permutations: expected at least 19, got {permutations}")
    result: Comparison = compare(a, b, permutations, torch.Generator().manual_seed(seed))
    return result
