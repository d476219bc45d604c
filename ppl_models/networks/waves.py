"""Sines and cosines of a row beside the row itself, so that a network can tell fine detail."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FREQUENCY = 3.0  # radians per unit, standard deviation over the waves


class Waves(nn.Module):
    """Map u (..., features), of order 1, to (..., features + 2 waves): itself and fixed random waves of it.

    A small network of smooth units learns slow functions first and fast ones hardly ever: on eight
    Gaussians around a circle an energy without waves rests at a ring for thousands of steps.

    Args:
        features: length of u.
        waves: number of frequencies, drawn once from a normal distribution, the same in every instance.

    Source: Tancik et al. (2020), Fourier features let networks learn high frequency functions in low
    dimensional domains.

    Example:
        >>> Waves(2, 8)(torch.zeros(5, 2)).shape
        torch.Size([5, 18])
    """

    frequencies: Tensor

    def __init__(self, features: int, waves: int) -> None:
        super().__init__()
        self.width = features + 2 * waves
        generator = torch.Generator().manual_seed(0)
        frequencies = _FREQUENCY * torch.randn(features, waves, generator=generator)
        self.register_buffer("frequencies", frequencies)

    def forward(self, u: Tensor) -> Tensor:
        """Return u and its waves."""
        phase = u @ self.frequencies
        return torch.cat([u, phase.sin(), phase.cos()], -1)
