"""A point at which a matrix cannot be factorized is impossible, and ends no fit."""

import math

import pyro
import pyro.distributions as dist
import torch

from inference.density.log_density import LogDensity
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import as_observations


def ill_conditioned(n):
    """At large negative sizes the covariance is all ones in float64, which has no Cholesky factor."""
    log_size = pyro.sample("log_size", dist.Normal(0.0, 10.0))
    covariance = torch.ones(2, 2) + torch.exp(log_size) * torch.eye(2)
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), covariance))


def test_only_the_points_that_fail_are_impossible():
    x = torch.tensor([[0.3, -0.2], [1.1, 0.4], [0.5, 0.9]])
    structure, observations = inspect_story(Call.bind(ill_conditioned, (3,)), as_observations({"x": x}))
    density = LogDensity(structure, observations)
    assert density.traced
    z = torch.tensor([[0.4], [-60.0], [-1.2], [0.1], [-50.0]], dtype=torch.float64)
    value, gradient = density.value_and_grad(z)
    good = torch.tensor([True, False, True, True, False])
    assert torch.isfinite(value[good]).all() and torch.isfinite(gradient[good]).all()
    assert (value[~good] == -math.inf).all()
    alone, _ = density.value_and_grad(z[good])
    torch.testing.assert_close(value[good], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(density.log_prob(z), value, rtol=0, atol=1e-12)
