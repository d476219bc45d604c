"""Gaussian classes of one shape: Bayes' rule, parts, distance and KL against closed forms and draws."""

import math

import pytest
import torch

from experiments.compare.result import mean_and_error
from experiments.truth.simulators.shared_covariance import (
    SharedCovariance,
    equicorrelated,
    joint_kl,
    of_slope,
)
from experiments.truth.simulators.two_gaussians import expected_log_loss, law

TILTED = torch.tensor([[1.0, 0.8], [0.8, 1.3]]).double()
SLOPE = torch.tensor([2.0, -0.7]).double()
X = torch.cartesian_prod(torch.linspace(-3, 3, 7), torch.linspace(-2, 4, 7)).double()


def test_round_clouds_are_the_two_gaussians():
    ours, theirs = of_slope(torch.tensor([1.7, 0.0]), torch.eye(2)), law(1.7, 2)
    torch.testing.assert_close(ours.log_prob(X), theirs.log_prob(X), rtol=0, atol=1e-12)
    assert ours.distance == pytest.approx(1.7) and ours.least_error == pytest.approx(0.19766, abs=5e-6)


@pytest.mark.parametrize("covariance", [torch.eye(2), TILTED, 0.25 * TILTED])
def test_every_shape_gives_the_same_answer(covariance):
    answer = of_slope(SLOPE, covariance).probabilities(X)[:, 1]
    torch.testing.assert_close(answer, torch.sigmoid(X @ SLOPE), rtol=0, atol=1e-12)


def test_a_part_is_the_density_with_the_rest_integrated_out():
    joint = of_slope(SLOPE, TILTED)
    grid = torch.linspace(-12, 12, 2_401).double()
    rows = torch.stack([grid, torch.full_like(grid, 0.6)], -1)
    integrated = torch.trapezoid(joint.log_prob(rows).exp(), grid)
    part = joint.part([1]).log_prob(torch.tensor([0.6], dtype=torch.float64)).exp()
    torch.testing.assert_close(part, integrated, rtol=1e-9, atol=0)


def test_without_correlations_evidence_is_counted_that_often():
    joint, x = (
        equicorrelated(2.0, 3, 0.4),
        torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).double(),
    )
    naive = SharedCovariance(joint.means, torch.eye(3))
    odds = [one.log_prob_by_class(x).diff()[:, 0] for one in (joint, naive)]
    torch.testing.assert_close(odds[1], 1.8 * odds[0])


def test_draws_have_their_law():
    """Least error and KL by 40,000 draws, within 4 Monte Carlo errors."""
    p, q = of_slope(SLOPE, TILTED), of_slope(SLOPE, torch.eye(2))
    x, y = p.sample_labelled(40_000, seed=0)
    wrong = mean_and_error((p.probabilities(x).argmax(-1) != y).double())
    assert abs(wrong.value - p.least_error) < 4 * wrong.error
    kl = mean_and_error(p.log_prob_given(x, y) - q.log_prob_given(x, y))
    assert abs(kl.value - joint_kl(p, q)) < 4 * kl.error and kl.value > 0.1
    loss = mean_and_error(-p.probabilities(x).gather(-1, y[:, None]).log()[:, 0])
    assert abs(loss.value - expected_log_loss(p.distance)) < 4 * loss.error


def test_expected_log_loss_of_no_evidence_and_of_too_much():
    assert expected_log_loss(0.0) == pytest.approx(math.log(2))
    assert expected_log_loss(2.0, 0.0) == pytest.approx(math.log(2))
    losses = [expected_log_loss(2.0, copies) for copies in (0.9, 1.0, 1.1)]
    assert min(losses) == losses[1]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="means, covariance: expected"):
        SharedCovariance(torch.zeros(2, 3), torch.eye(2))
