"""Are draws that came from elsewhere independent, as their weights and k-hat take for granted?

Weights look at each draw by itself: draws of a chain, or a few draws many times over, have weights as good
as independent ones. What tells them apart is that values repeat, and that neighbours are alike.

Source: Flegal and Jones (2010), "Batch means and spectral variance estimators in Markov chain Monte Carlo".
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.hmc.convergence import largest_mean_square

_BATCHES = 64  # of consecutive draws ...
_SHORTEST = 8  # ... but none shorter
_INFLATED = 2.0  # variance of batch means, in units of that of independent draws, that is let pass
_FALSE_ALARM = 1e-6  # chance over all unknowns
_DISTINCT = 0.5  # share of draws that must differ from all others before them


def dependences(z: Tensor) -> list[str]:
    """Reasons not to take draws (draws, size), in the order they were made in, for independent ones.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = torch.randn(1000, 2, generator=generator, dtype=torch.float64)
        >>> dependences(z), len(dependences(z.cumsum(0))), len(dependences(z[torch.arange(1000) % 100]))
        ([], 1, 1)
    """
    draws, size = z.shape
    direction = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=z.dtype)
    distinct = len((z @ direction).unique())
    if distinct < _DISTINCT * draws:
        return [
            f"Only {distinct} of the {draws} draws differ from one another: such draws do not count as "
            f"independent (a chain that stood still, draws taken with replacement, or rounded ones). Give "
            f"each once, in full precision."
        ]
    inflated = batch_means(z)
    batches = min(_BATCHES, draws // _SHORTEST)
    if not inflated > max(_INFLATED, largest_mean_square(batches - 1, _FALSE_ALARM / size)):
        return []
    return [
        f"The draws are not independent in the order they were given in: means of neighbouring draws vary "
        f"{inflated:.1f} times as much as those of independent draws, so that they are worth about "
        f"{draws / inflated:.0f} of {draws}. Weights and k-hat are for independent draws. Thin a chain, or, "
        f"if independent draws were sorted, shuffle them."
    ]


def batch_means(z: Tensor) -> float:
    """Variance of the means of batches of consecutive draws by that of independent draws: the largest."""
    count = min(_BATCHES, len(z) // _SHORTEST)
    each = len(z) // count
    ranks = z[: count * each].argsort(0).argsort(0).double()
    means = ranks.reshape(count, each, -1).mean(1)
    return float((means.var(0) * each / ranks.var(0)).max())
