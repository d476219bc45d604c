"""The hidden Markov chain against the forward algorithm, sums over all paths and simulation."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_models.distributions.hidden_markov import HiddenMarkov

STATES = 3


def parameters(seed, batch=()):
    generator = torch.Generator().manual_seed(seed)
    initial = torch.rand(*batch, STATES, generator=generator, dtype=torch.float64)
    transition = torch.rand(*batch, STATES, STATES, generator=generator, dtype=torch.float64)
    mean = 4 * torch.randn(STATES, generator=generator, dtype=torch.float64)
    return initial / initial.sum(-1, True), transition / transition.sum(-1, True), mean


def chain(initial, transition, mean, length):
    return HiddenMarkov(initial, transition, dist.Normal(mean, 1.7), length)


def series(length, *batch, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*batch, length, generator=generator, dtype=torch.float64)


def forward(initial, transition, mean, x):
    """The forward algorithm, one step after another, each normalized."""
    law = dist.Normal(mean, 1.7)
    alpha, total = initial, torch.zeros((), dtype=torch.float64)
    for t, value in enumerate(x):
        alpha = (alpha if t == 0 else alpha @ transition) * law.log_prob(value).exp()
        total = total + alpha.sum().log()
        alpha = alpha / alpha.sum()
    return total


@pytest.mark.parametrize("length", [1, 2, 3, 16, 61, 400])
def test_density_is_the_forward_algorithm(length):
    theta, x = parameters(1), series(length)
    torch.testing.assert_close(chain(*theta, length).log_prob(x), forward(*theta, x), rtol=1e-10, atol=1e-10)


def test_density_is_a_sum_over_all_paths_and_states_are_its_shares():
    (initial, transition, mean), x = parameters(2), series(5)
    law, terms = dist.Normal(mean, 1.7), {}
    for path in itertools.product(range(STATES), repeat=5):
        term = initial[path[0]].log() + law.log_prob(x[:, None])[range(5), path].sum()
        terms[path] = term + sum(transition[a, b].log() for a, b in itertools.pairwise(path))
    whole = torch.stack(list(terms.values())).logsumexp(0)
    hidden = chain(initial, transition, mean, 5)
    torch.testing.assert_close(hidden.log_prob(x), whole, rtol=1e-10, atol=1e-10)
    expected = torch.zeros(5, STATES, dtype=torch.float64)
    for path, term in terms.items():
        expected[range(5), path] += (term - whole).exp()
    torch.testing.assert_close(hidden.state_probabilities(x), expected, rtol=1e-10, atol=1e-10)


def test_density_integrates_to_one():
    """Over two discrete observations: sixteen sequences are all there are."""
    initial, transition, _ = parameters(3)
    law = dist.Categorical(
        torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.2, 0.3, 0.4, 0.1]]).double()
    )
    hidden = HiddenMarkov(initial, transition, law, 2)
    every = torch.tensor(list(itertools.product(range(4), repeat=2)))
    torch.testing.assert_close(hidden.log_prob(every).exp().sum().item(), 1.0, rtol=1e-12, atol=0)


def test_impossible_moves_have_finite_gradients():
    """A chain that never goes back: zeros among its chances."""
    initial = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    transition = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.7, 0.3], [0.0, 0.0, 1.0]], dtype=torch.float64)
    x = series(9)
    slope = grad(lambda mean: chain(initial, transition, mean, 9).log_prob(x))
    gradient = slope(parameters(4)[2])
    expected = grad(lambda mean: forward(initial, transition, mean, x))(parameters(4)[2])
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    low = torch.arange(3.0, dtype=torch.float64)  # each state shows itself: going back is impossible
    law = dist.Uniform(low, low + 1, validate_args=False)
    hidden = HiddenMarkov(initial, transition, law, 3, validate_args=False)
    assert hidden.log_prob(torch.tensor([0.5, 1.5, 0.5])) == -torch.inf
    torch.testing.assert_close(hidden.log_prob(torch.tensor([0.5, 1.5, 2.5])).exp().item(), 0.12)


def test_it_can_be_batched_traced_and_expanded():
    many, x = parameters(6, batch=(5,)), series(20, 7)

    def log_p(initial, transition):
        return chain(initial, transition, many[2], 20).expand([7]).log_prob(x)

    with pyro.validation_enabled(False):  # value checks cannot be traced
        traced = make_fx(log_p)(many[0][0], many[1][0])
    batched = vmap(traced)(*many[:2])
    assert batched.shape == (5, 7)
    assert len(list(traced.graph.nodes)) < 100
    expected = [[forward(many[0][i], many[1][i], many[2], row) for row in x] for i in range(5)]
    torch.testing.assert_close(batched, torch.tensor(expected), rtol=1e-10, atol=1e-10)


def test_shapes_with_batches_of_parameters_and_vector_observations():
    initial, transition, _ = parameters(7, batch=(4,))
    law = dist.Normal(torch.zeros(4, 1, STATES, 2).double(), 2.0).to_event(1)
    hidden = HiddenMarkov(initial, transition, law, 6)
    assert (hidden.batch_shape, hidden.event_shape, hidden.event_dim) == ((4,), (6, 2), 2)
    assert hidden.support.event_dim == 2
    x = hidden.sample((3,))
    assert x.shape == (3, 4, 6, 2)
    assert hidden.log_prob(x).shape == (3, 4)
    assert hidden.expand([5, 4]).sample().shape == (5, 4, 6, 2)


def test_samples_have_the_chain_s_frequencies():
    """Start, moves and levels: 20,000 sequences of 4, each frequency within 4 standard errors."""
    initial, transition, _ = parameters(8)
    mean = torch.tensor([-40.0, 0.0, 40.0], dtype=torch.float64)  # so far apart that a value shows its state
    with torch.random.fork_rng():
        torch.manual_seed(9)
        states, x = chain(initial, transition, mean, 4).sample_with_states((20_000,))
    assert torch.equal(states, (x[..., None] - mean).abs().argmin(-1))
    occupation = [initial, initial @ transition, initial @ transition @ transition]
    for t, p in enumerate(occupation):
        share = torch.nn.functional.one_hot(states[:, t], STATES).double().mean(0)
        assert ((share - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()
    for k in range(STATES):
        after = states[:, 3][states[:, 2] == k]
        share = torch.nn.functional.one_hot(after, STATES).double().mean(0)
        assert (
            (share - transition[k]).abs() < 4 * (transition[k] * (1 - transition[k]) / len(after)).sqrt()
        ).all()


def test_shapes_that_do_not_fit_are_refused():
    initial, transition, mean = parameters(10)
    with pytest.raises(ValueError, match="one entry per state of initial"):
        HiddenMarkov(initial, transition[:2, :2], dist.Normal(mean, 1.0), 4)
    with pytest.raises(ValueError, match="time axis"):
        HiddenMarkov(initial, transition, dist.Normal(mean.expand(3, STATES), 1.0), 4)
