"""Two moons: two thin crescents, because the story takes an absolute value.

Story
    A point on half a thin circle is drawn, with its radius; then it is shifted by theta, turned by 45
    degrees, and the first of the two shifts loses its sign.

Joint
    p(theta) p(x | theta), with theta_j ~ Uniform(-1, 1) and

    - x = (r cos a + 1/4, r sin a) + (-|theta_1 + theta_2|, theta_2 - theta_1) / sqrt 2
    - a ~ Uniform(-pi/2, pi/2), r ~ Normal(.1, .01^2)

    so that with (u, v) = x less the shift and 1/4, p(x | theta) = Normal(r; .1, .01^2) / (pi r) at
    r = sqrt(u^2 + v^2), u > 0.

Shapes
    theta (2,), x (2,).

Priors
    As in the benchmark. Its code has a ``_likelihood`` too, which leaves out 1 / (pi r) and so is not quite
    the density of its simulator. Its reference draws are made from the simulator.

Answers
    p(theta | x): learn; in closed form by drawing a and r

Source
    Lueckmann et al. (2021), T.8, after Greenberg, Nonnenmacher and Macke (2019), and sbibm's ``two_moons``.
"""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.types import _size

from experiments.truth.benchmark_task import BenchmarkTask, accepted

BOUND = 1.0
OFFSET, RADIUS, STDDEV = 0.25, 0.1, 0.01
OUT, SLOPE = 1_000.0, 10_000.0  # nats, and nats a unit


class Crescent(TorchDistribution):
    """Law of a point on the right half of a thin ring around ``centre`` (..., 2)."""

    arg_constraints = {"centre": constraints.real_vector}
    support = constraints.real_vector

    def __init__(self, centre: Tensor, validate_args: bool | None = None) -> None:
        self.centre = centre
        super().__init__(centre.shape[:-1], centre.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: object = None) -> Crescent:
        """Return the same law in another batch."""
        return Crescent(self.centre.expand(*batch_shape, 2), validate_args=False)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw points."""
        shape = self._extended_shape(sample_shape)[:-1]
        angle = math.pi * (torch.rand(shape, dtype=self.centre.dtype) - 0.5)
        radius = RADIUS + STDDEV * torch.randn(shape, dtype=self.centre.dtype)
        return self.centre + torch.stack([radius * angle.cos(), radius * angle.sin()], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Of points (..., 2), in nats."""
        across, up = (value - self.centre).unbind(-1)
        radius = (across.square() + up.square()).sqrt()
        ring = -0.5 * ((radius - RADIUS) / STDDEV).square() - math.log(STDDEV * math.sqrt(2 * math.pi))
        # Behind the crescent the density is 0: e^-OUT here, nobody can tell, so that gradients lead back.
        behind = torch.where(across > 0, 0.0, SLOPE * across - OUT)
        return ring - radius.log() - math.log(math.pi) + behind


def centre(theta: Tensor) -> Tensor:
    """Of the ring, from theta (..., 2)."""
    first, second = theta.unbind(-1)
    return torch.stack([OFFSET - (first + second).abs() / 2**0.5, (second - first) / 2**0.5], -1)


def story() -> Tensor:
    """Tell the story; returns x."""
    theta = pyro.sample("theta", dist.Uniform(-BOUND, BOUND).expand([2]).to_event(1))
    return pyro.sample("x", Crescent(centre(theta)))


def task(seed: int) -> BenchmarkTask:
    """Pose the observation of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        theta = BOUND * (2 * torch.rand(2, dtype=torch.float64) - 1)
        x = Crescent(centre(theta)).sample()

    def propose(rows: int) -> tuple[Tensor, Tensor]:
        """Solve x = p + shift for the shift, with p drawn as the simulator does."""
        p = Crescent(torch.tensor([OFFSET, 0.0], dtype=torch.float64).expand(rows, 2)).sample()
        size, difference = p[:, 0] - x[0], x[1] - p[:, 1]
        total = size * (2 * torch.randint(2, (rows,)) - 1)
        theta = torch.stack([total - difference, total + difference], -1) / 2**0.5
        return theta, (size >= 0) & (theta.abs() < BOUND).all(-1)

    def reference(number: int, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return accepted(propose, number)

    return BenchmarkTask(story, (), {"x": x}, reference, "closed form", {"SNPE": 0.530, "NPE": 0.542})
