"""Closed forms of naive Bayes on grey levels: against brute force and against draws."""

import math

import pytest
import torch
from torch.distributions import Beta, Binomial, Dirichlet

from experiments.truth.images.binomial_pixels import (
    log_joint,
    predictive_log_joint,
    predictive_sample,
)

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
INK = torch.tensor([[0.2, 0.6, 0.9], [0.5, 0.1, 0.8]], dtype=torch.float64)
X = torch.tensor([[3.0, 10.0, 16.0], [8.0, 0.0, 12.0]])
POSTERIOR = {
    "weights": Dirichlet(torch.tensor([3.0, 5.0], dtype=torch.float64)),
    "ink": Beta(
        torch.tensor([[20.0, 90.0, 60.0], [40.0, 5.0, 50.0]], dtype=torch.float64),
        torch.tensor([[70.0, 50.0, 20.0], [60.0, 30.0, 7.0]], dtype=torch.float64),
    ),
}


def every_pixel_value(pixel):
    x = X[:1].repeat(17, 1)
    x[:, pixel] = torch.arange(17.0)
    return x


def test_log_joint_by_hand():
    expected = Binomial(16, INK).log_prob(X[:, None]).sum(-1) + WEIGHTS.log()
    torch.testing.assert_close(log_joint(X, WEIGHTS, INK), expected.double())


def test_log_joint_of_a_batch_of_draws():
    draws = POSTERIOR["weights"].sample((4, 5)), POSTERIOR["ink"].sample((4, 5))
    batch = log_joint(X, *draws)
    assert batch.shape == (4, 5, 2, 2)
    torch.testing.assert_close(batch[2, 3], log_joint(X, draws[0][2, 3], draws[1][2, 3]))


@pytest.mark.parametrize("log_density", ["point", "predictive"])
def test_an_unseen_pixel_is_summed_out(log_density):
    def density(x, seen=None):
        if log_density == "point":
            return log_joint(x, WEIGHTS, INK, seen)
        return predictive_log_joint(x, POSTERIOR, seen)

    summed = density(every_pixel_value(1)).logsumexp(0)
    seen = torch.tensor([True, False, True])
    torch.testing.assert_close(density(X[:1], seen)[0], summed)
    row_by_row = torch.stack([seen, torch.ones(3, dtype=torch.bool)])
    torch.testing.assert_close(density(X, row_by_row)[0], summed)
    torch.testing.assert_close(density(X, row_by_row)[1], density(X)[1])


def test_ink_of_zero_and_one_is_finite():
    ink = torch.tensor([[0.0, 1.0, 0.5], [0.5, 0.5, 0.5]], dtype=torch.float64)
    value = log_joint(torch.tensor([[0.0, 16.0, 8.0]]), WEIGHTS, ink)
    assert value[0, 0].item() == pytest.approx(math.log(0.3 * math.comb(16, 8) / 2**16))


def test_predictive_is_the_mean_over_the_posterior():
    draws = 40_000
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sites = {name: law.sample((draws,)) for name, law in POSTERIOR.items()}
    batch = log_joint(X, sites["weights"], sites["ink"])
    error = batch.exp().std(0) / math.sqrt(draws)
    difference = batch.exp().mean(0) - predictive_log_joint(X, POSTERIOR).exp()
    assert (difference.abs() < 4 * error).all()


def test_predictive_sample_has_the_predictive_law():
    rows = 20_000
    images = predictive_sample(POSTERIOR, rows, seed=1)
    for y in (0, 1):
        share = (images.y == y).double().mean().item()
        assert abs(share - POSTERIOR["weights"].mean[y].item()) < 4 / math.sqrt(4 * rows)
        for level in (0.0, 5.0, 16.0):
            law = predictive_log_joint(every_pixel_value(2), POSTERIOR, torch.arange(3) == 2)
            expected = law[int(level), y].exp().item()
            hit = ((images.y == y) & (images.x[:, 2] == level)).double().mean().item()
            assert abs(hit - expected) < 4 * math.sqrt(expected / rows) + 1e-12
    state = torch.get_rng_state()
    assert torch.equal(predictive_sample(POSTERIOR, rows, seed=1).x, images.x)
    assert torch.equal(state, torch.get_rng_state())
