"""The energy test: closed form, jackknife error, level, power, and what it says of both."""

import math

import numpy as np
import pytest
import torch

from experiments.compare import two_sample


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def folded(mu, variance):
    """E|Z| for Z ~ N(mu, variance)."""
    s = math.sqrt(variance)
    return s * math.sqrt(2 / math.pi) * math.exp(-((mu / s) ** 2) / 2) + mu * math.erf(
        mu / (s * math.sqrt(2))
    )


def energy(shift, stddev, n, m):
    """Expected statistic of N(0, 1) against N(shift, stddev^2): distance plus bias."""
    x, y = folded(0, 2), folded(0, 2 * stddev**2)
    return 2 * folded(shift, 1 + stddev**2) - x - y + x / n + y / m


def test_equal_inputs_are_zero():
    x = normal(0, 60, 3)
    result = two_sample(x, x, permutations=99)
    assert result.value == pytest.approx(0, abs=1e-12)
    assert result.p_value == 1


@pytest.mark.parametrize(("shift", "stddev"), [(0.0, 1.0), (0.8, 1.0), (0.0, 2.0), (1.0, 0.5)])
def test_closed_form_on_two_normals(shift, stddev):
    n, m, repeats = 80, 120, 100
    results = [
        two_sample(normal(2 * i, n), shift + stddev * normal(2 * i + 1, m), permutations=19)
        for i in range(repeats)
    ]
    values = torch.tensor([r.value for r in results])
    error = values.std().item() / math.sqrt(repeats)
    assert abs(values.mean().item() - energy(shift, stddev, n, m)) < 4 * error


def test_jackknife_error_is_the_spread_over_repetitions():
    results = [
        two_sample(normal(2 * i, 80), 0.8 + normal(2 * i + 1, 120), permutations=19) for i in range(300)
    ]
    spread = torch.tensor([r.value for r in results]).std().item()
    mean_error = sum(r.error for r in results) / len(results)
    # 300 values know their spread to 1/sqrt(600) = 4 %; the jackknife is biased upwards a little.
    assert 0.84 < mean_error / spread < 1.25


def test_level():
    """P(p <= .05) is exactly .05 under the null: 300 repetitions, band of 4 binomial sigmas."""
    repeats, level = 300, 0.05
    p = torch.tensor(
        [
            two_sample(normal(2 * i, 15, 2), normal(2 * i + 1, 12, 2), permutations=99).p_value
            for i in range(repeats)
        ]
    )
    sigma = math.sqrt(level * (1 - level) / repeats)
    assert abs((p <= level).double().mean().item() - level) < 4 * sigma
    assert abs(p.mean().item() - 0.505) < 4 * math.sqrt(1 / 12 / repeats)


def test_null_mean_is_the_bias_and_floor_its_quantile():
    results = [two_sample(normal(2 * i, 40), normal(2 * i + 1, 40), permutations=199) for i in range(200)]
    values = torch.tensor([r.value for r in results])
    error = values.std().item() / math.sqrt(200)
    assert abs(sum(r.null_mean for r in results) / 200 - values.mean().item()) < 4 * error
    above = torch.tensor([r.value > r.floor for r in results]).double().mean().item()
    assert abs(above - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("dimension", [1, 5])
def test_power_at_the_detectable_difference(dimension):
    """Shift one coordinate until the expected statistic is what null runs call detectable.

    Asked is .8; the normal approximation gives .70 to .89 (1 to 20 dimensions; shifts, scales).
    150 repetitions have a standard error of .035, and the band leaves 3 of them on either side.
    """
    n, fast = 60, {"permutations": 99}

    def at(shift, seeds):
        step = torch.zeros(dimension)
        step[0] = shift
        return [
            two_sample(normal(2 * i, n, dimension), normal(2 * i + 1, n, dimension) + step, **fast)
            for i in seeds
        ]

    detectable = sum(r.detectable for r in at(0.0, range(20))) / 20
    low, high = 0.1, 2.0
    for _ in range(12):
        middle = (low + high) / 2
        mean = sum(r.value for r in at(middle, range(20))) / 20
        low, high = (middle, high) if mean < detectable else (low, middle)
    seen = [r.p_value <= 0.05 for r in at(high, range(1000, 1150))]
    assert 0.6 < sum(seen) / len(seen) < 0.95


def test_power_on_a_shift_and_on_a_scale():
    x, y = normal(0, 100, 2), normal(1, 100, 2)
    assert two_sample(x, y + 0.8).p_value == 0.001
    assert two_sample(x, 2.5 * y).p_value == 0.001
    shifted = two_sample(x, y + 0.8)
    assert shifted.value > shifted.detectable > shifted.floor > shifted.null_mean > 0
    assert shifted.excess == shifted.value - shifted.null_mean


def test_ties_count_as_ties():
    """All rows equal: every relabelling ties, so nothing can be rejected."""
    x = torch.full((20, 2), 0.1)
    assert two_sample(x, x[:10], permutations=99).p_value == 1
    coins = torch.arange(40) % 2
    assert two_sample(coins, coins, permutations=99).p_value == 1


def test_shapes_types_and_seeds():
    x, y = normal(0, 30, 4, 2), normal(1, 30, 4, 2)
    reference = two_sample(x, y)
    assert two_sample(x.reshape(30, 8).numpy(), y.numpy()) == reference
    assert two_sample(x, y, seed=1).p_value != reference.p_value
    assert two_sample(np.arange(10), np.arange(12)).value >= 0


def test_global_random_state_is_untouched():
    before = torch.get_rng_state()
    two_sample(normal(0, 10), normal(1, 10), permutations=19)
    assert torch.equal(before, torch.get_rng_state())


def test_reads_as_a_sentence():
    words = str(two_sample(normal(0, 30), normal(1, 30)))
    assert words.startswith("energy ")
    assert "p = " in words
    assert "4 times in 5" in words


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), {}, "equal row sizes, got 2 and 3"),
        (torch.zeros(3), torch.zeros(9), {}, "x: expected at least 4 rows"),
        (torch.zeros(9), torch.full((9,), math.nan), {}, "y: expected finite"),
        (torch.zeros(9), torch.zeros(9), {"permutations": 5}, "permutations"),
        (torch.zeros(9), torch.zeros(9), {"test": "eye"}, "test: expected one of classifier, energy"),
        (torch.zeros(20_000), torch.zeros(9), {}, "random subset"),
    ],
)
def test_bad_arguments_are_named(x, y, options, words):
    with pytest.raises(ValueError, match=words):
        two_sample(x, y, **options)
