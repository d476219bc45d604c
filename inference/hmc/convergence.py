"""Have the chains converged, and how much do their draws tell? R-hat, nested R-hat, effective sample sizes.

All take draws (chains, draws, size) and answer for the ``size`` quantities at once. R-hat and the effective
sample sizes are those of ArviZ, to rounding.

Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), "Rank-normalization, folding, and
localization: an improved R-hat", Bayesian Analysis 16; Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari
and Gelman (2024), "Nested R-hat: assessing the convergence of Markov chain Monte Carlo when running many
short chains", Bayesian Analysis; Geyer (1992), "Practical Markov chain Monte Carlo", Statistical Science 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RHAT = 1.01
_FALSE_ALARM = 1e-3  # chance that independent, identical restarts exceed the limit
_TAILS = (0.05, 0.95)
_MEMORY = 2**22  # numbers per chunk of quantities: 32 MiB


def rank_normalized_rhat(draws: Tensor) -> Tensor:
    """Largest of bulk and folded split R-hat for every quantity (Vehtari et al. 2021).

    Args:
        draws: (chains, draws, size), at least 4 draws.

    Returns:
        (size,); NaN for a quantity that is constant or not finite.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> draws = torch.randn(4, 1000, 1, generator=generator, dtype=torch.float64)
        >>> shifted = draws + torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None, None]
        >>> [round(float(rank_normalized_rhat(x)), 2) for x in (draws, shifted)]
        [1.0, 1.09]
    """
    return _by_chunks(lambda x: Ranks.of(_split(x)).largest(_rhat), draws)


def nested_rhat(draws: Tensor) -> Tensor:
    """Nested R-hat of superchains (Margossian et al. 2024, section 3): sqrt(1 + B / W).

    B is the variance of the superchains' means; W is the mean over superchains of the variance between
    their chains' means plus the mean variance within their chains. With chains that share nothing but
    their superchain's start, B tells whether the start is forgotten, however short the chains are.

    Args:
        draws: (superchains, chains, draws, size).

    Returns:
        (size,); at least 1.
    """
    return _nested((draws - draws.mean((0, 1, 2))).permute(3, 0, 1, 2))


def rank_normalized_nested_rhat(draws: Tensor) -> Tensor:
    """Largest of nested R-hat of the normal scores and of the folded normal scores.

    Args:
        draws: (superchains, chains, draws, size).

    Returns:
        (size,).
    """
    superchains = draws.shape[0]
    return _by_chunks(lambda x: Ranks.of(x).nested(superchains), draws.flatten(0, 1))


def ess_bulk(draws: Tensor) -> Tensor:
    """Effective number of draws for the bulk of each quantity's distribution.

    Args:
        draws: (chains, draws, size), at least 4 draws.

    Returns:
        (size,), over all chains together.
    """
    return _by_chunks(lambda x: _ess(_scores(_split(x))[0]), draws)


def ess_tail(draws: Tensor) -> Tensor:
    """Effective number of draws for the 5 % and the 95 % quantile of each quantity, the smaller one.

    Args:
        draws: (chains, draws, size), at least 4 draws.

    Returns:
        (size,), over all chains together.
    """
    return _by_chunks(lambda x: _tail(*_scores(x)[:2]), draws)


def ess_raw(draws: Tensor) -> Tensor:
    """Effective number of draws for the mean of each quantity, without ranks: cheap.

    Args:
        draws: (chains, draws, size), at least 4 draws.

    Returns:
        (size,), over all chains together.
    """
    return _by_chunks(lambda x: _ess(_split(x)), draws)


def rhat_limit(chains: int, draws: float, unknowns: int) -> float:
    """1.01, or more where that many independent draws exceed 1.01 by chance.

    R-hat of ``chains`` independent chains (or superchains) is about
    sqrt(1 + (chi2 / (chains - 1) - 1) / draws) with chi2 on chains - 1 degrees of freedom; its quantile is
    taken by Wilson and Hilferty (1931) at a chance of 1e-3 over all unknowns, bulk and folded.

    Args:
        chains: how many are compared.
        draws: effective number of draws of each.
        unknowns: number of quantities.

    Example:
        >>> rhat_limit(8, 500, 5), round(rhat_limit(8, 50, 5), 3)
        (1.01, 1.033)
    """
    k = chains - 1
    chance = _FALSE_ALARM / (2 * max(1, unknowns))
    return max(RHAT, math.sqrt(1 + (largest_mean_square(k, chance) - 1) / max(1.0, draws)))


def largest_mean_square(degrees: int, chance: float) -> float:
    """What chi2 / degrees of freedom exceeds with a small chance (Wilson and Hilferty 1931).

    Example:
        >>> round(largest_mean_square(10, 0.05), 2)
        1.83
    """
    z = float(torch.special.ndtri(torch.tensor(1 - chance, dtype=torch.float64)))
    return (1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3


@dataclass(frozen=True)
class Ranks:
    """Normal scores of quantities, from which all of the above follow; sorting is what takes the time.

    Attributes:
        bulk: (size, chains, draws) normal scores of the quantities.
        folded: of their distances from the median.
        ordered: (size, chains * draws) ``bulk`` in ascending order.
    """

    bulk: Tensor
    folded: Tensor
    ordered: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Ranks:
        """Rank (size, chains, draws)."""
        bulk, scores, ordered = _scores(x)
        count = ordered.shape[-1]
        median = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
        return cls(bulk, _scores((x - median[:, None, None]).abs())[0], scores)

    def largest(self, statistic: Callable[[Tensor], Tensor]) -> Tensor:
        """The larger of a statistic of the bulk and of the folded scores."""
        return torch.maximum(statistic(self.bulk), statistic(self.folded))

    def nested(self, superchains: int, order: Tensor | None = None) -> Tensor:
        """Nested R-hat with that many superchains of successive chains.

        Args:
            order: (size, chains) the order of the chains, quantity by quantity.
        """

        def statistic(x: Tensor) -> Tensor:
            if order is not None:
                x = x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
            return _nested(x.unflatten(1, (superchains, -1)))

        return self.largest(statistic)

    def ess(self) -> tuple[Tensor, Tensor]:
        """Effective number of draws, bulk and tail."""
        return _ess(_split(self.bulk)), _tail(self.bulk, self.ordered)


def chunk(draws: Tensor) -> int:
    """How many quantities of (chains, draws, size) are treated at a time, to save memory."""
    return max(1, _MEMORY // max(1, draws.shape[0] * draws.shape[1]))


def chunks(draws: Tensor) -> Iterator[Tensor]:
    """Parts (some, chains, draws) of draws (chains, draws, size)."""
    for part in draws.double().split(chunk(draws), -1):
        yield part.permute(2, 0, 1)


def _by_chunks(statistic: Callable[[Tensor], Tensor], draws: Tensor) -> Tensor:
    return torch.cat([statistic(part) for part in chunks(draws)])


def _split(x: Tensor) -> Tensor:
    """Each chain as two; the middle draw of an odd number is left out."""
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half], x[..., -half:]], 1)


def _order(flat: Tensor) -> Tensor:
    """Indices that sort the rows; by NumPy on the CPU, whose vectorized sort takes a quarter of the time."""
    return torch.from_numpy(np.argsort(flat.numpy(), -1)) if flat.device.type == "cpu" else flat.argsort(-1)


def _scores(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normal quantiles of the ranks over all chains (Blom 1958); equal values share their mean rank.

    Returns:
        Scores in the shape of ``x``; scores and values in ascending order, (size, chains * draws).
    """
    flat = x.flatten(1)
    order = _order(flat)
    ordered = flat.gather(-1, order)
    count = ordered.shape[-1]
    new = ordered[:, 1:] != ordered[:, :-1]
    place = torch.arange(1, count, device=x.device)
    edge = torch.zeros_like(order[:, :1])
    first = torch.cat([edge, torch.where(new, place, 0)], 1).cummax(-1).values
    last = torch.cat([torch.where(new, place - 1, count), edge + count - 1], 1)
    last = last.flip(-1).cummin(-1).values.flip(-1)
    half_ranks = torch.arange(2 * count - 1, dtype=torch.float64, device=x.device) / 2 + 1
    table = torch.special.ndtri((half_ranks - 0.375) / (count + 0.25))
    finite = torch.isfinite(ordered[:, [0, -1]]).all(-1, keepdim=True)
    scores = torch.where(finite, table[first + last], torch.nan)
    return torch.empty_like(ordered).scatter_(-1, order, scores).reshape(x.shape), scores, ordered


def _rhat(x: Tensor) -> Tensor:
    n = x.shape[-1]
    return ((n * x.mean(-1).var(-1) / x.var(-1).mean(-1) + n - 1) / n).sqrt()


def _nested(x: Tensor) -> Tensor:
    """Nested R-hat of (size, superchains, chains, draws), whose mean is near zero."""
    chain = x.mean(-1)
    within = torch.zeros_like(chain[..., 0])
    if x.shape[3] > 1:
        n = x.shape[3]
        within = (x.square().mean(-1) - chain.square()).mean(-1) * n / (n - 1)
    if x.shape[2] > 1:
        within = within + chain.var(-1)
    return (1 + chain.mean(-1).var(-1) / within.mean(-1)).sqrt()


def _tail(bulk: Tensor, ordered: Tensor) -> Tensor:
    """Smaller effective size of the indicators of the two tails, from scores and sorted scores."""
    count = ordered.shape[-1]
    # What does not exceed the interpolated quantile does not exceed the draw below it either.
    ends = [ordered[:, math.floor(share * (count - 1)), None, None] for share in _TAILS]
    result = torch.minimum(*(_ess(_split((bulk <= end).double())) for end in ends))
    return torch.where(ordered[:, 0].isnan(), torch.nan, result)  # no score exceeds NaN


def _ess(x: Tensor) -> Tensor:
    """Effective sample size of (size, chains, draws) by Geyer's initial monotone sequence."""
    _, chains, n = x.shape
    spectrum = torch.view_as_real(torch.fft.rfft(x - x.mean(-1, keepdim=True), 2 * n))
    spectrum = spectrum.square().sum(-1).mean(1)
    covariance = torch.fft.irfft(spectrum, 2 * n)[:, :n] / n
    within = covariance[:, 0] * n / (n - 1)
    total = covariance[:, 0] + (x.mean(-1).var(-1) if chains > 1 else 0.0)
    correlation = 1 - (within[:, None] - covariance) / total[:, None]
    correlation[:, 0] = 1.0
    time = _integrated(correlation).clamp(min=1 / math.log10(chains * n))
    constant = x.flatten(1).amax(-1) - x.flatten(1).amin(-1) < 1e-15
    time = torch.where(constant, 1.0, time)
    return torch.where(torch.isfinite(total), chains * n / time, torch.nan)


def _integrated(correlation: Tensor) -> Tensor:
    """Integrated autocorrelation time of rows of autocorrelations.

    Pairs of lags are summed while they are positive, and made to fall; the even lag after them counts once.
    """
    n = correlation.shape[-1]
    pairs = correlation[:, 0 : n - n % 2 : 2] + correlation[:, 1::2]
    lags = max(0, (n - 1) // 2 - 1)  # pairs after the first that enough draws stand behind
    count = (pairs[:, :lags] > 0).long().cumprod(-1).sum(-1, keepdim=True)
    falling = torch.where(torch.arange(pairs.shape[-1], device=pairs.device) < count, pairs, 0.0)
    kept = falling.cummin(-1).values.sum(-1)
    even = correlation.gather(-1, 2 * count)[:, 0]
    after = torch.where(pairs.gather(-1, count)[:, 0] >= 0, even, even.clamp(min=0))
    return -1 + 2 * kept + after
