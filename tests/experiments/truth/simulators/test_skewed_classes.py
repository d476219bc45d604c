"""Skewed classes: Bayes' rule, total probability and moments of draws."""

import math

import torch

from experiments.truth.simulators.skewed_classes import SkewedClasses

X = torch.linspace(0.005, 60.0, 12_000, dtype=torch.float64)


def test_log_odds_are_linear_and_bayes_rule_agrees():
    truth = SkewedClasses()
    torch.testing.assert_close(truth.probabilities(X[:, None])[:, 1], torch.sigmoid(truth.log_odds(X)))
    torch.testing.assert_close(truth.log_odds(X), math.log(1 / 4) + X)


def test_density_integrates_to_one_and_has_the_normals_moments():
    """A midpoint rule; the tail beyond 60 is below e^-58."""
    truth = SkewedClasses()
    each, step = truth.log_prob_by_class(X[:, None]).exp(), (X[1] - X[0])
    mean = (each * X[:, None]).sum(0) * step
    variance = (each * (X[:, None] - mean) ** 2).sum(0) * step
    torch.testing.assert_close(each.sum(0) * step, torch.ones(2).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(truth.nearest_normals().mean, mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(truth.nearest_normals().variance, variance, rtol=0, atol=1e-3)
    assert (truth.log_prob_by_class(torch.tensor([[-1.0], [0.0]]).double()) == -torch.inf).all()


def test_draws_have_their_means():
    truth = SkewedClasses()
    x, y = truth.sample_labelled(40_000, seed=0)
    for label, mean in enumerate(truth.nearest_normals().mean):
        own = x[y == label, 0]
        assert abs(own.mean() - mean) < 4 * own.std() / math.sqrt(len(own))
