"""Paths of hidden states, given what was seen, against a sum over all paths."""

import itertools

import pyro.distributions as dist
import pytest
import torch

from ppl_models.distributions.hidden_markov import HiddenMarkov
from ppl_models.distributions.hidden_path import HiddenPath

INITIAL = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
TRANSITION = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4]], dtype=torch.float64)
MEAN = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)


def chain(length):
    return HiddenMarkov(INITIAL, TRANSITION, dist.Normal(MEAN, 1.5), length)


def test_probabilities_of_all_paths_add_to_one_and_are_their_shares():
    x = torch.tensor([0.3, -1.2, 2.2, 1.4], dtype=torch.float64)
    paths = torch.tensor(list(itertools.product(range(3), repeat=4)))
    p = HiddenPath(chain(4), x).log_prob(paths).exp()
    law, shares = dist.Normal(MEAN, 1.5), []
    for path in paths:
        emitted = law.log_prob(x[:, None]).exp()[range(4), path].prod()
        shares.append(INITIAL[path[0]] * TRANSITION[path[:-1], path[1:]].prod() * emitted)
    shares = torch.stack(shares)
    torch.testing.assert_close(p, shares / shares.sum(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_drawn_paths_have_those_probabilities(length):
    """Frequencies of states, and of neighbouring pairs, over 20,000 paths, within 4.5 standard errors."""
    x = torch.randn(2, length, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    law = HiddenPath(chain(length), x)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        paths = law.sample((20_000,))
    assert paths.shape == (20_000, 2, length)
    assert torch.isfinite(law.log_prob(paths)).all()  # no impossible move
    every = torch.tensor(list(itertools.product(range(3), repeat=length)))
    p = law.log_prob(every.unsqueeze(1).expand(-1, 2, length)).exp()  # (paths, 2)
    for t in range(length):
        for state in range(3):
            expected = p[every[:, t] == state].sum(0)
            found = (paths[..., t] == state).double().mean(0)
            assert ((found - expected).abs() < 4.5 * (expected * (1 - expected) / 20_000).sqrt() + 1e-9).all()
        if t:
            both = (every[:, t] == 1) & (every[:, t - 1] == 1)
            expected = p[both].sum(0)
            found = ((paths[..., t] == 1) & (paths[..., t - 1] == 1)).double().mean(0)
            assert ((found - expected).abs() < 4.5 * (expected * (1 - expected) / 20_000).sqrt() + 1e-9).all()
