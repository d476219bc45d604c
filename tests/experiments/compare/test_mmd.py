"""Squared MMD: zero on equal inputs, the closed form on two normals, its error and its floor."""

import math

import pytest
import torch

from experiments.compare import two_sample
from experiments.compare.statistics import mmd


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def kernel_mean(shift, variance, dimension, bandwidth):
    """E exp(-|D|^2 / (2 h^2)) for D ~ N(shift e_1, variance I)."""
    total = bandwidth**2 + variance
    return (bandwidth**2 / total) ** (dimension / 2) * math.exp(-(shift**2) / (2 * total))


def truth(shift, stddev, dimension, bandwidth, n=math.inf, m=math.inf):
    """Expected statistic of N(0, I) against N(shift e_1, stddev^2 I): squared MMD plus bias."""
    within = [kernel_mean(0, 2 * s**2, dimension, bandwidth) for s in (1, stddev)]
    across = kernel_mean(shift, 1 + stddev**2, dimension, bandwidth)
    return sum(within) - 2 * across + (1 - within[0]) / n + (1 - within[1]) / m


def at(shift, stddev, dimension, bandwidth, i, n=50, m=70):
    y = stddev * normal(2 * i + 1, m, dimension)
    y[:, 0] += shift
    generator = torch.Generator().manual_seed(i)
    return mmd.with_bandwidth(normal(2 * i, n, dimension), y, bandwidth, 39, generator)


def test_equal_inputs_are_zero():
    x = normal(0, 60, 3)
    result = two_sample(x, x, "mmd", permutations=99)
    assert result.value == pytest.approx(0, abs=1e-12)
    assert result.p_value == 1


@pytest.mark.parametrize(("shift", "stddev"), [(0.0, 1.0), (0.8, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize(("dimension", "bandwidth"), [(1, 0.7), (4, 2.5)])
def test_closed_form_on_two_normals(shift, stddev, dimension, bandwidth):
    repeats = 100
    results = [at(shift, stddev, dimension, bandwidth, i) for i in range(repeats)]
    values = torch.tensor([r.value for r in results])
    error = values.std().item() / math.sqrt(repeats)
    assert abs(values.mean().item() - truth(shift, stddev, dimension, bandwidth, 50, 70)) < 4 * error
    if (shift, stddev) == (0.0, 1.0):
        excess = sum(r.excess for r in results) / repeats
        assert abs(excess - truth(shift, stddev, dimension, bandwidth)) < 4 * error


def test_error_is_the_spread_over_repetitions():
    results = [at(0.8, 1.0, 2, 1.5, i) for i in range(300)]
    spread = torch.tensor([r.value for r in results]).std().item()
    # 300 values know their spread to 4 %; the jackknife is biased upwards a little.
    assert 0.84 < sum(r.error for r in results) / 300 / spread < 1.25


def test_the_bandwidth_is_the_median_distance_and_belongs_to_both():
    x, y = normal(0, 30, 2), 5 + normal(1, 20, 2)
    pooled = torch.cat([x, y])
    expected = mmd.with_bandwidth(
        x, y, torch.pdist(pooled).median().item(), 99, torch.Generator().manual_seed(0)
    )
    result = two_sample(x, y, "mmd", permutations=99)
    assert result.value == pytest.approx(expected.value)
    assert two_sample(100 * x, 100 * y, "mmd", permutations=99).value == pytest.approx(result.value)
    assert result.p_value == 0.01


def test_all_rows_equal():
    assert two_sample(torch.ones(9), torch.ones(9), "mmd", permutations=19).p_value == 1
