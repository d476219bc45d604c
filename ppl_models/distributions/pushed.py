"""The law of g(z) when z is standard normal and g can be inverted."""

from __future__ import annotations

import math
from typing import Any, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints


class Invertible(Protocol):
    """What maps both ways between data and noise, given a context."""

    def to_noise(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """From x (..., features) to z and log |dz/dx| (...,)."""
        ...

    def to_data(self, z: Tensor, context: Tensor | None) -> Tensor:
        """From z (..., features) back to x."""
        ...


class Pushed(dist.TorchDistribution):
    """The law of x = g(z), z ~ Normal(0, I), by the change of variables; one event of ``features``.

    log p(x) = log Normal(z; 0, I) + log |det dz/dx| with z = g^-1(x). Unlike a
    ``TransformedDistribution`` it passes once through the networks for both terms.

    Args:
        map: the invertible map g.
        features: length of x.
        context: (*batch_shape, width) what the map is conditional on, or None.
        like: a tensor whose dtype and device the noise has.

    Source: Papamakarios et al. (2021), Normalizing flows for probabilistic modeling and inference, section 2.

    Example:
        >>> class Twice:
        ...     def to_noise(self, x, context):
        ...         return x / 2, torch.full(x.shape[:-1], -3 * math.log(2.0))
        ...     def to_data(self, z, context):
        ...         return 2 * z
        >>> law = Pushed(Twice(), 3, None, torch.zeros(()))
        >>> expected = dist.Normal(0.0, 2.0).expand([3]).to_event(1).log_prob(torch.ones(3))
        >>> bool(torch.isclose(law.log_prob(torch.ones(3)), expected))
        True
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, map: Invertible, features: int, context: Tensor | None, like: Tensor, validate_args: Any = None
    ) -> None:
        self.map, self.context, self.like = map, context, like
        batch = torch.Size() if context is None else context.shape[:-1]
        super().__init__(batch, torch.Size([features]), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Pushed:
        """The same law for a larger batch."""
        batch = torch.Size(batch_shape)
        context = None if self.context is None else self.context.expand(*batch, -1)
        wide = Pushed(self.map, self.event_shape[0], context, self.like, validate_args=False)
        wide._batch_shape, wide._validate_args = batch, self._validate_args
        return wide

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw (*sample_shape, *batch_shape, features)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.map.to_data(
            torch.randn(shape, dtype=self.like.dtype, device=self.like.device), self.context
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, the batch shapes of ``x`` and of the law broadcast."""
        if self._validate_args:
            self._validate_sample(x)
        z, log_det = self.map.to_noise(x.to(self.like.dtype), self.context)
        size = self.event_shape[0]
        log_prob = log_det - 0.5 * (z.square().sum(-1) + size * math.log(2 * math.pi))
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))
