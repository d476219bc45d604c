"""KL and bits per dimension where a density is known only row by row, exactly or as a bound.

Many models give log q(x_i) by importance sampling: the log of a mean, with a standard error of its
own for each row. The log of an unbiased mean is on average too low (by about half its variance), so
that KL(p || q) and bits per dimension come out too high: both are then upper bounds, and say so.

Source: Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, for the bound.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.compare.result import Z_LEVEL, Z_POWER, Comparison, Estimate, mean_and_error


class Bits(NamedTuple):
    """Bits per dimension, its standard error, and whether it is an upper bound.

    Examples
    --------
    >>> print(Bits(1.234, 0.012, bound=True))
    at most 1.234 ± 0.012
    """

    value: float
    error: float
    bound: bool

    def __str__(self) -> str:
        return f"{'at most ' if self.bound else ''}{Estimate(self.value, self.error)}"


def kl_from(log_p: Any, log_q: Any, log_q_error: Any = None, bound: bool | None = None) -> Comparison:
    """KL(p || q) in nats from both log densities at draws of p, the mean of log p - log q.

    Parameters
    ----------
    log_p, log_q
        (rows,) each, in nats, at the same independent draws of p.
    log_q_error
        Standard errors of ``log_q``, (rows,) or a number, where it was estimated; independent from
        row to row. Any that is not 0 makes the result an upper bound.
    bound
        Whether ``log_q`` is a lower bound (an ELBO, an importance-weighted bound); None: if it has
        an error.

    Returns
    -------
    Comparison
        ``bound`` is "upper" or empty. ``null_mean`` is what a perfect q would show, half the mean
        squared ``log_q_error``, so that ``excess`` has the bias of importance sampling taken off
        (to first order: for errors well below 1). ``floor`` is the 95 % quantile of what a perfect
        q would show; ``detectable`` lies 2.49 standard errors above ``null_mean``. The value is
        infinite where q has no density at a draw of p.

    Raises
    ------
    ValueError
        If shapes differ, there are fewer than two rows, a value is NaN, ``log_p`` is not finite, or
        an error is negative.

    Examples
    --------
    >>> x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    >>> p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.0, 1.0)
    >>> result = kl_from(p.log_prob(x), q.log_prob(x))      # truth: 1/2
    >>> abs(result.value - 0.5) < 4 * result.error, result.bound
    (True, '')
    """
    p, q = _column(log_p, "log_p"), _column(log_q, "log_q")
    if p.shape != q.shape:
        raise ValueError(f"log_p, log_q: expected equal shapes, got {tuple(p.shape)} and {tuple(q.shape)}")
    if not torch.isfinite(p).all():
        raise ValueError("log_p: expected finite values at draws of p, got infinity")
    noise = _noise(log_q_error, len(q), "log_q_error")
    estimate = mean_and_error(p - q)
    bias = noise.square().mean().item() / 2
    return Comparison(
        value=estimate.value,
        error=estimate.error,
        p_value=None,
        floor=bias + Z_LEVEL * math.sqrt(2 * bias / len(q)),
        detectable=bias + (Z_LEVEL + Z_POWER) * estimate.error,
        kind="kl",
        null_mean=bias,
        bound="upper" if _is_bound(noise, bound) else "",
    )


def bits_per_dimension(
    log_prob: Any,
    dimensions: int,
    log_prob_error: Any = None,
    bound: bool | None = None,
    bin_width: float = 1.0,
) -> Bits:
    """Code length of held-out rows: -(mean log_prob + dimensions log bin_width)/(dimensions log 2).

    Blind to the scale on which it is measured: only numbers for the same data, with the same noise
    added to the same grey levels, can be set side by side.

    Parameters
    ----------
    log_prob
        (rows,), in nats, of independent held-out rows.
    dimensions
        Numbers in a row, such as 64 pixels.
    log_prob_error, bound
        As ``log_q_error`` and ``bound`` of :func:`kl_from`.
    bin_width
        For a density of dequantized data (uniform noise of one grey level added): the width of
        a level in the unit of the density, 1/16 if levels 0 .. 16 were divided by 16. 1 for
        probabilities of discrete data.

    Raises
    ------
    ValueError
        If there are fewer than two rows, a value is NaN, or a number is not positive.

    Source
    ------
    Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models.

    Examples
    --------
    >>> bits_per_dimension(torch.full((10,), -8.0), dimensions=4)
    Bits(value=2.88539..., error=0.0, bound=False)
    """
    rows = _column(log_prob, "log_prob")
    for name, value in (("dimensions", dimensions), ("bin_width", bin_width)):
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value}")
    nats = mean_and_error(-rows)
    unit = dimensions * math.log(2)
    is_bound = _is_bound(_noise(log_prob_error, len(rows), "log_prob_error"), bound)
    return Bits(nats.value / unit - math.log2(bin_width), nats.error / unit, is_bound)


def _column(values: Any, name: str) -> Tensor:
    column = torch.as_tensor(values).detach().cpu().double()
    if column.ndim != 1 or len(column) < 2 or column.isnan().any():
        raise ValueError(f"{name}: expected (rows,), at least 2, without NaN, got {tuple(column.shape)}")
    return column


def _noise(error: Any, rows: int, name: str) -> Tensor:
    noise = torch.as_tensor(0.0 if error is None else error).detach().cpu().double()
    if noise.ndim > 1 or (noise.ndim == 1 and len(noise) != rows) or not (noise >= 0).all():
        raise ValueError(f"{name}: expected a number or ({rows},) of them, none negative or NaN")
    return noise


def _is_bound(noise: Tensor, bound: bool | None) -> bool:
    return bool((noise > 0).any()) if bound is None else bound
