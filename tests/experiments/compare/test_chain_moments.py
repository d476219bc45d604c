"""Moments of dependent draws: their Monte Carlo errors have the right size, and faults are seen."""

import math

import pytest
import torch

from experiments.compare.chain_moments import agreement, chain_moments


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def autoregression(seed, rho, chains, draws, size):
    """Chains with mean 0, variance 1 and correlation rho from draw to draw."""
    noise = normal(seed, draws, chains, size)
    found = [noise[0]]
    for row in noise[1:]:
        found.append(rho * found[-1] + math.sqrt(1 - rho**2) * row)
    return torch.stack(found, 1)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.7])
def test_noise_has_the_size_of_the_errors(rho):
    """z-scores of 200 quantities have variance 1: its standard error is sqrt(2 / 200) = .1."""
    errors = chain_moments(autoregression(0, rho, 4, 1000, 200), normal(1, 10, 1000, 200))
    for z in errors.z_scores():
        assert abs(z.mean()) < 4 / math.sqrt(200)
        assert abs(z.var() - 1) < 4 * math.sqrt(2 / 200)


@pytest.fixture
def reference():
    return {"mu": normal(2, 10, 1000), "beta": 3 * normal(3, 10, 1000, 2) + 1}


def draws_like(reference, seed=4):
    return {"mu": normal(seed, 4, 1000), "beta": 3 * normal(seed + 1, 4, 1000, 2) + 1}


def test_right_draws_are_right(reference):
    found = agreement(draws_like(reference), reference)
    assert found.right and found.mean < 0.1 and found.stddev < 0.1


@pytest.mark.parametrize(
    ("fault", "worst"),
    [
        (lambda d: d | {"mu": 0.8 * d["mu"]}, "mu"),
        (lambda d: d | {"beta": d["beta"] + 3 * torch.tensor([0.0, 0.2])}, "beta[2]"),
    ],
    ids=["sd x 0.8", "mean + 0.2 sd"],
)
def test_faults_are_wrong(reference, fault, worst):
    found = agreement(fault(draws_like(reference)), reference)
    assert not found.right and not found.within
    assert worst in (found.worst_mean, found.worst_stddev)


def test_a_stuck_chain_is_no_excuse(reference):
    """Its spread is huge, and so would be a Monte Carlo error in units of that spread."""
    draws = draws_like(reference)
    draws["mu"][3] += 50
    assert not agreement(draws, reference).right


def test_too_few_effective_draws_are_wrong():
    reference = {"mu": normal(5, 10, 1000)}
    slow = {"mu": autoregression(6, 0.998, 4, 1000, 1)[..., 0]}
    assert not agreement(slow, reference).right


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_or_missing_is_wrong(reference, value):
    draws = draws_like(reference)
    draws["beta"][0, 0, 1] = value
    for bad in (draws, {"mu": draws["mu"]}, draws | {"beta": draws["mu"]}):
        found = agreement(bad, reference)
        assert math.isinf(found.mean) and not found.right and not found.within and found.worst_mean == "beta"


def test_a_constant_is_wrong(reference):
    draws = draws_like(reference) | {"mu": torch.zeros(4, 1000)}
    assert not agreement(draws, reference).right
