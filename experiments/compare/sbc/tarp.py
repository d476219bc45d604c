"""TARP: does the whole posterior, all unknowns together, cover the truth as often as it says?

A posterior's ball around a random point of reference, just large enough to hold the truth, holds a share of
the draws. If the posteriors are right, this share is uniform, whatever the points are, as long as they do
not know the truth. Each share is a rank of the truth among the draws by distance from the reference, so it
is judged by the band that judges other ranks, or by a one-sample Kolmogorov-Smirnov test.

References that know nothing of the data, as here, are weak on bias: the ball around a far point sees a
shift in one direction only. Overconfidence of many unknowns together is what it is for.

Source: Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), Sampling-based accuracy testing of posterior
estimators for general inference, ICML.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor


class KolmogorovSmirnov(NamedTuple):
    """Largest difference of an ECDF from that of the uniform law on [0, 1], and its p-value."""

    value: float
    p_value: float


def distance_ranks(truth: Tensor, draws: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Squared distances of truths and of draws from random references.

    Parameters
    ----------
    truth
        (fits, unknowns).
    draws
        (fits, draws, unknowns).

    Returns
    -------
    tuple
        (fits,) and (fits, draws). The references are the truths of other fits; every unknown is measured in
        half the width of the central 68 % of the truths, lest one with a large unit be all.
    """
    tails = truth.quantile(torch.tensor([0.16, 0.84], dtype=truth.dtype), 0)
    width = ((tails[1] - tails[0]) / 2).where(tails[1] > tails[0], 1.0)
    order = torch.randperm(len(truth), generator=generator)
    reference = torch.empty_like(truth)
    reference[order] = truth[order.roll(1)]
    truth_distance = ((truth - reference) / width).square().sum(-1)
    return truth_distance, ((draws - reference[:, None]) / width).square().sum(-1)


def kolmogorov_smirnov(values: Tensor) -> KolmogorovSmirnov:
    """One-sample Kolmogorov-Smirnov test that values (n,) in [0, 1] are uniform.

    The p-value is Stephens' (1970) modification of the limit: from n = 20 on within .001 of the exact one
    below .1, and within .02 above (measured).

    Raises
    ------
    ValueError
        If there are fewer than 20 values, or one is outside [0, 1].

    Examples
    --------
    >>> spread = (torch.arange(100) + 0.5) / 100
    >>> kolmogorov_smirnov(spread).p_value, kolmogorov_smirnov(spread.sqrt()).p_value < 1e-4
    (1.0, True)
    """
    n = len(values)
    if values.ndim != 1 or n < 20 or not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(f"values: expected at least 20 in [0, 1], got {tuple(values.shape)}")
    ordered = values.double().sort().values
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    largest = float(torch.maximum(steps[1:] - ordered, ordered - steps[:-1]).max())
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * largest
    if scaled < 0.3:  # the series needs many terms there, and the p-value is 1 - 1e-5 or more
        return KolmogorovSmirnov(largest, 1.0)
    series = sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return KolmogorovSmirnov(largest, min(1.0, max(0.0, 2 * series)))
