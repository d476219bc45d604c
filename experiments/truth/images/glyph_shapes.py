"""How the ten glyphs are written: the strokes of a pen through a few control points, in two ways each.

A shape is a list of points (x, y), x to the right and y upwards, the body of the glyph between y = -1 and
y = 1, and a list of strokes: the indices of the points that each runs through, smoothly. Two strokes that
share a point meet there in a corner, wherever a hand moves it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Straight pieces between two control points. A piece is at most 2 pixels long and a bend's radius 4 or so,
# so that 3 pieces leave the curve by at most 2^2 / (8 * 4) = 0.1 pixels.
PIECES = 3
# A hand moves near points together, so that curves stay round: correlation of two moves at a distance, times
# SMOOTH, and the rest is each point's own.
SMOOTH, CORRELATION_LENGTH = 0.93, 0.6


class Shape(NamedTuple):
    """Control points and the strokes through them."""

    points: tuple[tuple[float, float], ...]
    strokes: tuple[tuple[int, ...], ...]


SHAPES = (
    (  # 0: an oval; a narrow one that is not quite closed
        Shape(
            ((0.05, 0.95), (-0.45, 0.6), (-0.62, 0.0), (-0.42, -0.68), (0.05, -0.95), (0.48, -0.62),
             (0.62, 0.05), (0.42, 0.68)),
            ((0, 1, 2, 3, 4, 5, 6, 7, 0, 1),),
        ),
        Shape(
            ((0.3, 0.85), (-0.1, 0.95), (-0.45, 0.5), (-0.5, -0.2), (-0.25, -0.85), (0.15, -0.9),
             (0.46, -0.35), (0.42, 0.4), (0.1, 0.9)),
            ((0, 1, 2, 3, 4, 5, 6, 7, 8),),
        ),
    ),
    (  # 1: a bar; a bar with an upstroke
        Shape(((0.05, 1.0), (0.02, 0.35), (-0.02, -0.35), (-0.05, -1.0)), ((0, 1, 2, 3),)),
        Shape(((-0.35, 0.5), (0.08, 0.98), (0.05, 0.0), (0.0, -0.98)), ((0, 1), (1, 2, 3))),
    ),
    (  # 2: with a sharp foot; with a loop
        Shape(
            ((-0.5, 0.5), (-0.25, 0.9), (0.2, 0.92), (0.46, 0.5), (0.2, -0.05), (-0.2, -0.5), (-0.58, -0.9),
             (0.0, -0.88), (0.6, -0.85)),
            ((0, 1, 2, 3, 4, 5, 6), (6, 7, 8)),
        ),
        Shape(
            ((-0.48, 0.6), (-0.1, 0.97), (0.4, 0.8), (0.42, 0.25), (0.05, -0.4), (-0.35, -0.85),
             (-0.55, -0.65), (-0.25, -0.5), (0.1, -0.85), (0.6, -0.75)),
            ((0, 1, 2, 3, 4, 5, 6, 7, 8, 9),),
        ),
    ),
    (  # 3: round; with a flat top
        Shape(
            ((-0.48, 0.7), (-0.05, 0.97), (0.42, 0.65), (0.25, 0.22), (-0.12, 0.05), (0.35, -0.12),
             (0.52, -0.52), (0.1, -0.95), (-0.52, -0.7)),
            ((0, 1, 2, 3, 4), (4, 5, 6, 7, 8)),
        ),
        Shape(
            ((-0.48, 0.9), (0.0, 0.92), (0.48, 0.92), (0.15, 0.5), (-0.12, 0.18), (0.32, 0.05), (0.52, -0.4),
             (0.1, -0.95), (-0.5, -0.75)),
            ((0, 1, 2), (2, 3, 4), (4, 5, 6, 7, 8)),
        ),
    ),
    (  # 4: open at the top; closed
        Shape(
            ((-0.42, 0.9), (-0.5, 0.4), (-0.52, -0.05), (0.0, -0.08), (0.58, 0.0), (0.4, 0.95), (0.32, 0.0),
             (0.25, -1.0)),
            ((0, 1, 2), (2, 3, 4), (5, 6, 7)),
        ),
        Shape(
            ((0.28, 0.98), (-0.15, 0.4), (-0.6, -0.25), (0.0, -0.25), (0.62, -0.2), (0.26, 0.0),
             (0.22, -1.0)),
            ((0, 1, 2), (2, 3, 4), (0, 5, 6)),
        ),
    ),
    (  # 5: with a corner; in one sweep
        Shape(
            ((0.55, 0.92), (0.0, 0.92), (-0.42, 0.9), (-0.46, 0.5), (-0.5, 0.12), (0.05, 0.25), (0.5, -0.2),
             (0.35, -0.78), (-0.1, -0.97), (-0.55, -0.72)),
            ((0, 1, 2), (2, 3, 4), (4, 5, 6, 7, 8, 9)),
        ),
        Shape(
            ((0.6, 0.9), (0.1, 0.95), (-0.3, 0.75), (-0.32, 0.3), (0.1, 0.1), (0.42, -0.25), (0.25, -0.8),
             (-0.2, -0.95), (-0.58, -0.75)),
            ((0, 1, 2, 3, 4, 5, 6, 7, 8),),
        ),
    ),
    (  # 6: curved; with a straight back
        Shape(
            ((0.4, 0.92), (-0.1, 0.6), (-0.45, 0.0), (-0.42, -0.6), (0.0, -0.95), (0.42, -0.65), (0.4, -0.2),
             (0.0, -0.02), (-0.38, -0.35)),
            ((0, 1, 2, 3, 4, 5, 6, 7, 8),),
        ),
        Shape(
            ((-0.12, 1.0), (-0.35, 0.35), (-0.48, -0.35), (-0.25, -0.9), (0.25, -0.92), (0.5, -0.5),
             (0.2, -0.15), (-0.2, -0.3), (-0.4, -0.7)),
            ((0, 1, 2, 3, 4, 5, 6, 7, 8),),
        ),
    ),
    (  # 7: plain; with a bar
        Shape(
            ((-0.55, 0.85), (0.0, 0.9), (0.55, 0.92), (0.25, 0.2), (0.0, -0.4), (-0.15, -1.0)),
            ((0, 1, 2), (2, 3, 4, 5)),
        ),
        Shape(
            ((-0.55, 0.7), (-0.5, 0.9), (0.0, 0.9), (0.58, 0.88), (0.2, 0.15), (-0.1, -0.4), (-0.3, -1.0),
             (-0.25, -0.02), (0.45, 0.05)),
            ((0, 1), (1, 2, 3), (3, 4, 5, 6), (7, 8)),
        ),
    ),
    (  # 8: in one stroke that crosses; two ovals
        Shape(
            ((0.4, 0.78), (0.0, 0.97), (-0.42, 0.68), (-0.2, 0.22), (0.25, -0.12), (0.48, -0.55),
             (0.05, -0.96), (-0.45, -0.6), (-0.22, -0.12), (0.25, 0.25)),
            ((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0),),
        ),
        Shape(
            ((0.0, 0.96), (-0.4, 0.55), (0.0, 0.1), (0.4, 0.55), (0.46, -0.45), (0.0, -0.96), (-0.46, -0.45)),
            ((0, 1, 2, 3, 0, 1), (2, 4, 5, 6, 2)),
        ),
    ),
    (  # 9: with a straight leg; with a curved one
        Shape(
            ((0.42, 0.45), (0.2, 0.88), (-0.25, 0.9), (-0.48, 0.5), (-0.25, 0.1), (0.2, 0.15), (0.44, 0.75),
             (0.38, 0.0), (0.3, -1.0)),
            ((0, 1, 2, 3, 4, 5, 0), (6, 0, 7, 8)),
        ),
        Shape(
            ((0.44, 0.6), (0.05, 0.96), (-0.42, 0.7), (-0.38, 0.2), (0.05, 0.05), (0.42, 0.45), (0.42, -0.2),
             (0.15, -0.8), (-0.35, -0.92)),
            ((5, 0, 1, 2, 3, 4, 5), (0, 6, 7, 8)),
        ),
    ),
)  # fmt: skip
POINTS = max(len(shape.points) for ways in SHAPES for shape in ways)


class Strokes(NamedTuple):
    """All shapes at once, as matrices that are applied to control points moved by a hand.

    ``points`` is (10, 2, POINTS, 2); ``begin`` and ``end`` are (10, 2, pieces, POINTS) and take control
    points to the two ends of every straight piece; ``along``, (10, 2, pieces), runs from -1 where the pen
    starts to 1 where it ends. ``sway``, (10, 2, POINTS, POINTS), makes the moves of near points alike:
    it turns independent standard normals into correlated ones.
    """

    points: Tensor
    sway: Tensor
    begin: Tensor
    end: Tensor
    along: Tensor


def strokes() -> Strokes:
    """Return the shapes as matrices, float32; shapes with fewer pieces repeat their last end."""
    shapes = [shape for ways in SHAPES for shape in ways]
    pieces = [_pieces(shape) for shape in shapes]
    longest = max(len(begin) for begin, _ in pieces)
    points = [_padded(torch.tensor(shape.points), POINTS) for shape in shapes]
    begin, end, along = [], [], []
    for first, last in pieces:
        rest = last[-1:].expand(longest - len(first), POINTS)
        begin.append(torch.cat([first, rest]))
        end.append(torch.cat([last, rest]))
        along.append(torch.cat([torch.linspace(-1, 1, len(first)), torch.ones(len(rest))]))
    parts = points, [_sway(centre) for centre in points], begin, end, along
    return Strokes(*(torch.stack(part).unflatten(0, (len(SHAPES), 2)) for part in parts))


def _padded(rows: Tensor, count: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])


def _sway(points: Tensor) -> Tensor:
    """Cholesky factor of the correlation of the moves of points (POINTS, 2)."""
    near = torch.exp(-0.5 * (torch.cdist(points, points) / CORRELATION_LENGTH) ** 2)
    return torch.linalg.cholesky(SMOOTH * near + (1 - SMOOTH) * torch.eye(len(points)))


def _pieces(shape: Shape) -> tuple[Tensor, Tensor]:
    """Ends of the straight pieces of a shape, as weights of its control points: 2 x (pieces, POINTS)."""
    ends = [_curve(torch.eye(POINTS)[list(stroke)]) for stroke in shape.strokes]
    return torch.cat([end[:-1] for end in ends]), torch.cat([end[1:] for end in ends])


def _curve(knots: Tensor) -> Tensor:
    """Catmull-Rom spline through knots (knots, d), its two ends continued straight on."""
    padded = torch.cat([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    before, here, there, after = (padded[i : len(padded) - 3 + i] for i in range(4))
    t = (torch.arange(PIECES) / PIECES).reshape(-1, 1, 1)
    curve = 0.5 * (
        2 * here
        + (there - before) * t
        + (2 * before - 5 * here + 4 * there - after) * t**2
        + (3 * here - before - 3 * there + after) * t**3
    )
    return torch.cat([curve.transpose(0, 1).flatten(0, 1), knots[-1:]])
