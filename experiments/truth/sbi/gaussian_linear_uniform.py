"""Gaussian linear uniform: ten means with a flat prior, each seen once.

Story
    Ten numbers are drawn between -1 and 1, and each is seen with noise; some posteriors lean on a bound.

Joint
    prod_j p(theta_j) p(x_j | theta_j), with theta_j ~ Uniform(-1, 1) and x_j ~ Normal(theta_j, .1)

Shapes
    theta (10,), x (10,).

Priors
    As in the benchmark; .1 is the noise's variance.

Answers
    p(theta | x): learn; in closed form Normal(x, .1) cut at -1 and 1

Source
    Lueckmann et al. (2021), T.2, and sbibm's ``gaussian_linear_uniform``.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.benchmark_task import BenchmarkTask

WIDTH, BOUND, VARIANCE = 10, 1.0, 0.1


def story() -> Tensor:
    """Tell the story; returns x."""
    theta = pyro.sample("theta", dist.Uniform(-BOUND, BOUND).expand([WIDTH]).to_event(1))
    return pyro.sample("x", dist.Normal(theta, math.sqrt(VARIANCE)).to_event(1))


def task(seed: int) -> BenchmarkTask:
    """Pose the observation of a seed."""
    generator = torch.Generator().manual_seed(seed)
    theta = BOUND * (2 * torch.rand(WIDTH, generator=generator, dtype=torch.float64) - 1)
    x = theta + math.sqrt(VARIANCE) * torch.randn(WIDTH, generator=generator, dtype=torch.float64)

    def reference(number: int, seed: int) -> Tensor:
        """By the inverse of the distribution function between the bounds."""
        draws = torch.Generator().manual_seed(seed)
        unit = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
        low, high = (unit.cdf((bound - x) / math.sqrt(VARIANCE)) for bound in (-BOUND, BOUND))
        share = torch.rand(number, WIDTH, generator=draws, dtype=torch.float64)
        return x + math.sqrt(VARIANCE) * unit.icdf(low + share * (high - low))

    return BenchmarkTask(story, (), {"x": x}, reference, "closed form", {})
