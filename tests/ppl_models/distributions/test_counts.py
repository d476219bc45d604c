"""Counts with totals of their own: Pyro's multinomial, row by row, and draws that sum to their totals."""

import math

import torch
from pyro import distributions as dist

from ppl_models.distributions.counts import Counts

TOTAL = torch.tensor([5, 0, 12])
FREQUENCY = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])


def test_log_prob_is_that_of_multinomials():
    x = torch.tensor([[1.0, 3.0, 1.0], [0.0, 0.0, 0.0], [2.0, 0.0, 10.0]])
    rows = [dist.Multinomial(int(t), p).log_prob(v) for t, p, v in zip(TOTAL, FREQUENCY, x, strict=True)]
    torch.testing.assert_close(Counts(TOTAL, FREQUENCY).log_prob(x), torch.stack(rows))


def test_draws_sum_to_their_totals_and_have_their_frequencies():
    """Means within 4 standard errors at 20,000 draws."""
    draws = 20_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = Counts(TOTAL, FREQUENCY).sample((draws,))
    assert x.shape == (draws, 3, 3)
    assert torch.equal(x.sum(-1), TOTAL.expand(draws, 3).float())
    expected = TOTAL[:, None] * FREQUENCY
    stddev = (expected * (1 - FREQUENCY)).sqrt()
    assert ((x.mean(0) - expected).abs() <= 4 * stddev / math.sqrt(draws)).all()


def test_the_support_knows_the_total():
    support = Counts(torch.tensor(3), torch.tensor([0.5, 0.5])).support
    x = torch.tensor([[1.0, 2.0], [2.0, 2.0], [-1.0, 4.0], [1.5, 1.5]])
    assert support.check(x).tolist() == [True, False, False, False]
