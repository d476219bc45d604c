"""Bars and stripes: images whose columns are all of one colour, or whose rows are; equally probable.

On 4 x 4 pixels there are 16 + 16 - 2 = 30 of them (all black and all white are both), so the entropy
is log 30 = 3.4012 nats, 0.3067 bits per pixel.

Source: MacKay (2003), Information theory, inference, and learning algorithms, section 43.1.
"""

from __future__ import annotations

import math

import torch

from experiments.truth.images.binary_images import BinaryImages, images

SIDE = 4


def law(side: int = SIDE) -> BinaryImages:
    """Return the uniform law over all bars and stripes of ``side`` x ``side`` pixels, rows first.

    Raises
    ------
    ValueError
        If ``side`` is not between 1 and 4: every image of side^2 pixels is counted.

    Examples
    --------
    >>> round(law().entropy().item(), 4)
    3.4012
    """
    square = images(side * side).reshape(-1, side, side)
    bars = (square == square[:, :1]).flatten(1).all(1)
    stripes = (square == square[:, :, :1]).flatten(1).all(1)
    weights = torch.full((len(square),), -math.inf, dtype=torch.float64)
    return BinaryImages(weights.masked_fill(bars | stripes, 0.0))
