"""Divergences: zero on equal inputs, closed forms on Gaussians, bounds, infinity."""

import math

import pytest
import torch
from torch.distributions import Exponential, HalfNormal, MultivariateNormal, Normal, Poisson

from experiments.compare import divergence, kinds
from experiments.compare.found import names

KINDS = names(kinds)
P, Q = Normal(0.0, 1.0), Normal(0.7, 1.5)


def kl(p, q):
    return torch.distributions.kl_divergence(p, q).sum().item()


def by_quadrature(integrand):
    x = torch.linspace(-14, 15, 200_001, dtype=torch.float64)
    p, q = P.log_prob(x).exp(), Q.log_prob(x).exp()
    return torch.trapezoid(integrand(p, q), x).item()


TRUTH = {
    "kl": kl(P, Q),
    "reverse_kl": kl(Q, P),
    "tv": by_quadrature(lambda p, q: (p - q).abs() / 2),
    "js": by_quadrature(lambda p, q: (p * (2 * p / (p + q)).log() + q * (2 * q / (p + q)).log()) / 2),
}


def test_every_kind_has_a_truth():
    assert sorted(TRUTH) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_equal_inputs_are_zero(kind):
    result = divergence(Q, Normal(0.7, 1.5), kind=kind)
    assert result.value == pytest.approx(0, abs=1e-12)
    assert result.error == pytest.approx(0, abs=1e-12)
    assert result.floor == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_truth_lies_within_four_errors(kind, seed):
    result = divergence(P, Q, kind=kind, seed=seed)
    assert 0 < result.error < 0.05
    assert abs(result.value - TRUTH[kind]) < 4 * result.error
    assert result.detectable == pytest.approx(2.486 * result.error, rel=1e-3)


def test_errors_are_calibrated():
    """The z-scores of 200 seeds have variance 1: the band is 4 errors of a sample variance."""
    results = [divergence(P, Q, num_samples=500, seed=s) for s in range(200)]
    z = torch.tensor([(r.value - TRUTH["kl"]) / r.error for r in results])
    assert abs(z.var().item() - 1) < 4 * math.sqrt(2 / 199) + 0.1


def test_multivariate_and_batched_agree_with_the_closed_form():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 2.0]])
    p = MultivariateNormal(torch.zeros(2), covariance)
    q = MultivariateNormal(torch.ones(2), 2 * torch.eye(2))
    joint = divergence(p, q)
    assert abs(joint.value - kl(p, q)) < 4 * joint.error
    batch = Normal(torch.zeros(2, 3), 1.0), Normal(torch.full((2, 3), 0.3), 1.0)
    product = divergence(*batch)
    assert abs(product.value - kl(*batch)) < 4 * product.error


def test_discrete():
    p, q = Poisson(3.0), Poisson(4.0)
    result = divergence(p, q)
    assert abs(result.value - kl(p, q)) < 4 * result.error


def test_no_density_there_means_infinity():
    assert divergence(Normal(0.0, 1.0), HalfNormal(1.0)).value == math.inf
    finite = divergence(HalfNormal(1.0), Normal(0.0, 1.0))
    assert finite.value == pytest.approx(math.log(2), abs=1e-5)
    one_sided = divergence(Normal(-50.0, 1.0), Exponential(1.0), kind="tv")
    assert one_sided.value == pytest.approx(1)
    disjoint = divergence(Normal(-50.0, 1.0), Exponential(1.0), kind="js")
    assert disjoint.value == pytest.approx(math.log(2))


def test_global_random_state_is_untouched_and_seeds_repeat():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (divergence(P, Q, seed=s).value for s in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "wasserstein"}, "kind: expected one of js, kl, reverse_kl, tv"),
        ({"num_samples": 1}, "num_samples"),
        ({"q": Normal(torch.zeros(2), 1.0)}, r"got \(\) and \(2,\)"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        divergence(**{"p": P, "q": Q, **arguments})
