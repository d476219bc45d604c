"""A bend of each coordinate by itself: the flow's layer for skewness and heavy tails.

It stands next to the base, so that the conditional laws which the other layers move and stretch are skewed
and heavy-tailed ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inference.guides.flow_layers import Weights

TAIL, SKEW = 1.2, 2.0  # soft clips of log t and of k: tails between |x|^.3 and |x|^3.3


class Bent(NamedTuple):
    """What a pass of :class:`Warp` leaves for the products."""

    x: Tensor
    y: Tensor
    slope: Tensor  # dy / dx
    bend: Tensor  # of log slope
    by_tail: Tensor  # dy / d tail
    by_skew: Tensor  # dy / d skew


@dataclass(frozen=True)
class Warp:
    """y_i = (sinh(t asinh(x_i) + k) - sinh k) / (t cosh k): skew k, and tails that grow like |x|^t.

    Jones and Pewsey 2009, "Sinh-arcsinh distributions", with value 0 and slope 1 at 0, so that skew and tails
    do not move the place and the scale. A normal's tails become exponential at t = 2: those of the logarithm
    of a scale, which hierarchical stories have.

    Attributes:
        size: number of unknowns.
    """

    size: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters, by name: the logarithm of t, and k, before they are clipped softly."""
        return {"tail": (self.size, 1), "skew": (self.size, 1)}

    @property
    def masks(self) -> dict[str, Tensor]:
        """All may differ from zero."""
        return {name: torch.ones(shape, dtype=torch.bool) for name, shape in self.shapes.items()}

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights of the identity."""
        return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in self.shapes.items()}

    def forward(self, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor, Bent]:
        """Map x to y; returns y, the log determinant (problems, draws), and what the products need."""
        (power, by_tail), (skew, by_skew) = _clipped(weights["tail"], TAIL), _clipped(weights["skew"], SKEW)
        power = power.exp()
        tilt, bottom = skew.tanh(), skew.cosh()
        flat = torch.asinh(x)
        angle = torch.addcmul(skew, flat, power)
        shrink = (x.square() + 1).rsqrt()
        rise = angle.cosh() / bottom
        y = (angle.sinh() / bottom - tilt) / power
        slope = rise * shrink
        bend = angle.tanh() * power * shrink - x * shrink.square()
        seen = Bent(x, y, slope, bend, (rise * flat - y) * by_tail, ((rise - 1) / power - y * tilt) * by_skew)
        return y, slope.log().sum(1), seen

    def pull(
        self, seen: Bent, cotangent: Tensor, determinant: float = 0.0, *, inside: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Bring a cotangent of y back to x and to the parameters; as of an autoregressive layer."""
        back = torch.addcmul(determinant * seen.bend, cotangent, seen.slope)
        if not inside:
            return back, {}
        tail, skew = cotangent * seen.by_tail, cotangent * seen.by_skew
        return back, {"tail": tail.sum(-1, keepdim=True), "skew": skew.sum(-1, keepdim=True)}

    def push(self, seen: Bent, score: Tensor) -> Tensor:
        """Bring the gradient of a log density at x forward to y."""
        return (score - seen.bend) / seen.slope

    def inverse(self, weights: Weights, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map y to x; returns x and the log determinant of the map *forward*."""
        power, skew = _clipped(weights["tail"], TAIL)[0].exp(), _clipped(weights["skew"], SKEW)[0]
        angle = torch.asinh(y * power * skew.cosh() + skew.sinh())
        x = ((angle - skew) / power).sinh()
        log_slope = (angle.cosh() / skew.cosh()).log() - 0.5 * (x.square() + 1).log()
        return x, log_slope.sum(1)


def _clipped(raw: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """A soft clip to (-most, most), and its derivative."""
    value = (raw / most).tanh()
    return most * value, 1 - value.square()
