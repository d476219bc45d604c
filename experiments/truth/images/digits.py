"""Handwritten digits: 1,797 images of 8 x 8 grey levels 0 .. 16, and things that are no digits.

Source: Alpaydin and Kaynak (1998), Optical recognition of handwritten digits, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49; the test part of that set, as scikit-learn ships it
(``sklearn.datasets.load_digits``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PIXELS = 64
SIDE = 8
LEVELS = 16  # the highest grey level: ink in a 4 x 4 block of the original bitmap, counted


class Images(NamedTuple):
    """Grey levels x, (rows, 64), float64, whole numbers 0 .. 16; labels y, (rows,), int64."""

    x: Tensor
    y: Tensor


class Digits(NamedTuple):
    """A training split and a held-out split."""

    train: Images
    test: Images


def load(seed: int = 0, test: float = 0.2) -> Digits:
    """Split the digits at random, with the same share of every digit in both parts.

    Parameters
    ----------
    seed
        Of the split.
    test
        Share of rows held out, above 0 and below 1; .2 leaves 1,437 for training and 360 for test.

    Returns
    -------
    Digits
        ``train`` and ``test``, each with ``x`` (rows, 64) and ``y`` (rows,).

    Raises
    ------
    ValueError
        If ``test`` is not strictly between 0 and 1.

    Examples
    --------
    >>> digits = load()
    >>> digits.train.x.shape, digits.test.y.shape
    (torch.Size([1437, 64]), torch.Size([360]))
    """
    if not 0 < test < 1:
        raise ValueError(f"test: expected a share strictly between 0 and 1, got {test}")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=test, random_state=seed, stratify=y)
    train_x, test_x, train_y, test_y = (torch.as_tensor(part) for part in parts)
    return Digits(
        Images(train_x.double(), train_y.long()),
        Images(test_x.double(), test_y.long()),
    )


def few(digits: Digits, train: int, test: int) -> Digits:
    """Keep the first ``train`` and ``test`` images of every digit, sorted by digit.

    Examples
    --------
    >>> few(load(), 3, 1).train.y[:4]
    tensor([0, 0, 0, 1])
    """
    kept = []
    for (x, y), rows in zip(digits, (train, test), strict=True):
        first = torch.cat([(y == digit).nonzero()[:rows, 0] for digit in range(10)])
        kept.append(Images(x[first], y[first]))
    return Digits(*kept)


def no_digits(x: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Make images that are no digits out of digits, from hard to easy to tell apart.

    Parameters
    ----------
    x
        Digits, (rows, 64), grey levels 0 .. 16.
    seed
        Of all that is random; the global random state is not touched.

    Returns
    -------
    dict
        Name -> (rows, 64), grey levels 0 .. 16: "two halves" (the upper half of one image above the
        lower half of another: locally like a digit), "blended" (the rounded mean of two images),
        "shuffled" (the pixels of each image in an order of its own: the same grey levels),
        "inverted" (16 - x), "noise" (each level equally probable).

    Raises
    ------
    ValueError
        If ``x`` is not (rows, 64).

    Examples
    --------
    >>> sorted(no_digits(load().test.x))
    ['blended', 'inverted', 'noise', 'shuffled', 'two halves']
    """
    if x.ndim != 2 or x.shape[1] != PIXELS:
        raise ValueError(f"x: expected images (rows, {PIXELS}), got {tuple(x.shape)}")
    generator = torch.Generator().manual_seed(seed)
    partner = x[torch.randperm(len(x), generator=generator)]
    order = torch.rand(x.shape, generator=generator).argsort(-1)
    noise = torch.randint(LEVELS + 1, x.shape, generator=generator)
    lower = lower_half()
    return {
        "two halves": torch.where(lower, partner, x),
        "blended": ((x + partner) / 2).round(),
        "shuffled": x.gather(1, order),
        "inverted": LEVELS - x,
        "noise": noise.to(x),
    }


def lower_half() -> Tensor:
    """Return a mask of the lower four rows of pixels, (64,), True there."""
    return torch.arange(PIXELS) >= PIXELS // 2


def dequantized(x: Tensor, seed: int = 0) -> Tensor:
    """Spread every whole grey level evenly over the unit interval above it, for models of continuous x.

    For any density p the mean of log p(x + u) over such noise is at most log P(x) of the grey levels,
    where P(x) is p's mass on the unit cube above x (by Jensen): densities of dequantized grey levels
    can be compared with probabilities of the levels themselves, in the bits per dimension of
    :func:`experiments.compare.bits_per_dimension`.

    Parameters
    ----------
    x
        Whole numbers, (rows, pixels): 0 .. 16 here; (255 * x).round() of MNIST and the glyphs.
    seed
        Of the noise; the global random state is not touched.

    Returns
    -------
    Tensor
        x + u with u uniform on [0, 1), like ``x`` in shape and dtype; at least float32.

    Raises
    ------
    ValueError
        If ``x`` has other than whole numbers.

    Source: Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models,
    section 3.1.

    Examples
    --------
    >>> x = load().test.x
    >>> torch.equal(dequantized(x, seed=0).floor(), x)
    True
    """
    x = x if x.is_floating_point() else x.float()
    if not torch.equal(x, x.round()):
        raise ValueError("x: expected whole grey levels; for x in [0, 1] pass (255 * x).round()")
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x)
    # Rounding could carry a float32 up to the next level.
    return torch.minimum(x + u, torch.nextafter(x + 1, x))
