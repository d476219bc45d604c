"""Points at which a story cannot be evaluated: a matrix that is not positive definite to working precision.

Far from the mode a covariance may be singular in float64, and torch then raises for the whole batch. Such
a point has no density that could be computed; it counts as impossible, and the other points of the batch
as what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def apart(evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate a batch of points; where a factorization fails, by halves, down to the points that fail.

    Args:
        evaluate: points (draws, size) -> log densities (draws,) and gradients (draws, size).
        z: (draws, size).

    Returns:
        What ``evaluate`` returns, with log density -inf and gradient NaN at the points that fail.

    Example:
        >>> import torch
        >>> def evaluate(z):
        ...     return torch.linalg.cholesky(z[..., None])[:, 0, 0], z
        >>> apart(evaluate, torch.tensor([[4.0], [-1.0], [9.0]]))[0]
        tensor([2., -inf, 3.])
    """
    try:
        return evaluate(z)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        if len(z) == 1:
            return torch.full_like(z[:, 0], -math.inf), torch.full_like(z, math.nan)
    values, grads = zip(*(apart(evaluate, half) for half in z.chunk(2)), strict=True)
    return torch.cat(values), torch.cat(grads)
