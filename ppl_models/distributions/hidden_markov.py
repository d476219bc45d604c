"""A hidden Markov chain with its states summed out exactly: one sequence is one event."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from ppl_models.distributions.doubling import Steps, prefixes, total

# In place of log 0: adds up without overflow in float32, and where all ways to a state are impossible the
# gradient of logsumexp stays finite, which at -inf it does not.
_NEVER = -1e30


class HiddenMarkov(TorchDistribution):
    """Sequences of ``length`` observations whose law is chosen by an unseen chain of states.

    The first state is drawn from ``initial`` and emits at once, without a transition before it (Pyro's
    ``DiscreteHMM`` makes one). The density sums over all paths of states by multiplying transition
    matrices in pairs, in logarithms: about log2(length) batched operations.

    Args:
        initial: probabilities of the first state, (..., states).
        transition: (..., states, states), row = state before; rows sum to one.
        observation: law of one observation in each state, with batch shape (states,) or
            (..., length, states), where length may be 1. Its event shape is that of one observation; all
            states share its support.
        length: number of observations.

    Raises:
        ValueError: if the numbers of states differ, or the observation's law does not fit ``length``.

    Source: Rabiner (1989), "A tutorial on hidden Markov models", Proceedings of the IEEE 77; in pairs:
    Sarkka and Garcia-Fernandez (2021), "Temporal parallelization of Bayesian smoothers", IEEE
    Transactions on Automatic Control 66.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> stay = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
        >>> law = dist.Normal(torch.tensor([-2.0, 2.0]), 1.0)
        >>> chain = HiddenMarkov(torch.tensor([0.5, 0.5]), stay, law, length=4)
        >>> x = torch.tensor([-2.2, -1.5, 2.4, 1.9])
        >>> chain.log_prob(x).shape, chain.state_probabilities(x).argmax(-1)
        (torch.Size([]), tensor([0, 0, 1, 1]))
    """

    arg_constraints = {
        "initial": constraints.simplex,
        "transition": constraints.independent(constraints.simplex, 1),
    }
    has_rsample = False

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        observation: TorchDistribution,
        length: int,
        validate_args: bool | None = None,
    ) -> None:
        states = initial.shape[-1]
        law = observation.batch_shape
        if transition.shape[-2:] != (states, states) or law[-1:] != (states,):
            raise ValueError(
                f"transition, observation: expected ({states}, {states}) and a batch shape ending in "
                f"{states}, one entry per state of initial, got {tuple(transition.shape)} and {tuple(law)}."
            )
        if len(law) > 1 and law[-2] not in (1, length):
            raise ValueError(
                f"observation: expected batch shape (states,) or (..., {length} or 1, states), got "
                f"{tuple(law)}. Put the time axis, of length 1, before the states."
            )
        self.initial, self.transition, self.observation = initial, transition, observation
        self.length = length
        batch = torch.broadcast_shapes(initial.shape[:-1], transition.shape[:-2], law[:-2])
        super().__init__(batch, torch.Size((length, *observation.event_shape)), validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """Every observation in the support of its law."""
        return constraints.independent(self.observation.support, 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> HiddenMarkov:
        """Return the same law with a larger batch shape; parameters stay as they are and broadcast."""
        new = self._get_checked_instance(HiddenMarkov, _instance)
        new.initial, new.transition, new.observation = self.initial, self.transition, self.observation
        new.length = self.length
        super(HiddenMarkov, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of whole sequences, states summed out; (*sample_shape, *batch_shape), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        return self._forward(self.log_emission(value))

    def state_probabilities(self, value: Tensor) -> Tensor:
        """Probability of each state at each time, given the whole sequence: (..., length, states).

        The derivative of the log density by a state's log emission density is just that.
        """
        with torch.enable_grad():
            log_emission = self.log_emission(value).detach().requires_grad_()
            (probabilities,) = torch.autograd.grad(self._forward(log_emission).sum(), log_emission)
        return probabilities

    def log_joint(self, states: Tensor, value: Tensor) -> Tensor:
        """Log density of sequences together with given paths of states (..., length), in nats."""
        log_emission = self.log_emission(value)
        every = torch.arange(self.initial.shape[-1], device=states.device)
        onehot = (states.unsqueeze(-1) == every).to(log_emission.dtype)
        first = (log_or_never(self.initial) * onehot[..., 0, :]).sum(-1)
        moves = onehot[..., :-1, :] @ log_or_never(self.transition) * onehot[..., 1:, :]
        return first + moves.sum((-2, -1)) + (log_emission * onehot).sum((-2, -1))

    def log_emission(self, value: Tensor) -> Tensor:
        """Log density of every observation in every state: (..., length, states)."""
        event = len(self.observation.event_shape)
        log_emission = self.observation.log_prob(value.unsqueeze(-1 - event))
        shape = value.shape[: value.dim() - self.event_dim]
        shape = torch.broadcast_shapes(shape, self.batch_shape)
        log_emission = log_emission.expand(*shape, self.length, self.initial.shape[-1])
        return torch.where(log_emission == -torch.inf, _NEVER, log_emission)

    def steps(self, log_emission: Tensor) -> tuple[Tensor, Tensor]:
        """Log chances of starting in a state and emitting, (..., states), and of moving and emitting.

        The second is (length - 1, ..., states, states): its product sums over all paths.
        """
        first = log_or_never(self.initial) + log_emission[..., 0, :]
        later = log_or_never(self.transition).unsqueeze(-3) + log_emission[..., 1:, None, :]
        return first, later.movedim(-3, 0)

    def _forward(self, log_emission: Tensor) -> Tensor:
        # States first and time last: with axes as short as the states innermost it took twice as long.
        batch, states = log_emission.shape[:-2], log_emission.shape[-1]
        emission = log_emission.movedim(-1, 0).contiguous()
        log_p = log_or_never(self.initial).expand(*batch, states).movedim(-1, 0) + emission[..., 0]
        log_p = log_p.unsqueeze(1)
        move = log_or_never(self.transition).expand(*batch, states, states).movedim((-2, -1), (0, 1))
        steps = move.unsqueeze(-1) + emission[..., 1:]
        if self.length > 1:
            log_p = log_p + total(_multiply_outside, (steps,))[0]
        log_p = log_p.flatten(0, 1).logsumexp(0)
        return torch.where(log_p < _NEVER / 2, -torch.inf, log_p)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw whole sequences, (*sample_shape, *batch_shape, length, *observation's event shape)."""
        return self.sample_with_states(sample_shape)[1]

    @torch.no_grad()
    def sample_with_states(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Draw whole sequences together with the states that made them, (..., length) integers.

        Where the chain goes next is drawn for every state it could be in, and the maps are composed.
        """
        shape = torch.Size(sample_shape) + self.batch_shape
        states = self.initial.shape[-1]
        first = torch.distributions.Categorical(self.initial).expand(self.batch_shape).sample(sample_shape)
        leap = torch.distributions.Categorical(self.transition).expand((*self.batch_shape, states))
        steps = leap.sample((self.length - 1, *sample_shape))  # (length - 1, *shape, states)
        if self.length > 1:
            (steps,) = prefixes(compose, (steps,))
        later = steps.gather(-1, first.expand(self.length - 1, *shape).unsqueeze(-1)).squeeze(-1)
        path = torch.cat([first.unsqueeze(0), later]).movedim(0, -1)
        law = self.observation.expand((*self.batch_shape, self.length, states))
        emitted = law.sample(sample_shape)
        event = len(self.observation.event_shape)
        index = path.reshape(*path.shape, *[1] * (event + 1))
        index = index.expand(*path.shape, 1, *self.observation.event_shape)
        return path, emitted.gather(-1 - event, index).squeeze(-1 - event)


def log_or_never(probability: Tensor) -> Tensor:
    """Logarithm with a finite stand-in, and a finite gradient, at 0."""
    possible = probability > 0
    return torch.where(possible, torch.where(possible, probability, 1.0).log(), _NEVER)


def multiply(earlier: Steps, later: Steps) -> Steps:
    """Multiply matrices given by their logarithms."""
    return (torch.logsumexp(earlier[0].unsqueeze(-1) + later[0].unsqueeze(-3), -2),)


def _multiply_outside(earlier: Steps, later: Steps) -> Steps:
    """Multiply matrices given by their logarithms, whose axes stand first."""
    return (torch.logsumexp(earlier[0].unsqueeze(2) + later[0], 1),)


def compose(earlier: Steps, later: Steps) -> Steps:
    """Compose maps from states to states, each a table along the last axis."""
    return (later[0].gather(-1, earlier[0]),)
