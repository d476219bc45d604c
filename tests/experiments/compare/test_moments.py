"""Moment errors: what they are on known draws, and that their noise is as large as it says."""

import pytest
import torch
from torch.distributions import Exponential, Normal

from experiments.compare.moments import moment_errors


def standard_normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_by_hand():
    draws = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    errors = moment_errors(draws, Normal(torch.tensor([0.5]).double(), 2.0))
    assert errors.mean.item() == pytest.approx(-0.25)
    assert errors.stddev.item() == pytest.approx(2**0.5 / 2 - 1)
    assert errors.mean_noise.item() == pytest.approx(0.5)


@pytest.mark.parametrize("law", [Normal(3.0, 2.0), Exponential(0.5)])
def test_noise_is_the_spread_of_errors(law):
    """Of 4,000 columns with 400 draws each; kurtosis is 3 for one law and 9 for the other."""
    columns = law.expand((4000,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        errors = moment_errors(columns.sample((2, 200)).double(), columns)
    assert (errors.mean / errors.mean_noise).std().item() == pytest.approx(1, abs=0.06)
    ratio = (errors.stddev / errors.stddev_noise).std().item()
    # With a heavy tail the kurtosis of 400 draws is itself noisy and, on average, too small.
    assert 0.94 < ratio < (1.06 if isinstance(law, Normal) else 1.35)
    assert not errors.beyond(mean=0.1, stddev=0.1).any()


def test_planted_errors_are_seen_where_they_are():
    draws = standard_normal(0, 4, 500, 3)
    draws[..., 1] += 0.4
    draws[..., 2] *= 1.4
    errors = moment_errors(draws, Normal(torch.zeros(3), 1.0))
    assert errors.beyond(mean=0.1, stddev=0.1).tolist() == [False, True, True]
    assert errors.beyond(mean=0.6, stddev=0.6).tolist() == [False, False, False]


def test_an_average_shows_what_its_parts_hide():
    draws = standard_normal(1, 100, 200)
    draws[:, :100] *= 1.15
    errors = moment_errors(draws, Normal(torch.zeros(200), 1.0))
    wide = torch.arange(200) < 100
    assert not errors.beyond(mean=0.05, stddev=0.05).any()
    group = errors.average(wide)
    assert group.beyond(mean=0.05, stddev=0.05).item()
    assert abs(group.stddev.item() - 0.15) < 4 * group.stddev_noise.item() + 0.003  # E[s] < sd
    assert not errors.average(~wide).beyond(mean=0.0, stddev=0.005).item()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"draws: expected \(restarts, draws, \*\(3,\)\)"):
        moment_errors(torch.zeros(10, 2), Normal(torch.zeros(3), 1.0))
