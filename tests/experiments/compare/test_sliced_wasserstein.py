"""Sliced W1: exact expectations on normals, its error, its units, its floor and what it detects."""

import math

import pytest
import torch
from torch.distributions import Binomial, Normal

from experiments.compare import two_sample


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def sliced(x, y, permutations=19, seed=0):
    return two_sample(x, y, "sliced_wasserstein", permutations, seed)


def expected(shift, stddev, n, m):
    """E W1 of n draws of N(0, 1) and m of N(shift, stddev^2): the integral of E |F_n - G_m|.

    At each point both are binomial shares, so the expectation is a finite sum.
    """
    t = torch.linspace(-9, 9 + shift, 3001, dtype=torch.float64)[:, None]
    f, g = Normal(0.0, 1.0).cdf(t), Normal(shift, stddev).cdf(t)
    i, j = torch.arange(n + 1.0).double(), torch.arange(m + 1.0).double()
    chance = (
        Binomial(n, f.clamp(1e-300, 1 - 1e-16)).log_prob(i).exp()[:, :, None]
        * Binomial(m, g.clamp(1e-300, 1 - 1e-16)).log_prob(j).exp()[:, None, :]
    )
    apart = (chance * (i[:, None] / n - j / m).abs()).sum((1, 2))
    return torch.trapezoid(apart, t[:, 0]).item()


def within_four_errors(values, truth):
    values = torch.tensor(values)
    return abs(values.mean().item() - truth) < 4 * values.std().item() / math.sqrt(len(values))


def test_equal_inputs_are_zero():
    x = normal(0, 60, 3)
    result = sliced(x, x, 99)
    assert (result.value, result.p_value) == (0, 1)


def test_by_hand():
    result = sliced([0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 3.0, 5.0])
    assert result.value == pytest.approx((1 + 0 + 1 + 2) / 4)


@pytest.mark.parametrize(("shift", "stddev"), [(0.0, 1.0), (1.5, 1.0), (0.3, 2.0)])
def test_exact_expectation_in_one_dimension(shift, stddev):
    values = [sliced(normal(2 * i, 12), shift + stddev * normal(2 * i + 1, 9)).value for i in range(300)]
    assert within_four_errors(values, expected(shift, stddev, 12, 9))


def test_exact_expectation_in_three_dimensions():
    """The component of a random direction along a fixed axis is uniform on (-1, 1)."""
    step = torch.tensor([2.0, 0.0, 0.0])
    values = [sliced(normal(2 * i, 12, 3), step + normal(2 * i + 1, 12, 3), seed=i).value for i in range(300)]
    nodes = (torch.arange(50) + 0.5) / 50
    truth = sum(expected(2.0 * u, 1.0, 12, 12) for u in nodes.tolist()) / 50
    assert within_four_errors(values, truth)


def test_units_and_large_samples():
    """A shift by 2 in one of two dimensions is 2 * 2 / pi; the unit is that of the data."""
    x, y = normal(0, 2000, 2), normal(1, 2000, 2) + torch.tensor([2.0, 0.0])
    result = sliced(x, y)
    assert abs(result.value - 4 / math.pi) < 4 * result.error + 0.01  # 0.01: bias across the shift
    assert sliced(1000 * x, 1000 * y).value == pytest.approx(1000 * result.value)


@pytest.mark.parametrize("dimension", [1, 4])
def test_error_is_the_spread_over_repetitions(dimension):
    """Rows and, in more than one dimension, directions both vary."""
    results = [
        sliced(normal(2 * i, 80, dimension), 0.8 + normal(2 * i + 1, 120, dimension), seed=i)
        for i in range(300)
    ]
    spread = torch.tensor([r.value for r in results]).std().item()
    assert 0.84 < sum(r.error for r in results) / 300 / spread < 1.2


def test_null_mean_is_the_bias_and_floor_its_quantile():
    results = [sliced(normal(2 * i, 30, 2), normal(2 * i + 1, 30, 2), 39, i) for i in range(200)]
    assert within_four_errors([r.value - r.null_mean for r in results], 0.0)
    above = torch.tensor([r.value > r.floor for r in results]).double().mean().item()
    assert abs(above - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 200)


def test_all_rows_equal():
    assert sliced(torch.ones(9, 2), torch.ones(9, 2)).p_value == 1
