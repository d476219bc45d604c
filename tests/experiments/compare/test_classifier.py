"""Classifier tests: chance on equal inputs, the best possible accuracy, power, level, arguments."""

import math

import pytest
import torch
from scipy.stats import binom
from torch.distributions import Normal

from experiments.compare import two_sample
from experiments.compare.statistics import classifier, network


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("test", ["classifier", "network"])
def test_equal_inputs_are_told_by_chance(test):
    """Of two equal rows in the held-out half exactly one is told right."""
    x = normal(0, 60, 2)
    result = two_sample(x, x, test)
    assert result.value == result.null_mean == 0.5
    assert result.p_value > 0.5


@pytest.mark.parametrize(("test", "rows"), [("classifier", 4000), ("network", 1000)])
def test_accuracy_comes_near_the_best_possible(test, rows):
    """Normals one standard deviation apart: 1/2 + TV/2 = Phi(1/2) = .691, and never above."""
    result = two_sample(normal(0, rows, 1), 1 + normal(1, rows, 1), test)
    best = Normal(0.0, 1.0).cdf(torch.tensor(0.5)).item()
    assert best - 0.04 - 4 * result.error < result.value < best + 4 * result.error
    assert result.p_value < 1e-6


def test_shapes_that_only_a_classifier_of_shapes_sees():
    """A ring against a disc of the same mean and covariance, and another order of columns' signs."""
    angle = 2 * math.pi * torch.rand(400, generator=torch.Generator().manual_seed(0))
    ring = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], 1)
    assert two_sample(ring, normal(1, 400, 2), "classifier").p_value < 1e-6


def test_floor_and_detectable_are_those_of_the_binomial():
    result = two_sample(normal(0, 101, 1), normal(1, 180, 1), "classifier")
    trials = 2 * (101 - 50)
    most = round(result.floor * trials)
    assert binom.sf(most, trials, 0.5) <= 0.05 < binom.sf(most - 1, trials, 0.5)
    assert binom.sf(most, trials, result.detectable) == pytest.approx(0.8)
    right = result.value * trials
    assert right == pytest.approx(round(right))
    assert result.p_value == pytest.approx(binom.sf(round(right) - 1, trials, 0.5))


def test_a_constant_column_and_seeds():
    x, y = (
        torch.cat([normal(0, 40, 1), torch.ones(40, 1)], 1),
        torch.cat([normal(1, 40, 1), torch.ones(40, 1)], 1),
    )
    first, again = (two_sample(x, y, "classifier", seed=3) for _ in range(2))
    assert first == again


def test_too_few_rows_are_named():
    with pytest.raises(ValueError, match="at least 20 rows of each"):
        two_sample(normal(0, 30), normal(1, 19), "classifier")


@pytest.mark.slow
@pytest.mark.parametrize(("test", "repeats"), [("classifier", 1000), ("network", 200)])
def test_level(test, repeats, monkeypatch):
    """At most 5 % of pairs of one law are told apart: the law is discrete, and so a little below.

    Ten trees, or four units a layer: the level does not depend on how good the classifier is.
    """
    monkeypatch.setattr(classifier, "TREES", 10)
    monkeypatch.setattr(network, "MOST_UNITS", 4)
    rejected = 0
    for i in range(repeats):
        x, y = normal(2 * i, 60, 2), normal(2 * i + 1, 60, 2)
        rejected += two_sample(x, y, test, seed=i).p_value <= 0.05
    assert 0.01 < rejected / repeats < 0.05 + 4 * math.sqrt(0.05 * 0.95 / repeats)
