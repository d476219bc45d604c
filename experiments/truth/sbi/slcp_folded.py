"""SLCP, folded: the same law, told without the two signs that no data can tell.

Story
    As :mod:`experiments.truth.sbi.slcp`; but the two spreads are drawn without sign. Draws get their signs by
    the toss of a coin afterwards, which is exact, for prior and likelihood are even in both.

Joint
    p(mean) p(spread) p(slant) prod_i p(x_i | mean, spread, slant), with

    - mean_j ~ Uniform(-3, 3), spread_j ~ Uniform(0, 3), slant ~ Uniform(-3, 3)
    - x_i as there; theta = (mean, +-spread, slant)

Shapes
    mean (2,), spread (2,), slant (), x (4, 2).

Priors
    As in the benchmark.

Answers
    p(theta | x): learn

Source
    Lueckmann et al. (2021), T.3; folding is ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.benchmark_task import BenchmarkTask
from experiments.truth.sbi import slcp


def story() -> Tensor:
    """Tell the story; returns x."""
    mean = pyro.sample("mean", dist.Uniform(-slcp.BOUND, slcp.BOUND).expand([2]).to_event(1))
    spread = pyro.sample("spread", dist.Uniform(0.0, slcp.BOUND).expand([2]).to_event(1))
    slant = pyro.sample("slant", dist.Uniform(-slcp.BOUND, slcp.BOUND))
    with pyro.plate("row", slcp.ROWS, dim=-1):
        return pyro.sample("x", dist.MultivariateNormal(mean, slcp.covariance(spread, slant)))


def unfolded(draws: Mapping[str, Tensor]) -> Tensor:
    """Theta (draws, 5), with signs drawn evenly from a fixed seed."""
    flat = {name: value.flatten(0, 1) for name, value in draws.items()}
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(2, flat["spread"].shape, generator=generator) - 1
    return torch.cat([flat["mean"], signs * flat["spread"], flat["slant"][:, None]], -1)


def task(seed: int) -> BenchmarkTask:
    """Pose the observation of a seed: the same as without folding."""
    posed = slcp.task(seed)
    return BenchmarkTask(story, (), posed.data, posed.reference, posed.how, posed.published, unfolded)
