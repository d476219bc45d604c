"""Three rings around the origin, each a class: a circle, evenly covered, plus Gaussian noise.

For one ring, with r = |x|, the angle integrates out exactly (Rice's law, in the plane):

    p(x | y) = exp(-(r^2 + radius^2) / (2 stddev^2)) I0(r radius / stddev^2) / (2 pi stddev^2)

Source: Rice (1945), Mathematical analysis of random noise, section 3.10; rings as toy data as in
Grathwohl et al. (2019), FFJORD.
"""

import math

import torch
from torch import Tensor

from experiments.truth.law import Law

RADII = (1.0, 2.0, 3.0)
STDDEV = 0.15


class Rings(Law):
    """Circles of known radii with Gaussian noise of known standard deviation."""

    def __init__(self, radii: Tensor, stddev: float):
        self.radii, self.noise_stddev = radii.double(), stddev
        super().__init__(torch.full((len(radii),), 1 / len(radii), dtype=torch.float64))

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | y): (..., 2) -> (..., rings)."""
        r, variance = x.norm(dim=-1, keepdim=True), self.noise_stddev**2
        # i0e is I0 exp(-z): so no exponential overflows.
        log_bessel = torch.special.i0e(r * self.radii / variance).log()
        return log_bessel - (r - self.radii) ** 2 / (2 * variance) - math.log(2 * math.pi * variance)

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every label: (rows,) -> (rows, 2)."""
        angle = 2 * math.pi * torch.rand(y.shape, dtype=torch.float64)
        circle = self.radii[y, None] * torch.stack([angle.cos(), angle.sin()], -1)
        return circle + self.noise_stddev * torch.randn(circle.shape, dtype=torch.float64)


def density() -> Rings:
    """Return the rings: y = 0 for the innermost."""
    return Rings(torch.tensor(RADII), STDDEV)
