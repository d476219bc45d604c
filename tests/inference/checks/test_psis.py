"""Pareto smoothing against distributions whose tail is known, and against ArviZ."""

import math

import numpy as np
import pytest
import torch

from inference.checks.psis import (
    effective_size,
    fit_generalized_pareto,
    generalized_pareto_quantile,
    khat_threshold,
    pareto_smooth,
    pareto_smooth_rows,
)

INF = math.inf


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def tail_length(draws):
    return math.ceil(min(draws / 5, 3 * math.sqrt(draws)))


def pulled(k, count):
    """What the prior, ten observations at 0.5, makes of a shape estimated from `count` values."""
    return (count * k + 5) / (count + 10)


@pytest.mark.parametrize("k", [0.0, 0.3, 0.5, 0.7, 1.2])
def test_the_fit_finds_the_shape_and_scale_of_exact_samples(k):
    repetitions, n, scale = 200, 1000, 1.7
    uniform = torch.rand(repetitions, n, generator=generator(1), dtype=torch.float64)
    parameters = torch.tensor([k, scale], dtype=torch.float64)
    values = generalized_pareto_quantile(uniform, *parameters).sort(-1).values
    shape, sigma = fit_generalized_pareto(values)
    stderr = (1 + k) / math.sqrt(n)
    second_order = 5 / n  # of the estimator itself, beside the pull
    error = 4 * stderr / math.sqrt(repetitions)
    assert abs(float(shape.mean()) - pulled(k, n)) < error + second_order
    # The standard deviation of a sample of 200 has a relative error of 1 / sqrt(2 * 200).
    relative = float(shape.std()) * (n + 10) / n / stderr
    assert abs(relative - 1) < 4 / math.sqrt(2 * repetitions)
    # Asymptotic variance of log sigma: 2 (1 + k) / n (Zhang and Stephens 2009, from Smith 1984).
    log_error = 4 * math.sqrt(2 * (1 + k) / n / repetitions) + second_order
    assert abs(float(sigma.log().mean()) - math.log(scale)) < log_error


def test_equal_values_are_fitted_without_nan():
    # With 100 equal values one point of the grid is exactly 0, the exponential distribution.
    shape, sigma = fit_generalized_pareto(torch.full((3, 100), 2.0, dtype=torch.float64))
    assert (shape < 0).all() and sigma.isfinite().all()


@pytest.mark.parametrize("stddev", [0.4, 0.6, 0.8, 0.95])
def test_khat_of_a_narrow_gaussian_in_two_dimensions_is_known(stddev):
    """Target N(0, I), draws s z: w = exp((1 - s^2) |z|^2 / 2), and |z|^2 / 2 is exponential in 2-d.

    So P(w > t) = t^(-1 / (1 - s^2)) exactly: Pareto with k = 1 - s^2, all the way up.
    """
    draws, repetitions = 4000, 50
    k, count = 1 - stddev**2, tail_length(draws)
    log_weights = k * normal(repetitions, draws, 2, seed=2).square().sum(-1) / 2
    _, khat = pareto_smooth_rows(log_weights)
    error = 4 * (1 + k) / math.sqrt(count * repetitions)
    assert abs(float(khat.mean()) - pulled(k, count)) < error + 5 / count


@pytest.mark.parametrize("stddev", [0.3, 0.5, 0.7, 0.9])
def test_khat_of_a_narrow_gaussian_in_one_dimension_tends_to_its_limit(stddev):
    """P(w > t) = P(|z| > u), u^2 = 2 log t / (1 - s^2): a Pareto tail, k = 1 - s^2, over a log.

    The index at a finite threshold, 1 / (-d log P / d log t) = k u / h(u) with h the hazard of |z|,
    is smaller and rises to k; the estimate lies between its value at the cutoff and the limit.
    """
    draws, repetitions = 20_000, 30
    k, count = 1 - stddev**2, tail_length(draws)
    _, khat = pareto_smooth_rows(k * normal(repetitions, draws, seed=3).square() / 2)
    fraction = torch.tensor(count / draws, dtype=torch.float64)
    u = -float(torch.special.ndtri(fraction / 2))
    hazard = 2 * math.exp(-(u**2) / 2) / math.sqrt(2 * math.pi) / float(fraction)
    error = 4 * (1 + k) / math.sqrt(count * repetitions)
    assert pulled(k * u / hazard, count) - error < float(khat.mean()) < pulled(k, count) + error


@pytest.mark.parametrize("stddev", [1.2, math.sqrt(2), 3.0])
def test_bounded_weights_are_recognized(stddev):
    """A wide proposal has w <= max w; at s = sqrt(2) in 2-d the weights are uniform, k = -1."""
    log_weights = (1 - stddev**2) * normal(20, 4000, 2, seed=4).square().sum(-1) / 2
    smoothed, khat = pareto_smooth_rows(log_weights)
    assert (khat < 0).all()
    largest = (log_weights - log_weights.logsumexp(-1, keepdim=True)).amax(-1)
    assert torch.allclose(smoothed.amax(-1), largest, atol=0.01)


@pytest.mark.parametrize("draws", [25, 100, 1000, 4000])
@pytest.mark.parametrize("stddev", [0.3, 0.7, 0.9, 1.1, 2.0])
def test_arviz_agrees(draws, stddev):
    az = pytest.importorskip("arviz")
    if not hasattr(az, "psislw"):
        pytest.skip("ArviZ 1.x has no psislw")
    log_weights = (1 - stddev**2) * normal(draws, seed=draws).square() / 2
    smoothed, khat = pareto_smooth(log_weights)
    theirs, their_khat = az.psislw(log_weights.numpy())
    np.testing.assert_allclose(smoothed.numpy(), theirs, rtol=0, atol=1e-11)
    assert khat == pytest.approx(float(their_khat), rel=1e-9)


def test_smoothing_brings_weighted_means_nearer_the_truth():
    """E[x^2] = 1 under N(0, 1) from N(0, 0.3), where k = 0.7; squared errors are paired."""
    repetitions, draws, k = 2000, 400, 0.7
    z = normal(repetitions, draws, seed=5)
    squares, log_weights = (1 - k) * z.square(), k * z.square() / 2
    smoothed, _ = pareto_smooth_rows(log_weights)
    raw_error = (log_weights.softmax(-1) * squares).sum(-1) - 1
    smooth_error = (smoothed.exp() * squares).sum(-1) - 1
    gain = raw_error.square() - smooth_error.square()
    assert float(gain.mean()) > 3 * float(gain.std()) / math.sqrt(repetitions)


def test_rows_are_independent_of_one_another():
    log_weights = normal(2, 3, 200, seed=6)
    smoothed, khat = pareto_smooth_rows(log_weights)
    assert smoothed.shape == (2, 3, 200) and khat.shape == (2, 3)
    alone, khat_alone = pareto_smooth(log_weights[1, 2])
    assert torch.equal(smoothed[1, 2], alone) and float(khat[1, 2]) == khat_alone


def test_weights_come_back_normalized_in_order_and_in_float64():
    log_weights = normal(1000, seed=7).float()
    before = log_weights.clone()
    smoothed, khat = pareto_smooth(log_weights)
    shifted, khat_shifted = pareto_smooth(log_weights.double() - 1e4)
    assert smoothed.dtype == torch.float64
    assert float(smoothed.logsumexp(0)) == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(smoothed.argsort(), log_weights.argsort())
    assert torch.equal(log_weights, before)
    # A constant does not matter, up to the rounding of numbers near 1e4.
    assert torch.allclose(smoothed, shifted, atol=1e-9)
    assert khat == pytest.approx(khat_shifted, abs=1e-8)


def test_bodies_are_left_alone():
    log_weights = normal(1000, seed=8) * 2
    smoothed, _ = pareto_smooth(log_weights)
    body = log_weights.argsort()[: 1000 - tail_length(1000)]
    shift = smoothed[body] - log_weights[body]
    assert torch.allclose(shift, shift[0].expand_as(shift), atol=1e-12)


@pytest.mark.parametrize("size", [30, 1000])
def test_equal_weights_need_no_smoothing(size):
    for noise in (0.0, 1e-11):  # rounding of log densities near 1e5
        smoothed, khat = pareto_smooth(-123.4 + noise * normal(size, seed=9))
        assert khat == -INF
        assert torch.allclose(smoothed, torch.full_like(smoothed, -math.log(size)), atol=1e-10)


def test_draws_outside_the_target_have_no_weight():
    log_weights = normal(1000, seed=10)
    log_weights[::2] = -INF
    smoothed, khat = pareto_smooth(log_weights)
    assert (smoothed[::2] == -INF).all() and math.isfinite(khat)
    assert float(smoothed.logsumexp(0)) == pytest.approx(0.0, abs=1e-12)
    half = torch.zeros(1000, dtype=torch.float64)
    half[::2] = -INF
    assert pareto_smooth(half)[1] == -INF
    assert effective_size(half) == pytest.approx(500)


@pytest.mark.parametrize("finite", [1, 4])
def test_a_few_draws_that_hold_everything_certify_nothing(finite):
    log_weights = torch.full((1000,), -INF, dtype=torch.float64)
    log_weights[:finite] = normal(finite, seed=11)
    smoothed, khat = pareto_smooth(log_weights)
    assert khat == INF
    assert torch.allclose(smoothed.exp(), log_weights.softmax(0), atol=1e-12)


def test_ties_in_the_tail_match_arviz():
    """Resampled draws repeat their weights; those that equal the cutoff are no part of the tail."""
    az = pytest.importorskip("arviz")
    if not hasattr(az, "psislw"):
        pytest.skip("ArviZ 1.x has no psislw")
    log_weights = normal(250, seed=12).repeat_interleave(5)
    smoothed, khat = pareto_smooth(log_weights)
    theirs, their_khat = az.psislw(log_weights.numpy())
    # Which of two equal weights gets the larger value is arbitrary; and the grid of the fit is
    # sized by the tail with its ties here, by the one without them there.
    np.testing.assert_allclose(smoothed.sort().values.numpy(), np.sort(theirs), rtol=0, atol=1e-5)
    assert khat == pytest.approx(float(their_khat), abs=1e-5)


def test_fewer_than_25_draws_certify_nothing():
    log_weights = normal(25, seed=13)
    assert math.isfinite(pareto_smooth(log_weights)[1])
    smoothed, khat = pareto_smooth(log_weights[:24])
    assert khat == INF
    assert torch.allclose(smoothed, log_weights[:24].log_softmax(0), atol=1e-12)


@pytest.mark.parametrize("value", [math.nan, INF])
def test_undefined_weights_are_refused(value):
    log_weights = torch.zeros(100, dtype=torch.float64)
    log_weights[3] = value
    for function in (pareto_smooth, pareto_smooth_rows, effective_size):
        with pytest.raises(ValueError, match=r"log_weights: expected finite .* got 1 NaN or \+inf"):
            function(log_weights)


def test_shapes_that_hold_no_draws_are_refused():
    with pytest.raises(ValueError, match=r"shape \(draws,\), got \(2, 30\)"):
        pareto_smooth(torch.zeros(2, 30))
    with pytest.raises(ValueError, match=r"shape \(draws,\), got \(2, 30\)"):
        effective_size(torch.zeros(2, 30))
    with pytest.raises(ValueError, match=r"expected draws"):
        pareto_smooth_rows(torch.zeros(2, 0))
    with pytest.raises(ValueError, match=r"only -inf"):
        pareto_smooth(torch.full((30,), -INF))


def test_effective_size_is_kishs():
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert effective_size(weights.log() + 1e4) == pytest.approx(100 / 30, rel=1e-9)


def test_the_threshold_follows_the_number_of_draws():
    assert khat_threshold(10) == pytest.approx(0.0)
    assert khat_threshold(1000) == pytest.approx(2 / 3)
    assert khat_threshold(2154) < 0.7 == khat_threshold(2155)  # 10^(1 / 0.3)
    assert khat_threshold(1) == -INF
    with pytest.raises(ValueError, match="draws: expected a positive count, got 0"):
        khat_threshold(0)
