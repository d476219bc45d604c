"""Every test rejects one law as often as it says: 1,000 repetitions, a band of 4 binomial sigmas.

The classifiers' levels stand in `test_classifier.py`.
"""

import math

import pytest
import torch
from torch.distributions import Normal

from experiments.compare import density_coverage, modes, moment_errors, stein, two_sample

REPEATS, LEVEL = 1_000, 0.05
BAND = 4 * math.sqrt(LEVEL * (1 - LEVEL) / REPEATS)  # .0276


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def p_values(test):
    return torch.tensor([test(2 * i, 2 * i + 1) for i in range(REPEATS)], dtype=torch.float64)


@pytest.mark.parametrize("test", ["energy", "mmd", "sliced_wasserstein"])
def test_permutation_tests_are_exact(test):
    """P(p <= .05) is .05 and p uniform on 1/20, 2/20 .. 1."""
    p = p_values(lambda a, b: two_sample(normal(a, 15, 2), normal(b, 12, 2), test, 19, seed=b).p_value)
    assert abs((p <= LEVEL).double().mean().item() - LEVEL) < BAND
    assert abs(p.mean().item() - (1 + 1 / 20) / 2) < 4 * math.sqrt(1 / 12 / REPEATS)


@pytest.mark.slow
def test_coverage_and_density_do_not_exceed_it():
    """Their values are few, so they tie: at most the level, less by the ties."""
    found = [
        density_coverage(normal(2 * i, 20, 2), normal(2 * i + 1, 15, 2), 3, 19, seed=i)
        for i in range(REPEATS)
    ]
    for p in torch.tensor([[r.density.p_value, r.coverage.p_value] for r in found]).T:
        assert (p <= LEVEL).double().mean().item() < LEVEL + BAND
        assert (p <= LEVEL).double().mean().item() > 0.01


@pytest.mark.parametrize("dimension", [1, 10])
def test_stein_is_close_to_its_level(dimension):
    """The wild bootstrap is asymptotic, so 60 draws are allowed one point beyond the band."""
    p = p_values(lambda a, b: stein(normal(a, 60, dimension), score=torch.neg, bootstraps=39, seed=b).p_value)
    assert abs((p <= LEVEL).double().mean().item() - LEVEL) < BAND + 0.01


@pytest.mark.parametrize("reference", [False, True])
def test_largest_moment_error(reference):
    """Standard deviations of 400 draws are nearly normal: one point beyond the band."""
    law = Normal(torch.zeros(5).double(), 2.0)
    p = p_values(
        lambda a, b: (
            moment_errors(2 * normal(a, 400, 5), 2 * normal(b, 800, 5) if reference else law)
            .comparison()
            .p_value
        )
    )
    assert abs((p <= LEVEL).double().mean().item() - LEVEL) < BAND + 0.01


@pytest.mark.slow
def test_modes_do_not_exceed_it():
    """Ten modes and 30 rows: some are missed by the truth too. Both counts are discrete."""
    centres = 20.0 * torch.arange(10.0)[:, None] * torch.tensor([[1.0, 0.0]])
    found = []
    for i in range(REPEATS):
        which = torch.randint(10, (30,), generator=torch.Generator().manual_seed(2 * i))
        found.append(modes(centres[which] + 0.5 * normal(2 * i + 1, 30, 2), centres, stddev=0.5))
    for p in torch.tensor([[r.covered.p_value, r.precision.p_value] for r in found]).T:
        assert (p <= LEVEL).double().mean().item() < LEVEL + BAND
