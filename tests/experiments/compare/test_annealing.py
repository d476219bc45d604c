"""The sandwich around log p(x), on a linear Gaussian story whose log p(x) is a closed form."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from experiments.compare.annealing import Annealing, importance_bound, tuned

ROWS, NOISE, ERRORS = 40, 0.3, 4
LOADING = torch.tensor([[1.5, -0.4], [0.3, 0.8], [-0.7, 1.1]], dtype=torch.float64)


@pytest.fixture(scope="module")
def known():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(ROWS, 2, generator=generator, dtype=torch.float64)
    x = z @ LOADING.T + NOISE * torch.randn(ROWS, 3, generator=generator, dtype=torch.float64)
    covariance = LOADING @ LOADING.T + NOISE**2 * torch.eye(3, dtype=torch.float64)
    truth = MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance).log_prob(x)

    def log_likelihood(at):
        return Normal(at @ LOADING.T, NOISE).log_prob(x).sum(-1)

    return x, z, truth, log_likelihood


def mean_and_error(values):
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("steps, within", [(5, None), (200, 0.02)])
def test_bounds_enclose_and_meet(known, steps, within):
    _, z, truth, log_likelihood = known
    path = tuned(log_likelihood, ROWS, 2, steps)
    lower, error = mean_and_error(path.forward(20) - truth)
    assert lower <= ERRORS * error
    upper, error_above = mean_and_error(path.backward(z, 20) - truth)
    assert upper >= -ERRORS * error_above
    if within is None:
        assert upper - lower > 0.05, "a short path is loose, or the bounds bound nothing"
    else:
        assert lower > -within - ERRORS * error and upper < within + ERRORS * error_above


def test_weights_are_unbiased(known):
    """The mean weight itself is p(x), however short the path: a wrong acceptance breaks this."""
    x, _, truth, _ = known
    copies = 4000

    def log_likelihood(at):
        return Normal(at @ LOADING.T, NOISE).log_prob(x[0]).sum(-1)

    short = tuned(log_likelihood, 1, 2, 20)
    path = Annealing(log_likelihood, 2, short.powers, short.leap.expand(-1, copies))
    value, error = mean_and_error((path.forward(1) - truth[0]).exp())
    assert error < 0.1 and abs(value - 1) < ERRORS * error


def test_a_walk_that_moves_by_a_wrong_law_is_caught(known):
    _, _, truth, log_likelihood = known
    path = tuned(log_likelihood, ROWS, 2, 50)
    wrong = Annealing(lambda z: log_likelihood(z) + 0.5, 2, path.powers, path.leap)
    excess, error = mean_and_error(wrong.forward(20) - truth)
    assert abs(excess) > ERRORS * error


def test_importance_bound_rises_to_the_truth(known):
    x, _, truth, log_likelihood = known
    precision = torch.eye(2, dtype=torch.float64) + LOADING.T @ LOADING / NOISE**2
    mean = (x @ LOADING / NOISE**2) @ torch.linalg.inv(precision)
    wide = MultivariateNormal(mean, 2 * torch.linalg.inv(precision))  # the exact posterior, too wide
    torch.manual_seed(0)
    z = wide.sample((1024,))
    prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    weights = prior + log_likelihood(z) - wide.log_prob(z)
    means = [mean_and_error(importance_bound(weights, k) - truth)[0] for k in (1, 8, 1024)]
    # KL of N(m, 2 S) from N(m, S) in two dimensions: 1 - log 2.
    assert abs(means[0] + 1 - math.log(2)) < 0.02
    assert means[0] < means[1] < means[2] < 0.01 and means[2] > -0.01


def test_errors_name_the_argument(known):
    *_, log_likelihood = known
    with pytest.raises(ValueError, match="steps: expected at least 1"):
        tuned(log_likelihood, ROWS, 2, 0)
    with pytest.raises(ValueError, match="draws: expected 1 .. 3"):
        importance_bound(torch.zeros(3, 2), 4)
