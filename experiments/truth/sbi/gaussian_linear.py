"""Gaussian linear: ten means with a normal prior, each seen once.

Story
    Ten numbers are drawn, and each is seen with noise.

Joint
    prod_j p(theta_j) p(x_j | theta_j), with theta_j ~ Normal(0, .1) and x_j ~ Normal(theta_j, .1)

Shapes
    theta (10,), x (10,).

Priors
    Variance .1. The paper and the package call .1 a scale; the code uses it as a variance, here too.

Answers
    p(theta | x): learn; in closed form Normal(x / 2, .05)

Source
    Lueckmann et al. (2021), T.1, and sbibm's ``gaussian_linear``.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.benchmark_task import BenchmarkTask

WIDTH, VARIANCE = 10, 0.1


def story() -> Tensor:
    """Tell the story; returns x."""
    theta = pyro.sample("theta", dist.Normal(0.0, math.sqrt(VARIANCE)).expand([WIDTH]).to_event(1))
    return pyro.sample("x", dist.Normal(theta, math.sqrt(VARIANCE)).to_event(1))


def task(seed: int) -> BenchmarkTask:
    """Pose the observation of a seed."""
    generator = torch.Generator().manual_seed(seed)
    theta, noise = math.sqrt(VARIANCE) * torch.randn(2, WIDTH, generator=generator, dtype=torch.float64)
    x = theta + noise

    def reference(number: int, seed: int) -> Tensor:
        draws = torch.Generator().manual_seed(seed)
        noise = torch.randn(number, WIDTH, generator=draws, dtype=torch.float64)
        return x / 2 + math.sqrt(VARIANCE / 2) * noise

    return BenchmarkTask(story, (), {"x": x}, reference, "closed form", {"SNPE or NPE": 0.506})
