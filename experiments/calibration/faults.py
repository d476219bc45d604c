"""Posteriors that are wrong on purpose, for the story of two causes: what calibration must find.

Every fault is a function of the data sets and of the right draws (site -> (fits, draws)) to wrong draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from inference import fit_many
from ppl_models.two_causes import exact, two_causes

Draws = Mapping[str, Tensor]
Data = Sequence[Mapping[str, Tensor]]
Fault = Callable[[Data, Draws], Draws]

ARGS = (4, 0.6, 1.7)  # measurements, noise, spread
BIAS = 0.3  # posterior standard deviations
OTHER_SPREAD = 1.2  # of the wrong prior, in place of 1.7
SITES = ("first", "second")


def variance_halved(data: Data, draws: Draws) -> Draws:
    """Every draw moved towards its posterior's mean: half the variance, the correlation kept."""
    return {n: d.mean(1, True) + (d - d.mean(1, True)) / 2**0.5 for n, d in draws.items()}


def biased(data: Data, draws: Draws) -> Draws:
    """Every draw moved up by .3 standard deviations of its posterior."""
    return {n: d + BIAS * d.std(1, keepdim=True) for n, d in draws.items()}


def wrong_prior(data: Data, draws: Draws) -> Draws:
    """The story fitted with causes of spread 1.2 in place of 1.7."""
    n, noise, _ = ARGS
    found = fit_many(two_causes, data, (n, noise, OTHER_SPREAD), draws=_count(draws), progress=False)
    return found.draws


def mean_field(data: Data, draws: Draws) -> Draws:
    """The best guide that factorizes, in closed form: the right means, too narrow (Bishop 2006, 10.1.2)."""
    n, noise, spread = ARGS
    stddev = (spread**-2 + n / noise**2) ** -0.5
    generator = torch.Generator().manual_seed(1)
    found = {}
    for site in SITES:
        mean = torch.stack([exact(one, *ARGS)[site].mean for one in data])
        noise_free = torch.randn(*draws[site].shape, generator=generator, dtype=torch.float64)
        found[site] = mean[:, None] + stddev * noise_free
    return found


def correlation_lost(data: Data, draws: Draws) -> Draws:
    """Right draws of each cause, in an order of its own: every marginal right, the joint wrong."""
    generator = torch.Generator().manual_seed(2)
    order = torch.rand(*draws["second"].shape, generator=generator).argsort(1)
    return {"first": draws["first"], "second": draws["second"].gather(1, order)}


def data_ignored(data: Data, draws: Draws) -> Draws:
    """Draws of the prior, whatever the data say."""
    generator = torch.Generator().manual_seed(3)
    shape = (len(data), _count(draws))
    return {n: ARGS[2] * torch.randn(*shape, generator=generator, dtype=torch.float64) for n in SITES}


def _count(draws: Draws) -> int:
    return int(draws["first"].shape[1])
