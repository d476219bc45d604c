"""The path of a hidden Markov chain's states, given the sequence that it emitted."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Categorical, constraints

from ppl_models.distributions.doubling import prefixes
from ppl_models.distributions.hidden_markov import HiddenMarkov, compose, log_or_never, multiply


class HiddenPath(TorchDistribution):
    """Paths of states (length,) of ``chain``, given that it emitted ``value``.

    Drawn backwards: the last state from its filtered probabilities, then each state given the one after
    it, all for every state that could come after, and composed by pairwise doubling.

    Args:
        chain: the law of the sequences.
        value: what was emitted, (*batch_shape, length, ...).

    Source: Fruhwirth-Schnatter (2006), Finite Mixture and Markov Switching Models, section 11.5 (forward
    filtering, backward sampling).

    Example:
        >>> import torch, pyro.distributions as dist
        >>> stay = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
        >>> chain = HiddenMarkov(torch.ones(2) / 2, stay, dist.Normal(torch.tensor([-9.0, 9.0]), 1.0), 3)
        >>> HiddenPath(chain, torch.tensor([-9.2, 8.5, 9.4])).sample()
        tensor([0, 1, 1])
    """

    arg_constraints: dict[str, Any] = {}
    has_rsample = False

    def __init__(self, chain: HiddenMarkov, value: Tensor, validate_args: bool | None = None) -> None:
        self.chain, self.value = chain, value
        batch = torch.broadcast_shapes(chain.batch_shape, value.shape[: value.dim() - chain.event_dim])
        super().__init__(batch, torch.Size((chain.length,)), validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """Numbers of states."""
        states = self.chain.initial.shape[-1]
        return constraints.independent(constraints.integer_interval(0, states - 1), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> HiddenPath:
        """Return the same law with a larger batch shape."""
        new = self._get_checked_instance(HiddenPath, _instance)
        new.chain, new.value = self.chain, self.value
        super(HiddenPath, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of whole paths, (*sample_shape, *batch_shape), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        log_p = self.chain.log_joint(value, self.value) - self.chain.log_prob(self.value)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw whole paths, (*sample_shape, *batch_shape, length) integers."""
        shape = torch.Size(sample_shape) + self.batch_shape
        first, steps = self.chain.steps(self.chain.log_emission(self.value))
        filtered = first.unsqueeze(0)
        if self.chain.length > 1:
            (sums,) = prefixes(multiply, (steps,))
            filtered = torch.cat([filtered, (first.unsqueeze(-1) + sums).logsumexp(-2)])
        states = first.shape[-1]
        last = Categorical(logits=filtered[-1]).expand(self.batch_shape).sample(sample_shape)
        if self.chain.length == 1:
            return last.unsqueeze(-1)
        before = filtered[:-1].unsqueeze(-2) + log_or_never(self.chain.transition).mT
        law = Categorical(logits=before).expand((self.chain.length - 1, *self.batch_shape, states))
        maps = law.sample(sample_shape).movedim(len(shape) - len(self.batch_shape), 0)
        (maps,) = prefixes(compose, (maps.flip(0),))
        earlier = maps.gather(-1, last.expand(self.chain.length - 1, *shape).unsqueeze(-1)).squeeze(-1)
        return torch.cat([earlier.flip(0), last.unsqueeze(0)]).movedim(0, -1)
