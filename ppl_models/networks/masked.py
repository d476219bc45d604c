"""A network whose output for a feature looks only at the features before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_models.networks.mlp import beside


class MaskedLinear(nn.Linear):
    """A linear layer some of whose connections are cut; ``mask`` (outputs, inputs) is 0 where they are."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return functional.linear(x, self.weight * self.mask, self.bias)


class MaskedNetwork(nn.Module):
    """From x (..., features) to (..., features, outputs); row d depends on x[..., :d] and the context.

    Every hidden unit has a degree, the number of leading features that it may see; connections go
    only where degrees do not fall, and to a feature only from units of degree below its place.

    Args:
        features: length of x.
        context: width of what every unit may see beside x, 0 for nothing.
        outputs: numbers per feature.
        hidden, layers: width and number of the hidden layers, whose degrees go round in turn.

    Source: Germain, Gregor, Murray and Larochelle (2015), MADE: masked autoencoder for distribution
    estimation; the order of the features is the given one.

    Example:
        >>> with torch.random.fork_rng():
        ...     network = MaskedNetwork(3, 0, outputs=2, hidden=8, layers=2)
        >>> network(torch.zeros(5, 3), None).shape
        torch.Size([5, 3, 2])
    """

    def __init__(self, features: int, context: int, outputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        # Degree 0 sees the context alone; without one such units would be constants.
        lowest = 0 if context or features == 1 else 1
        inner = lowest + torch.arange(hidden) % (features - lowest)
        degrees = torch.cat([torch.arange(1, features + 1), torch.zeros(context, dtype=torch.long)])
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [MaskedLinear(inner[:, None] >= degrees), nn.SiLU()]
            degrees = inner
        place = torch.arange(1, features + 1).repeat_interleave(outputs)
        self.inner, self.last = nn.Sequential(*parts), MaskedLinear(place[:, None] > degrees)
        self.features = features

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the outputs of every feature, batches of ``x`` and ``context`` broadcast."""
        return self.last(self.inner(beside(x, context))).unflatten(-1, (self.features, -1))
