"""KL and bits from log densities row by row: closed forms, bounds and their bias, arguments."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from experiments.compare import bits_per_dimension, divergence, kl_from

P, Q = Normal(0.0, 1.0), Normal(0.7, 1.5)
KL = torch.distributions.kl_divergence(P, Q).item()


def draws(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def importance(x, seed, particles):
    """log q(x) of q = N(0, 2), as z ~ N(0, 1), x | z ~ N(z, 1), by draws of N(x/2, 1), and its error.

    The posterior is N(x/2, 1/2), so the weights are bounded.
    """
    z = x / 2 + draws(seed, particles, len(x))
    weights = (
        Normal(0.0, 1.0).log_prob(z) + Normal(z, 1.0).log_prob(x) - Normal(x / 2, 1.0).log_prob(z)
    ).exp()
    return weights.mean(0).log(), weights.std(0) / weights.mean(0) / math.sqrt(particles)


def test_equal_densities_are_zero():
    log_p = P.log_prob(draws(0, 100))
    result = kl_from(log_p, log_p)
    assert (result.value, result.error, result.floor, result.detectable) == (0, 0, 0, 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_densities(seed):
    x = draws(seed, 4000)
    result = kl_from(P.log_prob(x), Q.log_prob(x))
    assert abs(result.value - KL) < 4 * result.error
    assert result.bound == ""
    assert "at most" not in str(result)


def test_an_estimated_density_gives_an_upper_bound_and_its_bias():
    """Beside the exact density at the same draws: higher by half the mean squared error."""
    q = Normal(0.0, math.sqrt(2))
    apart, left, found = [], [], []
    for seed in range(200):
        x = draws(2 * seed, 200)
        exact = kl_from(P.log_prob(x), q.log_prob(x)).value
        found.append(kl_from(P.log_prob(x), *importance(x, 2 * seed + 1, particles=20)))
        apart.append(found[-1].value - exact)
        left.append(found[-1].excess - exact)
    error = torch.tensor(apart).std().item() / math.sqrt(200)
    assert sum(apart) / 200 > 4 * error
    assert abs(sum(left) / 200) < 4 * error + 0.0005  # .15^2 / 20^2, the second order
    spread = torch.tensor([r.value for r in found]).std().item()
    assert abs(sum(r.error for r in found) / 200 / spread - 1) < 0.2
    assert {r.bound for r in found} == {"upper"}
    assert str(found[0]).startswith("kl at most ")


def test_floor_is_what_a_perfect_but_estimated_density_shows():
    truth = Normal(0.0, math.sqrt(2))
    above = 0
    for seed in range(400):
        x = math.sqrt(2) * draws(2 * seed, 200)
        result = kl_from(truth.log_prob(x), *importance(x, 2 * seed + 1, particles=50))
        above += result.value > result.floor
    # One point beyond the band: the bias is taken to second order, the noise as normal.
    assert abs(above / 400 - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 400) + 0.01


def test_divergence_to_a_function():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 2.0]])
    p, q = MultivariateNormal(torch.zeros(2), covariance), MultivariateNormal(torch.ones(2), 2 * torch.eye(2))
    exact = divergence(p, q)
    by_function = divergence(p, q.log_prob)
    assert by_function.value == pytest.approx(exact.value)
    assert by_function.bound == ""
    noisy = divergence(p, lambda x: (q.log_prob(x), torch.full((len(x),), 0.1)))
    assert noisy.bound == "upper"
    assert noisy.excess == pytest.approx(exact.value - 0.005)
    with pytest.raises(ValueError, match='kind: expected "kl"'):
        divergence(p, q.log_prob, kind="js")


def test_no_density_there_means_infinity():
    assert kl_from([0.0, 0.0], [-math.inf, 0.0]).value == math.inf


def test_bits_per_dimension():
    """A uniform density on [0, 1)^8 of 16 grey levels each costs 4 bits a pixel."""
    uniform = bits_per_dimension(torch.zeros(10), dimensions=8, bin_width=1 / 16)
    assert (uniform.value, uniform.error, uniform.bound) == (4, 0, False)
    x = draws(0, 2000, 3)
    result = bits_per_dimension(Normal(0.0, 2.0).log_prob(2 * x).sum(-1), dimensions=3)
    entropy = (0.5 * math.log(2 * math.pi * math.e) + math.log(2)) / math.log(2)
    assert abs(result.value - entropy) < 4 * result.error
    assert str(bits_per_dimension(x[:, 0], 3, bound=True)).startswith("at most ")
    assert bits_per_dimension(x[:, 0], 3, log_prob_error=0.1).bound
    assert not bits_per_dimension(x[:, 0], 3, log_prob_error=0.1, bound=False).bound


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kl_from([0.0, 0.0], [0.0, 0.0, 0.0]), "equal shapes"),
        (lambda: kl_from([0.0], [0.0]), "log_p: expected"),
        (lambda: kl_from([0.0, math.inf], [0.0, 0.0]), "log_p: expected finite"),
        (lambda: kl_from([0.0, 0.0], [0.0, math.nan]), "log_q: expected"),
        (lambda: kl_from([0.0, 0.0], [0.0, 0.0], [0.1, -0.1]), "log_q_error"),
        (lambda: kl_from([0.0, 0.0], [0.0, 0.0], [0.1]), "log_q_error"),
        (lambda: bits_per_dimension([0.0, 0.0], 0), "dimensions"),
        (lambda: bits_per_dimension([0.0, 0.0], 1, bin_width=-1.0), "bin_width"),
        (lambda: bits_per_dimension([0.0, 0.0], 1, log_prob_error=-1.0), "log_prob_error"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
