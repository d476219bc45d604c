"""Two Gaussian classes: Bayes' rule, error and Efron's efficiency against closed forms."""

import math

import pytest
import torch
from torch.distributions import Normal

from experiments.truth.two_gaussians import bayes_error, efficiency, law

ROWS = 50_000
# Efron (1975), table 1, to three digits.
EFFICIENCY = {1.0: 0.995, 1.5: 0.968, 2.0: 0.899, 2.5: 0.786, 3.0: 0.641, 3.5: 0.486, 4.0: 0.343}


def test_posterior_is_logistic():
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    rows = torch.stack([x, torch.cos(x), x * x], -1)
    torch.testing.assert_close(law(1.7, 3).probabilities(rows)[:, 1], torch.sigmoid(1.7 * x))


def test_log_prob_by_hand():
    x = torch.tensor([[0.3], [-2.0]]).double()
    by_hand = (Normal(-1.0, 1.0).log_prob(x).exp() + Normal(1.0, 1.0).log_prob(x).exp()) / 2
    torch.testing.assert_close(law(2.0).log_prob(x), by_hand[:, 0].log())


@pytest.mark.parametrize("distance", [1.0, 2.0, 3.0])
def test_error_of_the_best_classifier(distance):
    truth = law(distance, 5)
    x, y = truth.sample_labelled(ROWS, seed=0)
    wrong = (truth.probabilities(x).argmax(-1) != y).double().mean().item()
    known = bayes_error(distance)
    assert known == pytest.approx(Normal(0.0, 1.0).cdf(torch.tensor(-distance / 2)).item(), abs=1e-6)
    assert abs(wrong - known) < 4 * math.sqrt(known * (1 - known) / ROWS)


@pytest.mark.parametrize("distance", EFFICIENCY)
def test_efficiency_is_efrons(distance):
    assert efficiency(distance) == pytest.approx(EFFICIENCY[distance], abs=5e-4)


def test_no_distance_costs_nothing_and_bad_arguments_are_named():
    assert efficiency(0.0) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="distance, dimensions: expected"):
        law(-1.0)
