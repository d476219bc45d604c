"""Draws whose weights look right and are not: copies, chains, densities of another space."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import certify
from inference.checks.independence import dependences
from inference.checks.stein import displacements

K = torch.tensor([2.0, 0.0, 1.0])
EXACT = dist.Gamma(torch.tensor(5.0).double(), torch.tensor(4.0).double())  # Gamma(2, 1) and three counts
DRAWS = 8000


def counts(n):
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("row", n):
        pyro.sample("k", dist.Poisson(rate))


def judged(rate, log_q):
    return certify(counts, {"k": K}, draws={"rate": rate}, log_q=log_q).certificate


def exact(count=DRAWS):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EXACT.sample((count,))


def chain(memory):
    """A stationary chain of normal scores, and the Gamma draws of the same ranks."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(DRAWS, generator=generator, dtype=torch.float64).tolist()
    scores = [noise[0]]
    for e in noise[1:]:
        scores.append(memory * scores[-1] + math.sqrt(1 - memory**2) * e)
    return exact().sort().values[torch.tensor(scores).argsort().argsort()]


def test_independent_draws_are_trusted_without_a_word_about_their_number():
    found = judged(exact(), EXACT.log_prob(exact()))
    assert found.trusted, found
    assert not any("are few" in note for note in found.notes)  # 2,000 in each part: .697, which is .70


@pytest.mark.parametrize("rate, reason", [
    (chain(0.999), "not independent"),
    (chain(0.9), "not independent"),
    (exact().sort().values, "not independent"),
    (exact(130)[torch.arange(DRAWS) % 130], "130 of the 8000 draws differ"),
    (exact(800).repeat_interleave(10), "800 of the 8000 draws differ"),
])  # fmt: skip
def test_chains_and_copies_are_refused_though_their_weights_are_equal(rate, reason):
    found = judged(rate, EXACT.log_prob(rate))
    assert not found.trusted and any(reason in r for r in found.reasons), found


@pytest.mark.parametrize("size, draws", [(1, 100), (1, 8000), (30, 400), (300, 400)])
def test_independent_draws_of_any_shape_pass(size, draws):
    for seed in range(20):
        z = torch.randn(draws, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert not dependences(z) and not dependences(torch.tan(z))  # heavy tails too: ranks


def test_one_slow_unknown_among_many_is_seen():
    z = torch.randn(4000, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[:, 7] = z[:, 7].cumsum(0)
    assert len(dependences(z)) == 1


def test_the_density_of_the_logarithm_is_found_though_evidence_and_scale_are_right_by_chance():
    """E[1 / rate] = 4 / (5 - 1) = 1, and Gamma(4, 4) has (z - mean) g = -1: only the place is wrong."""
    rate = exact()
    found = judged(rate, EXACT.log_prob(rate) + rate.log())
    assert abs(found.log_evidence - judged(rate, EXACT.log_prob(rate)).log_evidence) < 0.02
    assert not found.trusted and any("lie elsewhere" in r for r in found.reasons), found
    z = dist.Gamma(4.0, 4.0).sample((1000,)).double().log()[:, None]
    assert len(displacements(z, 5 - 4 * z.exp())) == 1 and not displacements(
        rate[:1000, None].log(), 5 - 4 * rate[:1000, None]
    )


def test_a_constant_too_much_or_too_little_is_said_with_its_sign():
    rate = exact()
    for constant, said in ((2.0, "more evidence"), (-2.0, "less evidence")):
        found = judged(rate, EXACT.log_prob(rate) + constant)
        assert not found.trusted and any(f"nats {said}" in r for r in found.reasons), found


def test_values_beside_a_simplex_have_no_weight():
    def story(n):
        shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("row", n):
            pyro.sample("k", dist.Categorical(shares))

    posterior = dist.Dirichlet(torch.tensor([4.0, 3.0, 2.0]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shares = posterior.sample((DRAWS,))
    log_q, data = posterior.log_prob(shares), {"k": torch.tensor([0, 0, 0, 1, 1, 2])}
    assert certify(story, data, draws={"shares": shares}, log_q=log_q).certificate.trusted
    for wrong in (2 * shares, shares.log()):
        found = certify(story, data, draws={"shares": wrong}, log_q=log_q).certificate
        assert not found.trusted and any("8000 of 8000 draws lie outside" in n for n in found.notes), found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_shares_of_two_modes_that_log_q_has_wrong_are_seen(share, seed):
    """A sign that the data do not tell: both modes have half of the mass; draws may not."""

    def story():
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("row", 4):
            pyro.sample("x", dist.Normal(mu.abs(), 1.0))

    x = torch.tensor([3.0, 3.5, 2.5, 3.2])
    precision = 4 + 1 / 9
    centre, scale = x.sum() / precision, precision**-0.5
    generator = torch.Generator().manual_seed(seed)
    side = torch.where(torch.rand(8000, generator=generator) < share, 1.0, -1.0)
    mu = side * (centre + scale * torch.randn(8000, generator=generator))
    both = torch.stack([dist.Normal(sign * centre, scale).log_prob(mu) for sign in (-1, 1)])
    found = certify(story, {"x": x}, draws={"mu": mu}, log_q=both.logsumexp(0) - math.log(2), seed=seed)
    assert found.certificate.trusted == (share == 0.5), found.certificate
