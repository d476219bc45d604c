"""What is timed: a hierarchy, a regression and a recursion in time, two of them also written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from experiments.truth import schools
from experiments.truth.simulators.volatility import Garch
from ppl_models.garch import garch
from ppl_models.hierarchical_means import hierarchical_means

ROWS, FEATURES, SPREAD, STEPS, SEED = 1_000, 5, 2.0, 200, 20_240_505


@dataclass(frozen=True)
class Case:
    """A story with data; ``by_hand`` is its log density at unconstrained (draws, size), up to a constant."""

    name: str
    story: Callable[..., Any]
    args: tuple[Any, ...]
    data: Mapping[str, Tensor]
    by_hand: Callable[[Tensor], Tensor] | None = None


def regression(covariates: Tensor) -> Tensor:
    """A logistic regression."""
    prior = dist.Normal(0.0, SPREAD).expand([covariates.shape[1]]).to_event(1)
    weights = pyro.sample("weights", prior)
    with pyro.plate("row", len(covariates), dim=-1):
        return pyro.sample("y", dist.Bernoulli(logits=covariates @ weights))


def cases() -> list[Case]:
    """Return all three."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(ROWS, FEATURES, generator=generator, dtype=torch.float64)
    y = (torch.rand(ROWS, generator=generator, dtype=torch.float64) < x[:, 0].sigmoid()).double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        series = Garch(steps=STEPS).sample((1,)).double()
    arguments = (schools.STDDEV, 0.0, schools.SPREAD, schools.BETWEEN)
    return [
        Case("eight schools", hierarchical_means, arguments, {"y": schools.Y}, schools_by_hand),
        Case("regression, 1,000 rows", regression, (x,), {"y": y}, partial(regression_by_hand, x, y)),
        Case("GARCH, 200 steps", garch, (1, STEPS, 1.0), {"x": series}),
    ]


def schools_by_hand(z: Tensor) -> Tensor:
    """mu, log tau and eta, in the story's order."""
    mu, log_tau, eta = z[:, 0], z[:, 1], z[:, 2:]
    tau = log_tau.exp()
    away = (schools.Y - mu[:, None] - tau[:, None] * eta) / schools.STDDEV
    square = (mu / schools.SPREAD) ** 2 + eta.square().sum(-1) + away.square().sum(-1)
    return -0.5 * square - (1 + (tau / schools.BETWEEN) ** 2).log() + log_tau


def regression_by_hand(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Weights; log p(y) as y logit + log sigmoid(-logit), the first summed beforehand."""
    logits = z @ x.T
    return z @ (y @ x) + logsigmoid(-logits).sum(-1) - 0.5 * (z / SPREAD).square().sum(-1)
