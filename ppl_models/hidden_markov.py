"""A hidden Markov model: sequences whose level depends on a state that nobody sees.

Story
    A machine is in one of a few states (working, failing; calm, excited), stays there for a while and
    moves on by chance, from state to state without memory. At every step it emits a number around the
    level of its state. Only the numbers ``x`` are seen. What is unknown are the levels, the noise, the
    chances of moving, and the states themselves. The story is told with what is seen first, the states
    summed out exactly; then comes the path of states ``z``, given what was seen.

Joint
    p(initial) prod_k p(transition_k) p(mean) p(sigma) prod_i p(x_i | initial, ...) p(z_i | x_i, ...)

    which is, of x and z, prod_i p(z_i1) p(x_i1 | z_i1) prod_t p(z_it | z_i,t-1) p(x_it | z_it):

    - initial ~ Dirichlet(2, ..., 2)
    - transition_k ~ Dirichlet(2, ..., 2)
    - mean ~ order statistics of ``states`` draws of Normal(location, spread^2)
    - sigma ~ HalfNormal(noise)
    - z_i1 ~ Categorical(initial), z_it ~ Categorical(transition[z_i,t-1])
    - x_it ~ Normal(mean[z_it], sigma^2)

Shapes
    initial (states,), transition (states, states), row = state before, mean (states,) ascending, sigma ()
    in units of x, x (n, length), z (n, length) integers. A row is a whole sequence.

Priors
    All chances are worth two imagined moves to each state, which keeps them off zero where few moves were
    seen. The levels are ordered, which numbers the states: otherwise every renumbering were a mode of its
    own.

Answers
    p(x): generate, weigh
    p(initial, transition, mean, sigma | x): learn
    p(z | x): generate, whole paths; each state's probability: ``HiddenMarkov(...).state_probabilities``
    not p(x_late | x_early): one row is one joint event.

Source
    Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech recognition",
    Proceedings of the IEEE 77; Bishop (2006), Pattern Recognition and Machine Learning, section 13.2.
    The first state emits without a transition before it.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.distributions.hidden_markov import HiddenMarkov
from ppl_models.distributions.hidden_path import HiddenPath
from ppl_models.distributions.order_statistics import OrderStatistics


def hidden_markov(
    n: int, length: int, states: int = 2, location: float = 0.0, spread: float = 3.0, noise: float = 1.0
) -> Tensor:
    """Tell the story of ``n`` sequences; returns them, shape (n, length).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     hidden_markov(5, length=7).shape
        torch.Size([5, 7])
    """
    chances = dist.Dirichlet(torch.full((states,), 2.0))
    initial = pyro.sample("initial", chances)
    with pyro.plate("state", states, dim=-1):
        transition = pyro.sample("transition", chances)
    mean = pyro.sample("mean", OrderStatistics(dist.Normal(location, spread), states))
    sigma = pyro.sample("sigma", dist.HalfNormal(noise))
    chain = HiddenMarkov(initial, transition, dist.Normal(mean, sigma), length)
    with pyro.plate("row", n, dim=-1):
        x = pyro.sample("x", chain)
        pyro.sample("z", HiddenPath(chain, x))
    return x


EXAMPLE = (
    (4, 9, 2, 2.0, 6.0, 2.0),
    {
        "x": torch.tensor(
            [
                [-2.2, -1.5, -3.1, 6.4, 5.9, 7.2, 6.1, -2.4, -1.9],
                [6.6, 5.1, 7.4, 6.8, -2.7, -3.3, -1.4, -2.9, -2.1],
                [-1.7, -2.5, -2.8, -3.6, -1.2, 5.5, 7.7, 6.3, 4.9],
                [5.8, 6.9, -0.8, -2.6, -3.0, -1.6, -2.3, 6.2, 7.1],
            ],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
