"""Eight schools, non-centred: effects that resemble each other by an unknown amount.

Story
    Coaching has an effect in each of several schools, around a common mean. Seen is one estimate per school,
    whose standard error is known.

Joint
    p(mu) p(tau) prod_j p(theta_trans_j) p(y_j | theta_j), with

    - mu ~ Normal(0, 5), tau ~ HalfCauchy(5)
    - theta_trans_j ~ Normal(0, 1), theta_j = mu + tau theta_trans_j
    - y_j ~ Normal(theta_j, stddev_j)

Shapes
    stddev and y (schools,), in points of the test; theta_trans and theta (schools,), mu and tau ().

Priors
    As in the Stan program: ``tau ~ cauchy(0, 5)`` on ``real<lower=0>``.

Answers
    p(mu, tau, theta | y): learn
    p(y): generate, weigh

Source
    Rubin (1981), "Estimation in parallel randomized experiments"; Gelman et al. (2013), Bayesian Data
    Analysis, section 5.5; priors as in posteriordb's ``eight_schools_noncentered``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

STAN = ("eight_schools_noncentered",)


def eight_schools_noncentered(stddev: Tensor) -> Tensor:
    """Tell the story of one estimate per entry of ``stddev``; returns them, shape (schools,)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(stddev), dim=-1):
        theta_trans = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * theta_trans)
        return pyro.sample("y", dist.Normal(theta, stddev))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[Tensor], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    stddev = torch.tensor(data["sigma"], dtype=torch.float64)
    return (stddev,), {"y": torch.tensor(data["y"], dtype=torch.float64)}
