"""A hidden Markov chain of two states with normal emissions of known noise.

Story
    A hidden chain moves between a low and a high state; seen is its level, with noise 1.

Joint
    p(theta1) p(theta2) p(mu) sum_z prod_t p(z_t | z_{t-1}) p(y_t | mu_{z_t}), with

    - theta_j ~ Dirichlet(1, 1): chances of the next state after state j
    - mu_1 ~ Normal(3, 1), mu_2 ~ Normal(10, 1), restricted to 0 < mu_1 < mu_2
    - y_t ~ Normal(mu_{z_t}, 1)

Shapes
    theta1, theta2, mu (states,), y (length,).

Priors
    As in the Stan program, simplexes flat. It starts in every state with weight 1, without a transition
    before the first observation, which is up to a constant an even start.

Answers
    p(theta1, theta2, mu | y): learn, paths of states summed out
    not p(mu) alone: its restriction is a factor beside a flat law, which has no draws

Source
    Stan Development Team, User's Guide, "Hidden Markov models"; Damiano, Peterson and Weylandt (2018), A
    Tutorial on Hidden Markov Models using Stan; posteriordb's ``hmm_example``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ppl_models.distributions.hidden_markov import HiddenMarkov

STAN = ("hmm_example",)


def hmm_example(length: int) -> Tensor:
    """Tell the story of one sequence of ``length`` observations; returns it, shape (length,)."""
    theta1 = pyro.sample("theta1", dist.Dirichlet(torch.ones(2)))
    theta2 = pyro.sample("theta2", dist.Dirichlet(torch.ones(2)))
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.positive_ordered_vector, (), (2,)))
    pyro.factor("levels", dist.Normal(torch.tensor([3.0, 10.0]), 1.0).log_prob(mu).sum())
    start = torch.full((2,), 0.5)
    return pyro.sample("y", HiddenMarkov(start, torch.stack([theta1, theta2]), dist.Normal(mu, 1.0), length))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[int], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    return (data["N"],), {"y": torch.tensor(data["y"], dtype=torch.float64)}
