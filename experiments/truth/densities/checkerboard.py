"""A checkerboard: even on eight squares, nothing between them. Each square is a class.

p(x | y) is 1/4 on a square of side 2 and 0 elsewhere, so the entropy is log 32 exactly, and a density
that spills over an edge pays for it, while one that leaves out a sliver has an infinite KL(true ||
estimated).

Source: Grathwohl et al. (2019), FFJORD, the toy data of their figure 2.
"""

import math

import torch
from torch import Tensor

from experiments.truth.law import Law

SIDE = 2.0
SQUARES = 4  # along each axis, every other one of which is filled


class Checkerboard(Law):
    """Even densities on the squares whose column and row add up to an even number."""

    def __init__(self, side: float, squares: int):
        column, row = torch.cartesian_prod(torch.arange(squares), torch.arange(squares)).T
        even = (column + row) % 2 == 0
        half = side * squares / 2
        self.side = side
        self.corners = side * torch.stack([column[even], row[even]], -1).double() - half
        count = len(self.corners)
        super().__init__(torch.full((count,), 1 / count, dtype=torch.float64), bounds=(-half, half))

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | y): (..., 2) -> (..., squares)."""
        within = x.unsqueeze(-2) - self.corners
        inside = ((within >= 0) & (within < self.side)).all(-1)
        nowhere = torch.full(inside.shape, -math.inf, dtype=torch.float64)
        return nowhere.masked_fill(inside, -2 * math.log(self.side))

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every label: (rows,) -> (rows, 2)."""
        corners = self.corners[y]
        return corners + self.side * torch.rand(corners.shape, dtype=torch.float64)

    def entropy(self) -> Tensor:
        """Log of the area, in nats."""
        return torch.tensor(self.classes * self.side**2, dtype=torch.float64).log()


def density() -> Checkerboard:
    """Return the board: squares y = 0 .. 7 column by column from the left, each from below."""
    return Checkerboard(SIDE, SQUARES)
