"""Series from a hidden Markov chain with known parameters: exact log density, exact states.

A hidden state moves by a transition matrix and emits one number a step. The first number comes from
the first state, whose law is ``initial`` (Pyro's ``DiscreteHMM`` makes a transition before it).

Source: Rabiner (1989), A tutorial on hidden Markov models, section III.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, Normal, constraints
from torch.types import _size

INITIAL = (0.6, 0.3, 0.1)
TRANSITION = ((0.9, 0.08, 0.02), (0.1, 0.8, 0.1), (0.05, 0.25, 0.7))
MEANS = (-2.0, 0.5, 3.0)
STDDEVS = (0.6, 1.2, 0.8)


class StatePaths(NamedTuple):
    """Series x, (rows, steps), and the states behind them z, (rows, steps), int64."""

    x: Tensor
    z: Tensor


class HiddenMarkov(Distribution):
    """A law over series of so many steps; the path of states is summed out exactly.

    Parameters
    ----------
    initial, transition
        (states,) and (states, states); rows sum to one.
    emission
        A torch distribution of batch shape (states,) and scalar events: Normal, Poisson, Categorical, ...
    steps
        Length of a series.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """

    arg_constraints = {}

    def __init__(self, initial: Tensor, transition: Tensor, emission: Distribution, steps: int):
        states = len(initial)
        shapes = tuple(transition.shape), tuple(emission.batch_shape), tuple(emission.event_shape)
        if shapes != ((states, states), (states,), ()) or steps < 1:
            raise ValueError(
                f"transition, emission, steps: expected ({states}, {states}), a batch of ({states},) "
                f"scalars and at least 1, got {shapes[0]}, {shapes[1]} of {shapes[2]} and {steps}"
            )
        self.initial, self.transition, self.emission = initial, transition, emission
        super().__init__(event_shape=Size([steps]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:
        """Series of what is emitted."""
        return constraints.independent(self.emission.support, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(x) in nats, (..., steps) -> (...): the forward algorithm."""
        return self._forward(value)[-1].logsumexp(-1)

    def states(self, x: Tensor) -> Tensor:
        """P(state at every step | x): (..., steps) -> (..., steps, states), forward-backward."""
        forward, emitted = self._forward(x), self._emitted(x)
        backward = [torch.zeros_like(forward[-1])]
        for step in reversed(emitted.unbind(-2)[1:]):
            later = self.transition.log() + (step + backward[-1]).unsqueeze(-2)
            backward.append(later.logsumexp(-1))
        return (torch.stack(forward, -2) + torch.stack(backward[::-1], -2)).softmax(-1)

    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw series, (*sample_shape, steps)."""
        x = self._draw(Size(sample_shape).numel()).x
        return x.reshape(*sample_shape, *self.event_shape)

    def simulate(self, rows: int, seed: int = 0) -> StatePaths:
        """Draw series with their states; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._draw(rows)

    def _draw(self, rows: int) -> StatePaths:
        path = [Categorical(self.initial).sample((rows,))]
        for _ in range(self.event_shape[0] - 1):
            path.append(Categorical(self.transition[path[-1]]).sample())
        z = torch.stack(path, -1)
        emitted = self.emission.sample(z.shape)
        return StatePaths(emitted.gather(-1, z.unsqueeze(-1)).squeeze(-1), z)

    def _emitted(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != self.event_shape:
            raise ValueError(f"x: expected (..., {self.event_shape[0]}), got {tuple(x.shape)}")
        return self.emission.log_prob(x.unsqueeze(-1))

    def _forward(self, x: Tensor) -> list[Tensor]:
        """Log p(x up to a step, state there) for every step, each (..., states)."""
        first, *others = self._emitted(x).unbind(-2)
        forward = [self.initial.log() + first]
        for step in others:
            moved = forward[-1].unsqueeze(-1) + self.transition.log()
            forward.append(moved.logsumexp(-2) + step)
        return forward


def law(steps: int = 50) -> HiddenMarkov:
    """Three states that last about ten, five and three steps, with Gaussian emissions.

    Examples
    --------
    >>> x, z = law(20).simulate(3, seed=0)
    >>> law(20).log_prob(x).shape, law(20).states(x).shape
    (torch.Size([3]), torch.Size([3, 20, 3]))
    """
    initial, transition, means, stddevs = (
        torch.tensor(values, dtype=torch.float64) for values in (INITIAL, TRANSITION, MEANS, STDDEVS)
    )
    return HiddenMarkov(initial, transition, Normal(means, stddevs), steps)
