"""Factor analysis and PPCA with a known loading: draws and conditionals against the joint Gaussian."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from experiments.truth.simulators.factors import factor_analysis, ppca

ROWS = 50_000
LAWS = {"ppca": ppca(), "factor_analysis": factor_analysis()}


@pytest.mark.parametrize("name", LAWS)
def test_marginal_and_posterior_factorize_the_joint(name):
    """Log p(z) + log p(x | z) = log p(x) + log p(z | x)."""
    law = LAWS[name]
    x, z = law.sample(20, seed=0)
    prior = Normal(torch.zeros(2).double(), 1.0).log_prob(z).sum(-1)
    noise = Normal(law.mean + z @ law.loading.mT, law.noise_variances.sqrt()).log_prob(x).sum(-1)
    torch.testing.assert_close(prior + noise, law.marginal().log_prob(x) + law.posterior(x).log_prob(z))


@pytest.mark.parametrize("name", LAWS)
def test_draws_have_the_marginal_law(name):
    law = LAWS[name]
    x, z = law.sample(ROWS, seed=1)
    marginal = law.marginal()
    white = torch.linalg.solve_triangular(marginal.scale_tril, (x - law.mean).mT, upper=False).mT
    assert (white.mean(0).abs() < 4 / math.sqrt(ROWS)).all()
    moments = white.mT @ white / ROWS - torch.eye(6)
    assert (moments.abs() < 4 * math.sqrt(2 / ROWS)).all()  # the variance of a square is 2, of a product 1
    log_prob = marginal.log_prob(x)
    assert abs(-log_prob.mean() - marginal.entropy()) < 4 * log_prob.std() / math.sqrt(ROWS)
    posterior = law.posterior(x)
    assert isinstance(posterior, MultivariateNormal)
    residual = z - posterior.mean
    assert (residual.mean(0).abs() < 4 * residual.std(0) / math.sqrt(ROWS)).all()
    assert (
        (residual.mT @ x / ROWS).abs() < 4 * 3 / math.sqrt(ROWS)
    ).all()  # standard deviations below 1 and 3


def test_noise_is_equal_in_ppca_only():
    assert LAWS["ppca"].noise_variances.unique().tolist() == [0.5]
    assert len(LAWS["factor_analysis"].noise_variances.unique()) == 6


def test_seeds_decide():
    law = ppca()
    state = torch.get_rng_state()
    assert torch.equal(law.sample(5, seed=2).x, law.sample(5, seed=2).x)
    assert not torch.equal(law.sample(5, seed=2).x, law.sample(5, seed=3).x)
    assert torch.equal(state, torch.get_rng_state())
