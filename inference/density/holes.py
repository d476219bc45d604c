"""Where a density was asked and gave no number: a flaw of the density, which is not the same as no mass.

Minus infinity says that a point is impossible. NaN says nothing: the mass there is not known. Fits go round
such points as if they were impossible, so that a story whose formula breaks down (a rate that overflows, 0/0)
would lose part of its posterior in silence. What was met on the way is therefore kept, to be looked into.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from inference.compiler.batched_function import undefined

_KEPT = 64  # points that are remembered, those met last; early ones are far from the posterior
_AT_ONCE = 8  # of one call


class Holes:
    """The points without a density, or without its gradient, that were met.

    Attributes:
        asked: points at which the density was asked for; counted by who asks.
        found: those of them that are holes.
        points: some of these, (size,) each.

    Example:
        >>> import torch
        >>> holes = Holes()
        >>> z = torch.tensor([[1.0], [2.0], [3.0]])
        >>> holes.look(z, torch.tensor([-1.0, torch.nan, -torch.inf]))
        >>> holes.found, holes.points[0]
        (1, tensor([2.]))
    """

    def __init__(self) -> None:
        self.asked, self.found = 0, 0
        self.points: deque[Tensor] = deque(maxlen=_KEPT)

    def look(self, z: Tensor, value: Tensor, grad: Tensor | None = None) -> None:
        """Remember the holes among points.

        Args:
            z: (draws, size).
            value: (draws,) log densities.
            grad: (draws, size), where they were asked for.
        """
        lost = z[undefined(value, grad) & z.isfinite().all(-1)]
        if len(lost):
            self.found += len(lost)
            some = torch.linspace(0, len(lost) - 1, min(_AT_ONCE, len(lost))).long()
            self.points.extend(lost[some].clone())
