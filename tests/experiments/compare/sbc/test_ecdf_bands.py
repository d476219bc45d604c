"""Bands of ranks: exact levels, p-values and power."""

import math

import pytest
import torch

from experiments.compare.sbc.ecdf_bands import rank_test

# Fixed before any result was seen.
SEED, SETS = 11, 2000


def uniform(count, highest, sets=SETS, seed=SEED):
    return torch.randint(highest + 1, (sets, count), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("count", "highest"), [(100, 99), (300, 49), (50, 300), (20, 9)])
def test_p_values_have_their_level(count, highest):
    p = rank_test(count, highest).p_values(uniform(count, highest))
    for level in (0.02, 0.05, 0.2, 0.5):
        share = float((p <= level).double().mean())
        # Ranks are discrete, so that a p-value is at most as often small as it says, and nearly as often.
        error = math.sqrt(level * (1 - level) / SETS)
        assert level * 0.75 - 4 * error < share < level + 4 * error


def test_an_ecdf_leaves_the_band_if_its_p_value_says_so():
    test = rank_test(100, 99)
    ranks = uniform(100, 99)
    lower, upper = test.band(0.9)
    share = test.counts(ranks).double() / 100
    outside = ((share < lower - 1e-12) | (share > upper + 1e-12)).any(-1)
    assert torch.equal(outside, test.p_values(ranks) <= 0.1)


def test_by_hand_with_two_ranks_of_two_values():
    """Of two fair coins none, one or two fall below the one point: 1/4, 1/2, 1/4."""
    test = rank_test(2, 1)
    p = test.p_values(torch.tensor([[0, 0], [0, 1], [1, 1]]))
    assert p.tolist() == pytest.approx([0.5, 1.0, 0.5], abs=1e-12)


def test_small_p_values_are_not_rounded_away():
    test = rank_test(1000, 199)
    ranks = torch.arange(1000) % 200
    assert 0 < float(test.p_values((ranks + 60).clamp_max(199))) < 1e-9
    inside = test._inside(torch.tensor([1e-6, 1e-8, 1e-10], dtype=torch.float64))
    ratio = (1 - inside) / torch.tensor([1e-6, 1e-8, 1e-10], dtype=torch.float64)
    assert bool((ratio > 1).all()) and bool((ratio < 199).all())  # between one point and all of them


def test_power_is_that_of_simulated_faults():
    test = rank_test(100, 99)
    normal = torch.distributions.Normal(0.0, 1.0)
    generator = torch.Generator().manual_seed(SEED)
    for shift, stddev in ((0.3, 1.0), (0.0, 0.7)):
        truth = torch.randn(600, 100, generator=generator)
        draws = shift + stddev * torch.randn(600, 100, 99, generator=generator)
        ranks = (draws < truth[..., None]).sum(-1)
        power = test.power(normal.cdf(normal.icdf(test.at) * stddev + shift))
        error = math.sqrt(power * (1 - power) / 600)
        share = float((test.p_values(ranks) <= 0.05).double().mean())
        assert abs(share - power) < 4 * error + 0.02  # ranks are shares of 99 draws, not of the posterior


def test_what_is_detectable_is_seen_4_times_in_5():
    test = rank_test(200, 99)
    shift, ratio = test.detectable()
    normal = torch.distributions.Normal(0.0, 1.0)
    quantiles = normal.icdf(test.at)
    assert test.power(normal.cdf(quantiles - shift)) == pytest.approx(0.8, abs=0.01)
    assert test.power(normal.cdf(quantiles * ratio)) == pytest.approx(0.8, abs=0.01)
    more, better = rank_test(800, 99).detectable()
    assert more < 0.6 * shift and ratio < better < 1


def test_the_floor_is_the_quantile_of_the_largest_difference():
    test = rank_test(100, 99)
    values = torch.tensor([one.value for one in test.judge(uniform(100, 99))])
    above = float((values > test.floor + 1e-9).double().mean())
    at_least = float((values > test.floor - 0.01 - 1e-9).double().mean())
    error = math.sqrt(0.05 * 0.95 / SETS)
    assert above < 0.05 + 4 * error and at_least > 0.05 - 4 * error


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"count, highest: expected at least 2 and 1, got 1"):
        rank_test(1, 9)
    test = rank_test(20, 9)
    with pytest.raises(ValueError, match=r"ranks: expected integers \(..., 20\)"):
        test.p_values(torch.zeros(19, dtype=torch.long))
    with pytest.raises(ValueError, match=r"ranks: expected 0 .. 9, got 10"):
        test.p_values(torch.full((20,), 10))
    with pytest.raises(ValueError, match=r"level: expected between 0 and 1"):
        test.band(1.0)
