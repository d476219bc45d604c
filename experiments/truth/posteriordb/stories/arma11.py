"""An autoregressive moving-average series, ARMA(1, 1).

Story
    A series returns towards a level, and remembers its last shock. Seen is the series; before it, nothing
    happened.

Joint
    p(mu) p(phi) p(theta) p(sigma) prod_t p(y_t | y_{t-1}, e_{t-1}), with

    - mu ~ Normal(0, 10), phi ~ Normal(0, 2), theta ~ Normal(0, 2), sigma ~ HalfCauchy(2.5)
    - y_t ~ Normal(mu + phi y_{t-1} + theta e_{t-1}, sigma), e_t = y_t - (mu + phi y_{t-1} + theta e_{t-1})
    - before the first value: y_0 = mu, e_0 = 0

Shapes
    mu, phi, theta, sigma (), y (length,), all but phi and theta in the units of the series.

Priors
    As in the Stan program; phi and theta are not kept within (-1, 1).

Answers
    p(mu, phi, theta, sigma | y): learn
    p(y): generate, weigh

Source
    Stan Development Team, User's Guide, "ARMA(1,1) example"; posteriordb's ``arma11``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.posteriordb.arma import Arma11

STAN = ("arma11",)


def arma11(length: int) -> Tensor:
    """Tell the story of a series of ``length`` values; returns it, shape (length,)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    phi = pyro.sample("phi", dist.Normal(0.0, 2.0))
    theta = pyro.sample("theta", dist.Normal(0.0, 2.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    return pyro.sample("y", Arma11(mu, phi, theta, sigma, length))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[int], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    return (data["T"],), {"y": torch.tensor(data["y"], dtype=torch.float64)}
