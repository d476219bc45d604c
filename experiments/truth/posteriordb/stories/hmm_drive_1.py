"""Is a basketball player driving to the hoop? A hidden Markov chain with two emissions.

Story
    At every moment a player is driving or not. Seen are the inverse of his speed and his distance from the
    hoop, both transformed, with known noise; what the next moment brings depends on this one.

Joint
    p(theta1) p(theta2) p(phi) p(lambda) sum_z prod_t p(z_t | z_{t-1}) p(u_t | z_t) p(v_t | z_t), with

    - theta_j ~ Dirichlet(chances_j): chances of the next state after state j
    - phi_1, lambda_1 ~ Normal(0, 1), phi_2, lambda_2 ~ Normal(3, 1), restricted to ascending vectors
    - u_t ~ Normal(phi_{z_t}, noise_1), v_t ~ Normal(lambda_{z_t}, noise_2)

Shapes
    chances (states, states), noise (2,), theta1, theta2, phi, lambda (states,), uv (length, 2).

Priors
    As in the Stan program. It starts in every state with weight 1, without a transition before the first
    observation, which is up to a constant an even start.

Answers
    p(theta1, theta2, phi, lambda | uv): learn, paths of states summed out
    not p(phi) alone: its restriction is a factor beside a flat law, which has no draws

Source
    Imad Ali (2019), "Tagging basketball events with HMM in Stan", Stan case studies; posteriordb's
    ``hmm_drive_1``.
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

STAN = ("hmm_drive_1",)


def hmm_drive_1(length: int, chances: Tensor, noise: Tensor) -> Tensor:
    """Tell the story of ``length`` moments; returns inverse speeds and distances, shape (length, 2)."""
    theta1 = pyro.sample("theta1", dist.Dirichlet(chances[0]))
    theta2 = pyro.sample("theta2", dist.Dirichlet(chances[1]))
    phi = pyro.sample("phi", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    lambda_ = pyro.sample("lambda", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    levels = torch.stack([phi, lambda_], -1)  # (states, 2)
    pyro.factor("levels", dist.Normal(torch.tensor([[0.0], [3.0]]), 1.0).log_prob(levels).sum())
    seen = dist.Normal(levels, noise).to_event(1)
    start = torch.full((2,), 0.5)
    return pyro.sample("uv", HiddenMarkov(start, torch.stack([theta1, theta2]), seen, length))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[int, Tensor, Tensor], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it."""
    chances = torch.tensor(data["alpha"], dtype=torch.float64)
    noise = torch.tensor([data["tau"], data["rho"]], dtype=torch.float64)
    uv = torch.tensor([data["u"], data["v"]], dtype=torch.float64).T
    return (data["N"], chances, noise), {"uv": uv}
