"""A row drawn feature by feature, each from a mixture that depends on the features before it."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn import functional

_NARROWEST = 1e-3  # a component's width, in units of the data's: no density grows beyond all bounds


class CausalMixture(dist.TorchDistribution):
    """p(x) = prod_d p(x_d | x_1..x_{d-1}), every factor a mixture that a causal network spells out.

    Real features have mixtures of normal distributions; features with ``levels`` 0..levels-1 have
    mixtures of logistic distributions whose mass is collected in unit bins, the outer bins taking the
    tails, so that probabilities sum to one. All terms are exact: ``log_prob`` takes one pass through the
    network, ``sample`` one pass per feature.

    Args:
        network: a module (x, context) -> (..., features, 3 components), row d blind to x[..., d:].
        features: length of x.
        levels: number of grey levels, None for real features.
        context: (*batch_shape, width) what the network is conditional on, or None.
        location, spread: the network sees (x - location) / spread, and speaks in that unit; with levels
            (levels - 1) / 2 does as both. Tensors that broadcast with x; their dtype and device are used.

    Source: Germain et al. (2015), MADE; the discretized logistic mixture is Salimans et al. (2017),
    PixelCNN++, section 2.1.

    Example:
        >>> flat = lambda x, context: torch.zeros(*x.shape, 6)
        >>> half = torch.tensor(0.5)
        >>> law = CausalMixture(flat, 4, 2, None, half, half)
        >>> law.log_prob(torch.tensor([0.0, 1.0, 1.0, 0.0])).exp().item()     # sixteen equal images
        0.0625
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(
        self, network: nn.Module, features: int, levels: int | None, context: Tensor | None,
        location: Tensor, spread: Tensor, validate_args: Any = None,
    ) -> None:  # fmt: skip
        self.network, self.levels, self.context = network, levels, context
        self.location, self.spread = location, spread
        batch = torch.Size() if context is None else context.shape[:-1]
        super().__init__(batch, torch.Size([features]), validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Real vectors, or vectors of levels."""
        if self.levels is None:
            return constraints.real_vector
        return constraints.independent(constraints.integer_interval(0, self.levels - 1), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> CausalMixture:
        """The same law for a larger batch."""
        batch = torch.Size(batch_shape)
        context = None if self.context is None else self.context.expand(*batch, -1)
        wide = CausalMixture(
            self.network, self.event_shape[0], self.levels, context, self.location, self.spread, False
        )
        wide._batch_shape, wide._validate_args = batch, self._validate_args
        return wide

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (or log probability, with levels) in nats."""
        if self._validate_args:
            self._validate_sample(x)
        u = (x.to(self.location.dtype) - self.location) / self.spread
        weights, middle, width = self._mixtures(u)
        log_mass = self._normal(u, middle, width) if self.levels is None else self._binned(u, middle, width)
        log_prob = (weights + log_mass).logsumexp(-1).sum(-1)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw (*sample_shape, *batch_shape, features), feature after feature."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            u = torch.zeros(shape, dtype=self.location.dtype, device=self.location.device)
            for d in range(shape[-1]):
                weights, middle, width = (part[..., d, :] for part in self._mixtures(u))
                chosen = torch.distributions.Categorical(logits=weights).sample()[..., None]
                middle, width = middle.gather(-1, chosen)[..., 0], width.gather(-1, chosen)[..., 0]
                u[..., d] = self._draw(middle, width)
            x = u * self.spread + self.location
            return x if self.levels is None else x.round()

    def _mixtures(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, middle, width = self.network(u, self.context).chunk(3, -1)
        return weights.log_softmax(-1), middle, _NARROWEST + width.exp()

    def _normal(self, u: Tensor, middle: Tensor, width: Tensor) -> Tensor:
        scaled = (u[..., None] - middle) / width
        unit = self.spread.log()[..., None]  # back to the unit of the data
        return -0.5 * scaled.square() - width.log() - 0.5 * math.log(2 * math.pi) - unit

    def _binned(self, u: Tensor, middle: Tensor, width: Tensor) -> Tensor:
        """Log mass of the bins [a, b], of the first from -infinity on, of the last to infinity.

        sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), without cancellation.
        """
        half = 1 / (self._levels - 1)
        first, last = (u < half - 1)[..., None], (u > 1 - half)[..., None]
        a, b = (u[..., None] - half - middle) / width, (u[..., None] + half - middle) / width
        between = (-torch.expm1(-2 * half / width)).log()
        return (
            functional.logsigmoid(b).masked_fill(last, 0.0)
            + functional.logsigmoid(-a).masked_fill(first, 0.0)
            + between.masked_fill(first | last, 0.0)
        )

    def _draw(self, middle: Tensor, width: Tensor) -> Tensor:
        if self.levels is None:
            return middle + width * torch.randn_like(middle)
        bins = self._levels - 1
        tiny = torch.finfo(middle.dtype).eps
        noise = torch.rand_like(middle).clamp(tiny, 1 - tiny).logit()
        level = ((middle + width * noise + 1) * bins / 2).round().clamp(0, bins)
        return 2 * level / bins - 1

    @property
    def _levels(self) -> int:
        return self.levels or 0
