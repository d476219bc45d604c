"""Bernoulli GLM: a neuron's filter from a hundred bins in which it fired or not.

Story
    White noise drives a neuron. In every bin it fires with a chance that depends on an offset and on the last
    nine values of the noise, through a smooth filter.

Joint
    p(theta) prod_t p(y_t | theta), with

    - theta_0 ~ Normal(0, 2), and (theta_1, ..., theta_9) ~ Normal(0, (F'F)^-1): F is the second difference
      plus the diagonal sqrt((j - 1) / 9)
    - y_t ~ Bernoulli(logit = theta_0 + sum_j theta_j noise_{t - j + 1})

Shapes
    theta (10,), covariates (100, 10), y (100,) of 0 and 1.

Priors
    As in the benchmark: smooth filters. The offset's precision is .5.

Answers
    p(theta | y): learn

Source
    Lueckmann et al. (2021), T.5, after Goncalves et al. (2020), and sbibm's ``bernoulli_glm``: there ten sums
    are seen, which are sufficient; here the bins are.
"""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.benchmark_task import BenchmarkTask

BINS, FILTER, STIMULUS_SEED = 100, 9, 42
CHAINS = 32


def story(covariates: Tensor, precision: Tensor) -> Tensor:
    """Tell the story; returns y."""
    middle = torch.zeros(FILTER + 1, dtype=covariates.dtype)
    theta = pyro.sample("theta", dist.MultivariateNormal(middle, precision_matrix=precision))
    with pyro.plate("bin", len(covariates), dim=-1):
        return pyro.sample("y", dist.Bernoulli(logits=covariates @ theta))


def design() -> Tensor:
    """Ones, and the noise delayed by 0 .. 8 bins: (100, 10)."""
    noise = torch.as_tensor(np.random.RandomState(STIMULUS_SEED).randn(BINS).astype(np.float32)).double()
    columns = [torch.cat([torch.zeros(delay).double(), noise[: BINS - delay]]) for delay in range(FILTER)]
    return torch.stack([torch.ones(BINS).double(), *columns], -1)


def precision() -> Tensor:
    """Of the prior, (10, 10)."""
    difference = torch.eye(FILTER).double() - torch.ones(FILTER - 1).double().diag(-1)
    f = difference @ difference + (torch.arange(FILTER).double() / FILTER).diag().sqrt()
    return torch.block_diag(torch.full((1, 1), 0.5).double(), f.T @ f)


def task(seed: int) -> BenchmarkTask:
    """Pose the observation of a seed."""
    covariates, prior = design(), precision()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        middle = torch.zeros(FILTER + 1, dtype=torch.float64)
        theta = torch.distributions.MultivariateNormal(middle, precision_matrix=prior).sample()
        y = torch.bernoulli((covariates @ theta).sigmoid())
    args, data = (covariates, prior), {"y": y}

    def reference(number: int, seed: int) -> Tensor:
        """Long chains from their own starts; refuses rather than return what has not converged."""
        from inference import reference as sampled

        chains = sampled(story, data, args, draws=-(-number // CHAINS), chains=CHAINS, seed=seed)
        if not chains.certificate.trusted:
            raise ValueError(f"number: expected enough draws to be trusted, got {chains.certificate}")
        return chains.draws["theta"].flatten(0, 1)[:number]

    return BenchmarkTask(
        story, args, data, reference, "long chains of Hamiltonian Monte Carlo", {"SNPE or NPE": 0.522}
    )
