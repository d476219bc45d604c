"""Hidden Markov series: the sums over paths by brute force, and draws against their laws."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, Poisson

from experiments.truth.simulators.hidden_markov import HiddenMarkov, law

ROWS = 5_000


def by_paths(truth, x):
    """Log p(x, path) for every path, by multiplying along it: (paths,), and the paths."""
    paths = torch.tensor(list(itertools.product(range(len(truth.initial)), repeat=len(x))))
    log_p = truth.initial.log()[paths[:, 0]]
    for step in range(1, len(x)):
        log_p = log_p + truth.transition.log()[paths[:, step - 1], paths[:, step]]
    emitted = truth.emission.log_prob(x[:, None])
    return log_p + emitted[torch.arange(len(x)), paths].sum(-1), paths


@pytest.mark.parametrize("emission", ["normal", "poisson"])
def test_density_and_states_are_sums_over_paths(emission):
    truth = law(5)
    if emission == "poisson":
        rates = Poisson(torch.tensor([0.5, 3.0, 9.0]).double())
        truth = HiddenMarkov(truth.initial, truth.transition, rates, 5)
    series = truth.simulate(3, seed=0).x
    for x, states in zip(series, truth.states(series), strict=True):
        log_p, paths = by_paths(truth, x)
        torch.testing.assert_close(truth.log_prob(x), log_p.logsumexp(0))
        chosen = torch.nn.functional.one_hot(paths, 3).double()
        torch.testing.assert_close(states, torch.einsum("p,psk->sk", log_p.softmax(0), chosen))


def test_density_integrates_to_one():
    truth = law(2)
    line = torch.linspace(-7, 8, 301, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    total = truth.log_prob(points).exp().sum() * 0.05**2
    assert total.item() == pytest.approx(1, abs=1e-7)


def test_draws_follow_the_chain_and_the_emissions():
    truth = law(6)
    x, z = truth.simulate(ROWS, seed=1)
    p = truth.initial
    for step in range(6):
        share = torch.bincount(z[:, step], minlength=3) / ROWS
        assert ((share - p).abs() < 4 * (p * (1 - p) / ROWS).sqrt()).all()
        p = p @ truth.transition
    white = (x - truth.emission.loc[z]) / truth.emission.scale[z]
    assert abs(white.mean()) < 4 / math.sqrt(6 * ROWS)
    assert abs(white.var() - 1) < 4 * math.sqrt(2 / (6 * ROWS))
    residual = torch.nn.functional.one_hot(z, 3) - truth.states(x)
    assert (residual.mean(0).abs() < 4 * residual.std(0) / math.sqrt(ROWS)).all()


def test_draws_have_the_density():
    """E[q(x) / p(x)] = 1 for any density q: here one with a little more spread would have infinite variance,
    so q has a little less."""
    truth = law(3)
    narrow = Normal(truth.emission.loc, 0.9 * truth.emission.scale)
    other = HiddenMarkov(truth.initial, truth.transition, narrow, 3)
    x = truth.simulate(ROWS, seed=2).x
    ratio = (other.log_prob(x) - truth.log_prob(x)).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(ROWS)


def test_shapes_and_bad_arguments():
    truth = law(4)
    with torch.random.fork_rng(devices=[]):
        assert truth.sample().shape == (4,)
        assert truth.log_prob(truth.sample((2, 3))).shape == (2, 3)
    with pytest.raises(ValueError, match=r"x: expected \(..., 4\)"):
        truth.log_prob(torch.zeros(3))
    with pytest.raises(ValueError, match="transition, emission, steps"):
        HiddenMarkov(truth.initial, truth.transition[:2], truth.emission, 4)
