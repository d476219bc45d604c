"""Lynx and hare: two populations that live on each other, seen with multiplicative noise.

Story
    Hares multiply and are eaten, lynxes multiply by eating and die. Seen are the numbers of pelts at the
    start and once a year, each off by a factor of unknown spread.

Joint
    p(theta) p(z_init) p(sigma) p(y_init | z_init, sigma) prod_t p(y_t | z_t, sigma), with

    - theta_1, theta_3 ~ Normal(1, 0.5), theta_2, theta_4 ~ Normal(0.05, 0.05), restricted to positive numbers
    - sigma_k ~ LogNormal(-1, 1), z_init_k ~ LogNormal(log 10, 1)
    - hares' = (theta_1 - theta_2 lynxes) hares, lynxes' = (theta_4 hares - theta_3) lynxes, z_0 = z_init
    - log y_tk ~ Normal(log z_tk, sigma_k)

Shapes
    theta (4,), per year, z_init, sigma (2,), hares first; y_init (2,), y (years, 2), thousands of pelts.

Priors
    As in the Stan program: of the order of one generation a year, measured to about 40 %.

Answers
    p(theta, z_init, sigma | y_init, y): learn
    not p(theta) alone: its restriction is a factor beside a flat law, which has no draws

Source
    Bob Carpenter (2018), "Predator-prey population dynamics: the Lotka-Volterra model in Stan", Stan case
    studies; posteriordb's ``lotka_volterra``. Stan solves the equations to a relative 1e-5 and an absolute
    1e-3; here the log likelihood is closer than 1e-3 nats to that of the exact solution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from experiments.truth.posteriordb.predator_prey import log_populations

STAN = ("lotka_volterra",)


def lotka_volterra(years: int) -> Tensor:
    """Tell the story of ``years`` yearly numbers of hares and lynxes; returns them, shape (years, 2)."""
    positive = constraints.independent(constraints.positive, 1)
    theta = pyro.sample("theta", dist.ImproperUniform(positive, (), (4,)))
    law = dist.Normal(torch.tensor([1.0, 0.05, 1.0, 0.05]), torch.tensor([0.5, 0.05, 0.5, 0.05]))
    pyro.factor("rates", law.log_prob(theta).sum())
    sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 1.0).expand([2]).to_event(1))
    z_init = pyro.sample("z_init", dist.LogNormal(math.log(10.0), 1.0).expand([2]).to_event(1))
    log_z = log_populations(theta, z_init, years)
    pyro.sample("y_init", dist.LogNormal(z_init.log(), sigma).to_event(1))
    with pyro.plate("year", years, dim=-1):
        return pyro.sample("y", dist.LogNormal(log_z, sigma).to_event(1))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[int], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it.

    Raises
    ------
    ValueError
        If the measurements are not one unit of time apart.
    """
    if data["ts"] != list(range(1, data["N"] + 1)):
        raise ValueError(f"ts: expected 1, 2, .., {data['N']}, got {data['ts']}")
    seen = {name: torch.tensor(data[name], dtype=torch.float64) for name in ("y_init", "y")}
    return (data["N"],), seen
