"""A change of rate: the law of its time against sums by hand and draws."""

import math

import pytest
import torch
from torch.distributions import Poisson

from experiments.truth.simulators.change_point import ChangePoint

ROWS = 20_000


def test_by_hand():
    law = ChangePoint(early=4.0, late=1.5, steps=4)
    x = torch.tensor([5.0, 3.0, 0.0, 2.0]).double()
    given = []
    for y in range(3):
        rates = torch.tensor([4.0] * (y + 1) + [1.5] * (3 - y)).double()
        given.append(Poisson(rates).log_prob(x).sum())
    given = torch.stack(given)
    torch.testing.assert_close(law.log_prob_by_class(x), given)
    torch.testing.assert_close(law.log_prob(x), given.logsumexp(0) - math.log(3))
    torch.testing.assert_close(law.probabilities(x), given.softmax(0))


def test_sums_to_one():
    law = ChangePoint(early=1.2, late=0.3, steps=3)
    counts = torch.arange(16.0)  # P(more) < 1e-12
    every = torch.cartesian_prod(counts, counts, counts)
    assert law.log_prob(every).logsumexp(0).item() == pytest.approx(0, abs=1e-6)


def test_draws_have_the_rates_and_the_posterior():
    law = ChangePoint(early=3.1, late=0.9, steps=10)
    x, y = law.sample_labelled(ROWS, seed=0)
    for step in (0, 4, 9):
        early = x[y >= step][:, step] if step < 9 else x[y >= step - 1][:, step - 1]
        assert abs(early.mean() - 3.1) < 4 * math.sqrt(3.1 / len(early))
    late = x[:, 9]
    assert abs(late.mean() - 0.9) < 4 * math.sqrt(0.9 / ROWS)
    residual = torch.nn.functional.one_hot(y, 9) - law.probabilities(x)
    assert (residual.mean(0).abs() < 4 * residual.std(0) / math.sqrt(ROWS)).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="early, late, steps: expected"):
        ChangePoint(steps=1)
