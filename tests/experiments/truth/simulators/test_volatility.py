"""GARCH and stochastic volatility against hand-written recursions and closed moments."""

import math

import pytest
import torch
from torch.distributions import Normal

from experiments.truth.simulators.volatility import Garch, StochasticVolatility

ROWS = 20_000


def test_garch_by_hand():
    law = Garch(base=0.2, shock=0.3, memory=0.5, steps=3)
    h1 = 0.2 / 0.2
    h2 = 0.2 + 0.3 * 1.5**2 + 0.5 * h1
    h3 = 0.2 + 0.3 * 0.4**2 + 0.5 * h2
    x = torch.tensor([1.5, -0.4, 2.0], dtype=torch.float64)
    by_hand = sum(Normal(0.0, math.sqrt(h)).log_prob(value) for h, value in zip((h1, h2, h3), x, strict=True))
    assert law.log_prob(x).item() == pytest.approx(by_hand.item(), abs=1e-6)
    torch.testing.assert_close(law.variances(x), torch.tensor([h1, h2, h3], dtype=torch.float64))


def test_garch_draws_are_standard_after_division_by_their_spread():
    law = Garch(steps=20)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = law.sample((ROWS,))
    white = x / law.variances(x).sqrt()
    count = white.numel()
    assert abs(white.mean()) < 4 / math.sqrt(count)
    assert abs(white.var() - 1) < 4 * math.sqrt(2 / count)
    assert abs((white**4).mean() - 3) < 4 * math.sqrt(96 / count)  # the variance of a fourth power is 96
    # The variance of every step is the stationary one, whatever the shocks were.
    last = x[:, -1] ** 2
    assert abs(last.mean() - law.stationary_variance) < 4 * last.std() / math.sqrt(ROWS)


def test_garch_integrates_to_one():
    law = Garch(steps=2)
    line = torch.linspace(-14, 14, 561, dtype=torch.float64)
    total = law.log_prob(torch.cartesian_prod(line, line)).exp().sum() * 0.05**2
    assert total.item() == pytest.approx(1, abs=1e-7)


def test_stochastic_volatility_has_its_closed_moments():
    law = StochasticVolatility()
    x, h = law.simulate(ROWS, 12, seed=0)
    assert x.shape == h.shape == (ROWS, 12)
    first, last = h[:, 0] - law.mean, h[:, -1] - law.mean
    variance = law.stationary_stddev**2
    for values, known in (
        (last, 0.0),
        (last**2, variance),
        (first * last, law.persistence**11 * variance),
        (x[:, -1] ** 2, law.variance),
        (x[:, 3] ** 4, law.kurtosis * law.variance**2),
    ):
        assert abs(values.mean() - known) < 4 * values.std() / math.sqrt(ROWS)


def test_log_joint_by_hand():
    law = StochasticVolatility(mean=-0.3, persistence=0.6, innovation_stddev=0.5)
    x, h = torch.tensor([0.7, -1.2]).double(), torch.tensor([0.2, -0.9]).double()
    by_hand = (
        Normal(-0.3, 0.5 / 0.8).log_prob(h[0])
        + Normal(-0.3 + 0.6 * (0.2 + 0.3), 0.5).log_prob(h[1])
        + Normal(0.0, math.exp(0.1)).log_prob(x[0])
        + Normal(0.0, math.exp(-0.45)).log_prob(x[1])
    )
    assert law.log_joint(x, h).item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="shock \\+ memory < 1"):
        Garch(shock=0.5, memory=0.5)
    with pytest.raises(ValueError, match=r"value: expected \(..., 4\)"):
        Garch(steps=4).log_prob(torch.zeros(3))
