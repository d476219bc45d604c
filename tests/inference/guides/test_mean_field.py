"""The mean-field guide reaches the best factorized Gaussian, which is known in closed form."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit

Y = torch.tensor([1.0, 3.0], dtype=torch.float64)


def line(noise):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 2, dim=-1):
        pyro.sample("y", dist.Normal(a + b, noise))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_its_stddevs_are_the_conditional_ones_and_its_elbo_falls_short_by_the_known_nats(seed):
    noise = 0.5
    precision = torch.eye(2, dtype=torch.float64) + len(Y) / noise**2
    posterior = fit(line, {"y": Y}, (noise,), guide="mean_field", restarts=1, draws=100, seed=seed)
    torch.testing.assert_close(posterior.guide.family.scale, precision.diagonal().rsqrt(), rtol=1e-3, atol=0)
    covariance = noise**2 * torch.eye(2, dtype=torch.float64) + 2.0
    law = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)
    rho = -float(precision[0, 1] / precision[0, 0])
    gap = float(law.log_prob(Y)) - posterior.certificate.elbo
    assert gap == pytest.approx(-math.log(1 - rho**2) / 2, abs=1e-3)
