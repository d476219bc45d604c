"""Sorted normals: a density on ascending vectors, and draws that have it."""

import math

import pytest
import torch

from ppl_models.distributions.sorted_normal import SortedNormal


def test_density_integrates_to_one():
    """A sum over a fine grid of ascending pairs: the trapezoid error at a step of 0.02 is below 1e-3."""
    grid = torch.arange(-9.0, 13.0, 0.02, dtype=torch.float64)
    low, high = torch.meshgrid(grid, grid, indexing="ij")
    pairs = torch.stack([low, high], -1)[low < high]
    mass = SortedNormal(2, 2.0, 1.7).log_prob(pairs).exp().sum() * 0.02**2
    # the diagonal, half a cell wide, is left out: it holds 0.01 * p(tie), with p(tie) about 2 * .166
    assert abs(float(mass) - 1) < 0.01 * 2 * 0.17 + 1e-3


def test_draws_are_ascending_and_average_to_known_values():
    """Two standard normals: the larger has mean 1 / sqrt(pi). Within 4 standard errors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = SortedNormal(2, 3.0, 2.0).expand([4]).sample((20_000,))
    assert draws.shape == (20_000, 4, 2)
    assert bool((draws.diff() > 0).all())
    expected = 3 + 2 / math.sqrt(math.pi) * torch.tensor([-1.0, 1.0])
    flat = draws.flatten(0, 1)
    assert ((flat.mean(0) - expected).abs() < 4 * flat.std(0) / math.sqrt(len(flat))).all()


def test_support_refuses_a_descending_vector():
    assert SortedNormal.support.check(torch.tensor([1.0, 2.0]))
    assert not SortedNormal.support.check(torch.tensor([2.0, 1.0]))


@pytest.mark.parametrize("count", [1, 3])
def test_density_is_that_of_normals_times_the_orders(count):
    value = torch.linspace(-1, 2, count)
    normal = torch.distributions.Normal(0.5, 1.3).log_prob(value).sum()
    torch.testing.assert_close(
        SortedNormal(count, 0.5, 1.3).log_prob(value), normal + math.log(math.factorial(count))
    )
