"""Gaussian mixture: a mean with a flat prior, seen once through a wide or a narrow noise.

Story
    A point is drawn in a square. It is seen once, with a noise that is wide or narrow, nobody says which.

Joint
    p(theta) sum_k p(k) p(x | theta, k), with

    - theta_j ~ Uniform(-10, 10)
    - k ~ Categorical(1/2, 1/2)
    - x_j ~ Normal(theta_j, 1) where k = 0, Normal(theta_j, .1^2) where k = 1

Shapes
    theta (2,), x (2,).

Priors
    As in the benchmark; 1 and .1 are standard deviations.

Answers
    p(theta | x): learn, k summed out; up to the square's edge the same mixture around x
    p(k | x): invert

Source
    Lueckmann et al. (2021), T.7, after Sisson, Fan and Tanaka (2007), and sbibm's ``gaussian_mixture``.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.benchmark_task import BenchmarkTask, accepted

BOUND = 10.0
STDDEVS = (1.0, 0.1)


def story() -> Tensor:
    """Tell the story; returns x."""
    theta = pyro.sample("theta", dist.Uniform(-BOUND, BOUND).expand([2]).to_event(1))
    k = pyro.sample("k", dist.Categorical(torch.ones(2) / 2))
    stddev = torch.tensor(STDDEVS, dtype=theta.dtype)[k].unsqueeze(-1)
    return pyro.sample("x", dist.Normal(theta, stddev.expand(*stddev.shape[:-1], 2)).to_event(1))


def _noise(rows: int, generator: torch.Generator) -> Tensor:
    k = torch.randint(2, (rows, 1), generator=generator)
    stddev = torch.tensor(STDDEVS, dtype=torch.float64)[k]
    return stddev * torch.randn(rows, 2, generator=generator, dtype=torch.float64)


def task(seed: int) -> BenchmarkTask:
    """Pose the observation of a seed."""
    generator = torch.Generator().manual_seed(seed)
    theta = BOUND * (2 * torch.rand(2, generator=generator, dtype=torch.float64) - 1)
    x = theta + _noise(1, generator)[0]

    def reference(number: int, seed: int) -> Tensor:
        draws = torch.Generator().manual_seed(seed)

        def propose(rows: int) -> tuple[Tensor, Tensor]:
            theta = x + _noise(rows, draws)
            return theta, (theta.abs() < BOUND).all(-1)

        return accepted(propose, number)

    return BenchmarkTask(
        story, (), {"x": x}, reference, "closed form, by rejection at the edge", {"SNPE or NPE": 0.533}
    )
