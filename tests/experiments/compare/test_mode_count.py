"""Modes covered and precision: by hand, what the truth shows in closed form, arguments."""

import math

import pytest
import torch

from experiments.compare import modes

CENTRES = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def draws(seed, which, stddev=0.5):
    generator = torch.Generator().manual_seed(seed)
    return CENTRES[which] + stddev * torch.randn(len(which), 2, generator=generator)


def test_by_hand():
    x = torch.tensor([[0.0, 1.4], [0.0, 1.6], [10.0, 0.1], [10.0, 9.9], [9.9, 10.0], [5.0, 5.0]])
    found = modes(x, CENTRES, stddev=0.5)
    assert found.counts.tolist() == [1, 1, 0, 2]
    assert found.covered.value == 0.75
    assert found.precision.value == pytest.approx(4 / 6)
    assert modes(x, CENTRES, stddev=0.5, least=2).covered.value == 0.25


def test_what_the_truth_shows_is_the_closed_form():
    """A mode of weight w is hit by one of n rows with probability 1 - (1 - w q)^n."""
    weights = torch.tensor([0.4, 0.4, 0.15, 0.05])
    found = modes(draws(0, torch.zeros(20, dtype=torch.long)), CENTRES, stddev=0.5, weights=weights)
    q = 1 - math.exp(-9 / 2)
    truth = sum(1 - (1 - w * q) ** 20 for w in weights.tolist()) / 4
    assert abs(found.covered.null_mean - truth) < 4 * 0.13 / math.sqrt(999)  # .13: sd of the share
    assert found.precision.null_mean == pytest.approx(q)


def test_a_missing_mode_is_seen_and_all_modes_are_not():
    everywhere = modes(draws(1, torch.arange(200) % 4), CENTRES, stddev=0.5)
    assert everywhere.covered.value == everywhere.covered.floor == 1
    assert everywhere.covered.p_value == 1
    assert everywhere.covered.detectable == 0.75
    assert everywhere.precision.p_value > 0.05
    missing = modes(draws(2, torch.arange(200) % 3), CENTRES, stddev=0.5)
    assert missing.covered.value == missing.covered.detectable
    assert missing.covered.p_value == 0.001


def test_wide_samples_lack_precision():
    found = modes(draws(3, torch.arange(200) % 4, stddev=0.8), CENTRES, stddev=0.5)
    assert found.precision.value < found.precision.detectable < found.precision.floor
    assert found.precision.p_value < 1e-6
    truth = 1 - math.exp(-9 / 2 * (0.5 / 0.8) ** 2)
    assert abs(found.precision.value - truth) < 4 * found.precision.error


def test_power_at_the_detectable_precision():
    """The exact binomial power there is .8."""
    from scipy.stats import binom

    precision = modes(draws(4, torch.arange(200) % 4), CENTRES, stddev=0.5).precision
    seen = binom.cdf(round(precision.floor * 200) - 1, 200, precision.detectable)
    assert seen == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"centres": torch.zeros(4, 3)}, r"centres: expected \(modes, 2\), got \(4, 3\)"),
        ({"stddev": 0.0}, "stddev"),
        ({"within": -1.0}, "within"),
        ({"least": 0}, "least"),
        ({"weights": [1.0, 1.0]}, "weights: expected 4"),
        ({"weights": [1.0, 1.0, 1.0, -1.0]}, "weights: expected 4"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        modes(**{"x": torch.zeros(9, 2), "centres": CENTRES, "stddev": 1.0, **arguments})
