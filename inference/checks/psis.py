"""Pareto smoothed importance sampling: are these importance weights to be trusted?

Draws from a guide q are corrected to the target p by weights p/q. The weights' right tail decides
whether that works, and the tail of almost any distribution is, far enough out, a generalized Pareto
distribution. Its estimated shape k-hat says how many moments the weights have (those of order below
1/k), hence how many draws a given accuracy costs: below `khat_threshold` the correction can be
relied on, above it nothing is certified. Replacing the largest weights by the quantiles of the
fitted tail lowers the variance of what is left.

Weighted draws are resampled here, too, for many problems at once.

Sources
-------
Vehtari, Simpson, Gelman, Yao, Gabry (2024), "Pareto smoothed importance sampling", JMLR 25(72).
Zhang, Stephens (2009), "A new and efficient estimation method for the generalized Pareto
distribution", Technometrics 51(3).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MINIMUM_DRAWS = 25  # a tail of S/5 draws must hold the five values that the fit needs
MINIMUM_TAIL = 5
# Log weights are differences of log densities of magnitude up to about 1e6: rounding, 1e-10 nats.
ROUNDING = 1e-9


def khat_threshold(draws: int) -> float:
    """Largest k-hat at which importance sampling with this many draws is reliable.

    min(0.7, 1 - 1 / log10(draws)), Vehtari et al. (2024). One draw certifies nothing: -inf. Raises
    `ValueError` if `draws` is not positive.

    >>> round(khat_threshold(100), 3), khat_threshold(10_000)
    (0.5, 0.7)
    """
    if draws < 1:
        raise ValueError(f"draws: expected a positive count, got {draws}")
    return min(0.7, 1.0 - 1.0 / math.log10(draws)) if draws > 1 else -math.inf


def effective_size(log_weights: Tensor) -> float:
    """Kish's effective sample size (sum w)^2 / sum w^2 of unnormalized log weights (draws,).

    Between 1 (one draw has all the weight) and the number of draws (all weights are equal). Raises
    `ValueError` where `pareto_smooth` does.

    >>> round(effective_size(torch.zeros(8)), 6)
    8.0
    >>> round(effective_size(torch.tensor([0.0, -math.inf])), 6)
    1.0
    """
    log_weights = _checked(log_weights)
    _one_dimensional(log_weights)
    return float((2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp())


def pareto_smooth(log_weights: Tensor) -> tuple[Tensor, float]:
    """Smooth the largest importance weights and estimate the shape of their tail.

    Parameters
    ----------
    log_weights
        (draws,) log p - log q in nats, up to a constant; -inf is a draw outside p's support.

    Returns
    -------
    smoothed, khat
        Normalized log weights (draws,) in float64, whose exponentials sum to one, and k-hat. Trust
        them where `khat < khat_threshold(draws)`. Two values of k-hat stand for what was not
        estimated, and leave the weights as they were:

        - `-inf`: the whole tail and the weight before it are equal up to rounding, so the weights
          are bounded as far as the draws can tell. The common case: all are equal, q is p;
        - `inf`: fewer than 25 draws, or fewer than 5 in the tail above the rest. Nothing can be
          certified.

    Raises
    ------
    ValueError
        if a log weight is NaN or +inf, if all are -inf, or if the shape is not (draws,).

    Examples
    --------
    >>> z = torch.randn(1000, generator=torch.Generator().manual_seed(0)).double()
    >>> smoothed, khat = pareto_smooth(0.25 * z**2)  # exp(z^2 / 4) has a Pareto tail, k = 0.5
    >>> abs(float(smoothed.exp().sum()) - 1) < 1e-12, 0.2 < khat < 0.8
    (True, True)
    """
    _one_dimensional(log_weights)
    smoothed, khat = pareto_smooth_rows(log_weights)
    return smoothed, float(khat)


def pareto_smooth_rows(log_weights: Tensor, rounding: float = ROUNDING) -> tuple[Tensor, Tensor]:
    """`pareto_smooth` for every row: (..., draws) -> smoothed (..., draws) and k-hat (...).

    `rounding` is the difference, in nats, up to which the weights of a tail count as equal. Single
    precision needs more than the default: its rounding has steps, whose tail would be fitted.

    >>> smoothed, khat = pareto_smooth_rows(torch.zeros(3, 100))
    >>> smoothed.shape, khat.tolist()
    (torch.Size([3, 100]), [-inf, -inf, -inf])
    """
    log_weights = _checked(log_weights)
    centred = log_weights - log_weights.amax(-1, keepdim=True)
    draws = centred.shape[-1]
    if draws < MINIMUM_DRAWS:
        return _normalized(centred), torch.full_like(centred[..., 0], math.inf)
    size = math.ceil(min(draws / 5, 3 * math.sqrt(draws)))
    largest = centred.topk(size + 1, dim=-1)  # descending: a fifth of the time of sorting all
    tail, place = largest.values[..., :size].flip(-1), largest.indices[..., :size].flip(-1)
    log_cutoff = largest.values[..., size, None]
    cutoff = log_cutoff.exp()
    excess = (tail.exp() - cutoff).clamp(min=0)
    count = (excess > 0).sum(-1, keepdim=True)
    equal = tail[..., -1:] - log_cutoff <= rounding
    fitted = (count >= MINIMUM_TAIL) & ~equal
    k, sigma = fit_generalized_pareto(excess)
    rank = torch.arange(1, size + 1, dtype=centred.dtype, device=centred.device) - (size - count)
    # Ties with the cutoff are no part of the tail: they come first, their ranks are below 1.
    probability = (rank.clamp(min=1) - 0.5) / count
    quantile = generalized_pareto_quantile(probability, k[..., None], sigma[..., None])
    # No smoothed weight may exceed the largest raw one, which is exp(0).
    replaced = torch.where(fitted & (excess > 0), (cutoff + quantile).log().clamp(max=0), tail)
    smoothed = _normalized(centred.scatter(-1, place, replaced))
    unfitted = torch.where(equal, -math.inf, math.inf).to(k)
    return smoothed, torch.where(fitted, k[..., None], unfitted)[..., 0]


def fit_generalized_pareto(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a generalized Pareto distribution, density (1 + k x / sigma)^(-1 - 1/k) / sigma, x > 0.

    The empirical Bayes estimate of Zhang and Stephens (2009), its shape pulled towards 0.5 with the
    weight of ten observations, k = (n k + 10 * 0.5) / (n + 10), as in Vehtari et al. (2024). The
    standard error of k is about (1 + k) / sqrt(n).

    Parameters
    ----------
    excess
        (..., n) values over the threshold, ascending along the last dimension. Zeros, which come
        first, are not counted: they equal the threshold. A row that holds only zeros gives NaN.

    Returns
    -------
    k, sigma
        (...) each; sigma belongs to the estimate of k before it is pulled.

    Examples
    --------
    >>> uniform = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    >>> quantiles = 2 * ((1 - uniform) ** -0.4 - 1) / 0.4  # k = 0.4, sigma = 2
    >>> k, sigma = fit_generalized_pareto(quantiles)
    >>> round(float(k), 2), round(float(sigma), 1)
    (0.4, 2.0)
    """
    size = excess.shape[-1]
    count = (excess > 0).sum(-1, keepdim=True)
    largest = excess[..., -1:]
    quartile = excess.gather(-1, (size - count + (count / 4 + 0.5).long() - 1).clamp(0, size - 1))
    points = 30 + int(math.sqrt(size))
    grid = torch.arange(1, points + 1, dtype=excess.dtype, device=excess.device) - 0.5
    theta = 1 / largest + (1 - (points / grid).sqrt()) / (3 * quartile)
    shape = (-theta[..., None] * excess[..., None, :]).log1p().sum(-1) / count
    mean = excess.sum(-1, keepdim=True) / count
    # -theta / shape tends to 1 / mean, the exponential distribution, where theta is 0.
    rate = torch.where(theta == 0, 1 / mean, -theta / shape)
    posterior = (count * (rate.log() - shape - 1)).softmax(-1)
    theta_mean = (posterior * theta).sum(-1, keepdim=True)
    k = (-theta_mean * excess).log1p().sum(-1, keepdim=True) / count
    sigma = torch.where(theta_mean == 0, mean, -k / theta_mean)
    pulled = (count * k + 10 * 0.5) / (count + 10)
    return pulled[..., 0], sigma[..., 0]


def generalized_pareto_quantile(probability: Tensor, k: Tensor, sigma: Tensor) -> Tensor:
    """Quantile sigma ((1 - p)^(-k) - 1) / k, and -sigma log(1 - p) at k = 0; arguments broadcast.

    >>> generalized_pareto_quantile(torch.tensor(0.75), torch.tensor(1.0), torch.tensor(2.0))
    tensor(6.)
    """
    exponential = -torch.log1p(-probability)
    safe = torch.where(k == 0, 1.0, k)
    return sigma * torch.where(k == 0, exponential, torch.expm1(safe * exponential) / safe)


def _normalized(log_weights: Tensor) -> Tensor:
    return log_weights - log_weights.logsumexp(-1, keepdim=True)


def _one_dimensional(log_weights: Tensor) -> None:
    if log_weights.dim() != 1:
        raise ValueError(
            f"log_weights: expected shape (draws,), got {tuple(log_weights.shape)}; "
            "use pareto_smooth_rows for several rows"
        )


def _checked(log_weights: Tensor) -> Tensor:
    values = log_weights.detach().to(torch.float64)
    if values.dim() == 0 or values.shape[-1] == 0:
        raise ValueError(
            f"log_weights: expected draws along the last dimension, got shape {tuple(values.shape)}"
        )
    wrong = values.isnan() | (values == math.inf)
    if wrong.any():
        raise ValueError(
            f"log_weights: expected finite values or -inf, got {int(wrong.sum())} NaN or +inf of "
            f"{values.numel()}; look for the draw at which the log density of the "
            "story or of the guide is not defined"
        )
    if (values.amax(-1) == -math.inf).any():
        raise ValueError(
            "log_weights: expected at least one finite value, got only -inf: no draw lies where "
            "the target has any mass; draw from a wider guide"
        )
    return values


def resample(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Systematic resampling of a shuffled pool.

    Index i is chosen ``count * weight_i`` times on average; at most once where that is below one, so
    that resampled draws are distinct and ArviZ's effective sample size is not fooled.

    Args:
        log_weights: (pool,) normalized.
        count: how many to choose.

    Returns:
        (count,) indices, in random order.
    """
    return resample_rows(log_weights[None], count, [generator])[0]


def resample_rows(log_weights: Tensor, count: int, generators: list[torch.Generator]) -> Tensor:
    """The same for every row (problems, pool) -> (problems, count), each by its own generator."""
    size = log_weights.shape[1]
    order = torch.stack([torch.randperm(size, generator=g) for g in generators])
    total = log_weights.gather(1, order).exp().cumsum(1)
    start = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    positions = (torch.arange(count, dtype=torch.float64) + start) / count * total[:, -1:]
    index = order.gather(1, torch.searchsorted(total, positions).clamp(max=size - 1))
    return index.gather(1, torch.stack([torch.randperm(count, generator=g) for g in generators]))
