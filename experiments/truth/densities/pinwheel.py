"""A pinwheel: five long Gaussians around the origin, twisted into arms. Each arm is a class.

w = rotation(2 pi y / 5) (radius + along e1, across e2) with Gaussian e1 and e2 is turned by an angle
that depends on its distance from the origin, x = rotation(twist(|w|)) w. Such a twist keeps distances
from the origin and areas, so p(x | y) is the Gaussian density of w, with no Jacobian to add:

    p(x | y) = Normal(rotation(-2 pi y / 5 - twist(|x|)) x; (radius, 0), (along^2, across^2))

Source: Johnson et al. (2016), Composing graphical models with neural networks, whose angle depends on
the first coordinate of an arm before rotation instead, a map that does not keep areas. The numbers
are those of Grathwohl et al. (2019), FFJORD, twice as large as Johnson's.
"""

import math

import torch
from torch import Tensor

from experiments.truth.law import Law

ARMS = 5
RADIUS = 2.0
ALONG = 0.6  # standard deviation along an arm
ACROSS = 0.2  # standard deviation across it
RATE = 0.25  # the angle is RATE exp(distance / RADIUS), in radians


class Pinwheel(Law):
    """Gaussian arms, twisted by an angle that grows with the distance from the origin."""

    def __init__(self) -> None:
        self.arm_mean = torch.tensor([RADIUS, 0.0], dtype=torch.float64)
        self.arm_stddevs = torch.tensor([ALONG, ACROSS], dtype=torch.float64)
        super().__init__(torch.full((ARMS,), 1 / ARMS, dtype=torch.float64), bounds=(-5.5, 5.5))

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | y): (..., 2) -> (..., arms)."""
        angle = self._angle(x.norm(dim=-1, keepdim=True), torch.arange(ARMS))
        w = _rotated(x.unsqueeze(-2), -angle)
        log_prob = torch.distributions.Normal(self.arm_mean, self.arm_stddevs).log_prob(w)
        return log_prob.sum(-1)

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every label: (rows,) -> (rows, 2)."""
        w = self.arm_mean + self.arm_stddevs * torch.randn(*y.shape, 2, dtype=torch.float64)
        return _rotated(w, self._angle(w.norm(dim=-1), y))

    def _angle(self, distance: Tensor, arm: Tensor) -> Tensor:
        return 2 * math.pi * arm / ARMS + RATE * (distance / RADIUS).exp()


def _rotated(x: Tensor, angle: Tensor) -> Tensor:
    """Turn points (..., 2) counterclockwise by angles (...)."""
    a, b = x.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * a - sin * b, sin * a + cos * b], -1)


def density() -> Pinwheel:
    """Return the pinwheel: arms y = 0 .. 4 counterclockwise."""
    return Pinwheel()
