"""Do independent restarts agree? Rank-normalized R-hat, and its limit for the draws at hand.

Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), "Rank-normalization, folding, and
localization: an improved R-hat", Bayesian Analysis 16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_RHAT = 1.01
_FALSE_ALARM = 1e-3  # chance that independent, identical restarts exceed the limit


def rank_normalized_rhat(draws: Tensor) -> Tensor:
    """Largest of bulk and folded split R-hat for every unknown (Vehtari et al. 2021).

    Args:
        draws: (chains, draws, size).

    Returns:
        (size,).
    """
    half = draws.shape[1] // 2
    split = torch.cat([draws[:, :half], draws[:, half : 2 * half]])
    folded = (split - split.flatten(0, 1).median(0).values).abs()
    return torch.maximum(_rhat(_normal_scores(split)), _rhat(_normal_scores(folded)))


def _normal_scores(draws: Tensor) -> Tensor:
    flat = draws.flatten(0, 1)
    rank = flat.argsort(0).argsort(0).double() + 1
    return torch.special.ndtri((rank - 0.375) / (len(flat) + 0.25)).reshape(draws.shape)


def _rhat(draws: Tensor) -> Tensor:
    n = draws.shape[1]
    within = draws.var(1).mean(0)
    between = n * draws.mean(1).var(0)
    return (((n - 1) / n * within + between / n) / within).sqrt()


def rhat_limit(chains: int, draws: int, unknowns: int) -> float:
    """1.01, or more where that many independent draws exceed 1.01 by chance.

    R-hat of ``chains`` independent chains is about sqrt(1 + (chi2 / (chains - 1) - 1) / draws) with
    chi2 on chains - 1 degrees of freedom; its quantile is taken by Wilson and Hilferty (1931) at a
    chance of 1e-3 over all unknowns, bulk and folded.

    Example:
        >>> rhat_limit(8, 500, 5), round(rhat_limit(8, 50, 5), 3)
        (1.01, 1.033)
    """
    k = chains - 1
    chance = _FALSE_ALARM / (2 * max(1, unknowns))
    z = float(torch.special.ndtri(torch.tensor(1 - chance, dtype=torch.float64)))
    quantile = k * (1 - 2 / (9 * k) + z * math.sqrt(2 / (9 * k))) ** 3
    return max(_RHAT, math.sqrt(1 + (quantile / k - 1) / max(1, draws)))
