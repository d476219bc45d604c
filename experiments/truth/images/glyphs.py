"""Handwritten symbols made up on the spot: 28 x 28 grey levels with known labels and known factors.

A stand-in for MNIST where nothing can be downloaded. Each of the ten digits is written in two ways, by
strokes through control points that a hand moves a little (:mod:`experiments.truth.images.glyph_shapes`), then
sized, narrowed, slanted, turned and shifted, and drawn with a pen of some thickness: the grey level of a
pixel falls off with its distance from the strokes. All of this is recorded, so that one factor can be
changed and nothing else:

>>> glyphs = sample(5, seed=0)
>>> upright = render(glyphs.y, glyphs.factors._replace(slant=torch.zeros(5)))

Source: the idea of a made-up stand-in with known factors is that of Matthey et al. (2017), dSprites;
sizes and grey levels are near those of LeCun et al. (1998), MNIST: digits 20 pixels high in a frame of 28.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.truth.images.glyph_shapes import POINTS, strokes

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10
LEVELS = 255  # grey levels are whole numbers 0 .. 255, divided by 255
HALF_HEIGHT = 8.5  # pixels from the middle of a glyph of size 1 to its top
EDGE = 1.3  # pixels over which grey falls from full to nothing at the edge of a stroke
REACH = 2.0  # factors are normal, cut off at so many standard deviations
# Mean and standard deviation of every factor before the cut. Thickness is half the width of a stroke.
LAWS = {
    "thickness": (1.35, 0.32),  # pixels
    "pressure": (0.1, 0.12),  # by this share thicker where the pen starts, thinner where it ends
    "size": (1.0, 0.07),
    "aspect": (1.1, 0.13),  # width over the width that the shape has
    "slant": (0.15, 0.22),  # pixels to the right per pixel up
    "rotation": (0.0, 0.13),  # radians, counterclockwise
    "shift_x": (0.0, 0.9),  # pixels to the right
    "shift_y": (0.0, 0.9),  # pixels up
    "ink": (0.92, 0.04),  # darkest grey level
}
HAND_STDDEV = 0.12  # of every control point, where a glyph is 2 high
BATCH = 100  # images drawn at a time: their distances to all pieces of strokes stay in the cache


class GlyphFactors(NamedTuple):
    """Everything about a glyph but its label: (rows,) each, and ``hand`` (rows, POINTS, 2).

    ``way`` is 0 or 1, the way of writing; the others are explained at ``LAWS``.
    ``hand`` moves control points, near ones alike, in standard deviations.
    """

    way: Tensor
    thickness: Tensor
    pressure: Tensor
    size: Tensor
    aspect: Tensor
    slant: Tensor
    rotation: Tensor
    shift_x: Tensor
    shift_y: Tensor
    ink: Tensor
    hand: Tensor


class Glyphs(NamedTuple):
    """Images x, (rows, 784), float32 in [0, 1], row by row; labels y, (rows,), int64; their factors."""

    x: Tensor
    y: Tensor
    factors: GlyphFactors


def sample(rows: int, seed: int = 0) -> Glyphs:
    """Draw glyphs, all ten equally often on average; the global random state is not touched.

    Examples
    --------
    >>> x, y, factors = sample(20, seed=0)
    >>> x.shape, y.shape, factors.slant.shape
    (torch.Size([20, 784]), torch.Size([20]), torch.Size([20]))
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (rows,), generator=generator)
    factors = sample_factors(rows, generator)
    return Glyphs(render(y, factors), y, factors)


def sample_factors(rows: int, generator: torch.Generator) -> GlyphFactors:
    """Draw factors, each independent of the others and of the label."""
    way = torch.randint(2, (rows,), generator=generator)
    drawn = {name: mean + stddev * _cut_normal((rows,), generator) for name, (mean, stddev) in LAWS.items()}
    return GlyphFactors(way=way, hand=_cut_normal((rows, POINTS, 2), generator), **drawn)


def render(y: Tensor, factors: GlyphFactors) -> Tensor:
    """Draw the glyphs of given labels and factors; nothing is random here.

    Parameters
    ----------
    y
        Labels 0 .. 9, (rows,).
    factors
        As :func:`sample` returns them, for as many rows.

    Returns
    -------
    Tensor
        (rows, 784), float32: whole numbers 0 .. 255 divided by 255.

    Raises
    ------
    ValueError
        If a label is none of 0 .. 9, or a factor has another number of rows.
    """
    wrong = [name for name, factor in factors._asdict().items() if factor.shape[:1] != y.shape]
    if wrong or y.ndim != 1:
        raise ValueError(f"factors: expected {tuple(y.shape)} rows in each, as in y; not so: {wrong}")
    if len(y) and not (y.min() >= 0 and y.max() < CLASSES):
        raise ValueError(f"y: expected labels 0 .. {CLASSES - 1}, got {y.min()} .. {y.max()}")
    begin, end, width = _written(y, factors)
    grey = torch.cat(
        [_inked(*part) for part in zip(begin.split(BATCH), end.split(BATCH), width.split(BATCH), strict=True)]
    )
    return (grey * factors.ink[:, None] * LEVELS).round() / LEVELS


def _cut_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normals between -REACH and REACH, by inverting their distribution function."""
    inside = math.erf(REACH / math.sqrt(2))
    u = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    return (math.sqrt(2) * torch.erfinv(inside * u)).float()


def _written(y: Tensor, factors: GlyphFactors) -> tuple[Tensor, Tensor, Tensor]:
    """Straight pieces of strokes in pixels from the middle: their two ends and half their widths."""
    shapes = strokes()
    which = (y, factors.way)
    points = shapes.points[which] + HAND_STDDEV * (shapes.sway[which] @ factors.hand)
    points = _placed(points, factors)
    width = factors.thickness[:, None] * (1 - factors.pressure[:, None] * shapes.along[which])
    return shapes.begin[which] @ points, shapes.end[which] @ points, width


def _placed(points: Tensor, factors: GlyphFactors) -> Tensor:
    """Size, narrow, slant, turn and shift points (rows, POINTS, 2), in this order: pixels."""
    x, y = (HALF_HEIGHT * factors.size[:, None] * part for part in points.unbind(-1))
    x = factors.aspect[:, None] * x + factors.slant[:, None] * y
    cos, sin = factors.rotation.cos()[:, None], factors.rotation.sin()[:, None]
    x, y = cos * x - sin * y, sin * x + cos * y
    return torch.stack([x + factors.shift_x[:, None], y + factors.shift_y[:, None]], -1)


def _inked(begin: Tensor, end: Tensor, width: Tensor) -> Tensor:
    """Grey levels of the pixels, (rows, 784), by their distance from the nearest piece of a stroke.

    For a pixel p and a piece from a to a + u, both |p - a|^2 and u (p - a) are linear in
    (|p|^2, p, 1), so that two matrix products give them for all pixels and pieces.
    """
    pixel = _pixels()
    u = end - begin
    squared = (u * u).sum(-1).clamp_min(1e-6)
    from_begin = torch.cat([torch.ones_like(u[..., :1]), -2 * begin, (begin * begin).sum(-1, True)], -1)
    along = torch.cat([torch.zeros_like(u[..., :1]), u, -(begin * u).sum(-1, True)], -1)
    distance, projection = pixel @ from_begin.mT, pixel @ along.mT
    t = (projection / squared[:, None]).clamp_(0, 1)
    distance -= t * (projection.mul_(2) - t * squared[:, None])
    beyond = distance.clamp_min_(0).sqrt_().sub_(width[:, None]).amin(-1)
    return (0.5 - beyond / EDGE).clamp_(0, 1)


def _pixels() -> Tensor:
    """(|p|^2, x, y, 1) of every pixel, (784, 4), from the middle of the image."""
    middle = (SIDE - 1) / 2
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    x, y = (column - middle).flatten(), (middle - row).flatten()
    return torch.stack([x * x + y * y, x, y, torch.ones_like(x)], -1)
