"""Two Gaussian classes: Bayes' rule, error and Efron's efficiency against closed forms."""

import math

import pytest
import torch
from torch.distributions import Normal

from experiments.truth.simulators.two_gaussians import bayes_error, efficiency, law, rule_error, story_excess

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
    with pytest.raises(ValueError, match="share: expected"):
        law(2.0, share=1.0)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_error_of_any_linear_rule_against_draws(share):
    intercept, slope = torch.tensor(0.4).double(), torch.tensor([1.5, -0.8]).double()
    x, y = law(2.0, 2, share).sample_labelled(ROWS, seed=1)
    wrong = ((intercept + x @ slope > 0).long() != y).double().mean().item()
    known = rule_error(intercept, slope, 2.0, share).item()
    assert abs(wrong - known) < 4 * math.sqrt(known * (1 - known) / ROWS)
    assert known > bayes_error(2.0, share)


def test_best_error_with_unequal_shares_is_that_of_bayes_rule():
    x = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    joint = law(2.0, share=0.2)
    smaller = joint.probabilities(x[:, None]).min(-1).values * joint.log_prob(x[:, None]).exp()
    # A trapezoid rule across the kink at the boundary errs by at most the step squared, 1e-6.
    assert bayes_error(2.0, 0.2) == pytest.approx(torch.trapezoid(smaller, x).item(), abs=1e-6)
    assert bayes_error(0.0, 0.2) == 0.2


def test_excess_of_small_errors_is_the_second_derivative_of_the_error():
    # Offset and angle off by 1e-3: the excess per squared error, times the variances in the docstring.
    step, distance, dimensions = 1e-3, 2.0, 3
    slope = torch.tensor([1.0, 0.0]).double()
    offset = rule_error(torch.tensor(step).double(), slope, distance).item() - bayes_error(distance)
    turned = torch.tensor([1.0, step]).double()
    angle = rule_error(torch.tensor(0.0).double(), turned, distance).item() - bayes_error(distance)
    variance = (4 + distance**2) / distance**2
    excess = (offset + (dimensions - 1) * angle) / step**2 * variance
    assert story_excess(distance, dimensions) == pytest.approx(excess, rel=1e-5)
