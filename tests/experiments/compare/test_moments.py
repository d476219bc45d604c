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


def test_reference_draws_add_their_own_noise():
    """4,000 columns of 300 draws against 600: z-scores have variance 1 about the equal truth."""
    errors = moment_errors(2 * standard_normal(2, 300, 4000), 2 * standard_normal(3, 600, 4000))
    for z in errors.z_scores():
        assert abs(z.mean().item()) < 4 / 4000**0.5 + 0.05  # a ratio of spreads is biased by 1/n
        assert abs(z.var().item() - 1) < 4 * (2 / 4000) ** 0.5 + 0.03  # Student, not normal


def test_the_largest_z_score_finds_one_coordinate_of_many():
    draws = standard_normal(4, 1000, 50)
    law = Normal(torch.zeros(50), 1.0)
    fair = moment_errors(draws, law).comparison()
    assert fair.p_value > 0.05
    assert 3.2 < fair.floor < 3.6  # 95 % of the largest of 100 normals
    draws[:, 7] += 0.2
    found = moment_errors(draws, law).comparison()
    assert found.value > found.detectable > found.floor
    assert found.p_value < 1e-4
    assert moment_errors(draws, law).z_scores()[0].argmax() == 7


def test_power_at_the_detectable_z_score():
    """One coordinate of five off by that many standard errors: seen 4 times in 5, and a little more."""
    law, seen = Normal(torch.zeros(5), 1.0), 0
    for seed in range(400):
        draws = standard_normal(seed, 400, 5)
        fair = moment_errors(draws, law).comparison()
        draws[:, 0] += fair.detectable / 400**0.5
        seen += moment_errors(draws, law).comparison().p_value <= 0.05
    assert abs(seen / 400 - 0.8) < 4 * (0.8 * 0.2 / 400) ** 0.5 + 0.02  # others reject at .04


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"draws: expected \(restarts, draws, \*\(3,\)\)"):
        moment_errors(torch.zeros(10, 2), Normal(torch.zeros(3), 1.0))
