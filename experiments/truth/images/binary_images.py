"""Laws over small black-and-white images, known exactly because every image can be counted."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

# 2^20 numbers are 8 MB; one pixel more doubles them.
MOST_PIXELS = 20


class BinaryImages(Distribution):
    """A law over x in {0, 1}^pixels, given by an unnormalized log probability of every image.

    Parameters
    ----------
    log_weights
        (2^pixels,), nats, in the order of :func:`images`; -inf for what never occurs.

    Attributes
    ----------
    log_normalizer
        Log of the sum of all weights, log Z in nats.

    Raises
    ------
    ValueError
        If the length is no power of two, or no weight is above 0.

    Examples
    --------
    >>> law = BinaryImages(torch.tensor([1.0, 0.0, 0.0, 3.0]).log())     # 00 or, thrice as often, 11
    >>> round(law.log_prob(torch.tensor([1.0, 1.0])).exp().item(), 4)
    0.75
    """

    arg_constraints = {}
    support = constraints.independent(constraints.boolean, 1)
    has_enumerate_support = True

    def __init__(self, log_weights: Tensor):
        pixels = len(log_weights).bit_length() - 1
        if log_weights.ndim != 1 or len(log_weights) != 2**pixels or pixels < 1:
            raise ValueError(f"log_weights: expected (2^pixels,) numbers, got {tuple(log_weights.shape)}")
        self.log_normalizer = log_weights.double().logsumexp(0)
        if not self.log_normalizer.isfinite():
            raise ValueError("log_weights: expected finite numbers or -inf, and not -inf everywhere")
        self.table = log_weights.double() - self.log_normalizer
        super().__init__(event_shape=Size([pixels]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of images, (..., pixels) -> (...); -inf where one never occurs.

        Raises
        ------
        ValueError
            If the images have another number of pixels or another value than 0 and 1.
        """
        if value.shape[-1:] != self.event_shape or not ((value == 0) | (value == 1)).all():
            raise ValueError(
                f"value: expected images (..., {self.event_shape[0]}) of 0 and 1, got {tuple(value.shape)}"
            )
        place = 2 ** torch.arange(self.event_shape[0] - 1, -1, -1, device=value.device)
        return self.table.to(value.device)[(value.long() * place).sum(-1)]

    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw images, (*sample_shape, pixels), float64 zeros and ones."""
        index = torch.distributions.Categorical(logits=self.table).sample(Size(sample_shape))
        return _bits(index, self.event_shape[0])

    def entropy(self) -> Tensor:
        """-E[log p(x)] in nats, by counting every image."""
        p = self.table.exp()
        return -torch.special.xlogy(p, p).sum()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All images, also those of probability 0: (2^pixels, pixels)."""
        return images(self.event_shape[0])


def images(pixels: int) -> Tensor:
    """All images of so many pixels, (2^pixels, pixels), float64: the rows are binary numbers, in order.

    Raises
    ------
    ValueError
        If ``pixels`` is not between 1 and 20.

    Examples
    --------
    >>> images(2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    if not 1 <= pixels <= MOST_PIXELS:
        raise ValueError(f"pixels: expected 1 .. {MOST_PIXELS}, or there are too many images; got {pixels}")
    return _bits(torch.arange(2**pixels), pixels)


def _bits(index: Tensor, pixels: int) -> Tensor:
    return (index.unsqueeze(-1) >> torch.arange(pixels - 1, -1, -1) & 1).double()
