"""How well does a score tell two groups of rows apart?"""

from __future__ import annotations

import math
from typing import Any

import torch

from experiments.compare.result import Estimate


def auc(higher: Any, lower: Any) -> Estimate:
    """Area under the ROC curve: P(a row of ``higher`` outscores a row of ``lower``), ties half.

    Parameters
    ----------
    higher, lower
        Scores, (n,) and (m,), of the group that should score higher and of the other.

    Returns
    -------
    Estimate
        The area (.5 is chance, 1 perfect) and its standard error by placement values.

    Raises
    ------
    ValueError
        If a group has fewer than two scores or a score is NaN.

    Source
    ------
    DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more correlated
    receiver operating characteristic curves.

    Examples
    --------
    >>> round(auc([3.0, 4.0, 5.0], [1.0, 2.0, 3.5]).value, 4)
    0.8889
    """
    a, b = torch.as_tensor(higher).double(), torch.as_tensor(lower).double()
    for name, scores in (("higher", a), ("lower", b)):
        if scores.ndim != 1 or len(scores) < 2 or scores.isnan().any():
            raise ValueError(
                f"{name}: expected at least 2 scores in one dimension and no NaN, "
                f"got shape {tuple(scores.shape)}"
            )
    wins = (a[:, None] > b).double() + (a[:, None] == b).double() / 2
    variance = wins.mean(1).var() / len(a) + wins.mean(0).var() / len(b)
    return Estimate(wins.mean().item(), math.sqrt(variance.item()))
