"""NaN is not minus infinity: where a density breaks down, plain Pyro is asked, and what is left is said."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import softplus

from inference import fit, fit_many
from inference.checks.holes import holes_beside
from inference.density.holes import Holes
from inference.density.log_density import LogDensity
from inference.density.stacked import stack
from inference.guides.starts import NoStartError
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations

ZEROS = {"x": torch.zeros(4)}


def density_of(story, data, **options):
    return LogDensity(*inspect_rows(Call.bind(story), as_observations(data)), **options)


def cubic(link):
    """Counts whose rate underflows left of -9; the posterior has the left tail of its Cauchy prior."""

    def story(n):
        a = pyro.sample("a", dist.Cauchy(0.0, 1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Poisson(link(a**3 - 2 * a)))

    return story


LINKS = {"exp": cubic(torch.exp), "softplus": cubic(softplus)}
# By quadrature on 800,000 points between -1e7 and 6: quantiles 1 %, 5 %, 50 %, 95 %, 99 %.
TRUTH = {"exp": (-150.1, -30.02, -2.891, 0.916, 1.185), "softplus": (-134.7, -26.93, -2.570, 0.980, 1.266)}
SHARES = (0.01, 0.05, 0.5, 0.95, 0.99)


@pytest.mark.parametrize("folding", [True, False])
@pytest.mark.parametrize("link", LINKS)
def test_the_density_of_a_rate_that_underflows_is_plain_pyro_s(link, folding):
    density = density_of(LINKS[link], ZEROS, folding=folding)
    assert density.traced and (density.folded is not None) == folding
    z = torch.tensor([[-800.0], [-150.0], [-40.0], [-9.2], [-9.0], [0.0], [2.0]], dtype=torch.float64)
    value, grad = density.value_and_grad(z)
    plain = torch.tensor([density.by_pyro(point) for point in z], dtype=torch.float64)
    torch.testing.assert_close(value, plain, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(density.log_prob(z), plain, rtol=1e-9, atol=1e-9)
    prior = -2 * z / (1 + z**2)  # where the rate is 0, nothing else is left of the gradient
    torch.testing.assert_close(grad[:4], prior[:4], rtol=1e-9, atol=1e-9)
    assert not density.holes.points


@pytest.mark.parametrize("link", LINKS)
def test_its_quantiles_by_quadrature(link):
    density = density_of(LINKS[link], ZEROS)
    tail, bulk = -torch.logspace(7, 0, 40_000, dtype=torch.float64), torch.linspace(-1, 6, 40_000).double()
    a = torch.cat([tail, bulk[1:]])
    p = density.log_prob(a[:, None]).exp()
    mass = torch.cumulative_trapezoid(p, a)
    found = [float(a[1:][(mass / mass[-1] < share).sum()]) for share in SHARES]
    assert found == pytest.approx(TRUTH[link], rel=2e-3, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("link", LINKS)
def test_a_cauchy_tail_is_right_or_refused(link):
    posterior = fit(LINKS[link], ZEROS, seed=0)
    found = torch.quantile(posterior.draws["a"].flatten(), torch.tensor(SHARES, dtype=torch.float64))
    truth = torch.tensor(TRUTH[link], dtype=torch.float64)
    assert (found[1:] - truth[1:]).abs().le(0.25 * truth[1:].abs()).all()
    assert not posterior.certificate.trusted or abs(found[0] / truth[0] - 1) < 0.3
    assert "NaN" not in " ".join(posterior.certificate.reasons)


def some_zero(n):
    """Counts that are 0 for sure in rows of the first kind."""
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("row", n):
        z = pyro.sample("z", dist.Bernoulli(p))
        pyro.sample("y", dist.Poisson(z * rate))


def kinds(n):
    """The same with a categorical, whose first kind has rate 0."""
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    shares, zero = torch.stack([1 - p, p]), torch.zeros_like(rate)
    with pyro.plate("row", n):
        z = pyro.sample("z", dist.Categorical(shares))
        pyro.sample("y", dist.Poisson(torch.stack([zero, rate])[z]))


COUNTS = torch.tensor([0.0, 0, 1, 3, 0, 2, 0, 0, 4, 0])


def by_quadrature():
    """Means of p and the rate, and the log evidence, on a grid."""
    p = (torch.arange(1000).double() + 0.5)[:, None] / 1000
    rate = (torch.arange(1500).double() + 0.5) / 100
    poisson = (
        COUNTS.double()[:, None, None] * rate.log() - rate - torch.lgamma(COUNTS.double() + 1)[:, None, None]
    )
    row = torch.log(p * poisson.exp() + (1 - p) * (COUNTS == 0).double()[:, None, None])
    log_joint = row.sum(0) + math.log(6) + (p * (1 - p)).log() + rate.log() - rate
    joint = log_joint.exp() / 1000 / 100
    mass = joint.sum()
    return float((joint * p).sum() / mass), float((joint * rate).sum() / mass), float(mass.log())


@pytest.mark.parametrize("story", [some_zero, kinds])
def test_a_rate_of_zero_that_is_summed_out(story):
    p, rate, evidence = by_quadrature()
    posterior = fit(story, {"y": COUNTS}, seed=0)
    certificate = posterior.certificate
    assert certificate.trusted, certificate.reasons
    assert certificate.log_evidence == pytest.approx(evidence, abs=0.02)
    for name, truth in (("p", p), ("rate", rate)):
        draws = posterior.draws[name].flatten()
        assert abs(float(draws.mean()) - truth) < 5 * float(draws.std()) / 2000**0.5


def test_several_data_sets_with_a_rate_of_zero():
    p, rate, _ = by_quadrature()
    batch = fit_many(some_zero, [{"y": COUNTS}, {"y": COUNTS.flip(0)}], seed=0)
    assert all(c.trusted for c in batch.certificates)
    assert batch.draws["p"].mean(1).tolist() == pytest.approx([p, p], abs=0.03)
    assert batch.draws["rate"].mean(1).tolist() == pytest.approx([rate, rate], abs=0.12)


def test_svi_takes_care_after_two_steps():
    guide = pyro.infer.autoguide.AutoNormal
    posterior = fit(some_zero, {"y": COUNTS}, guide=guide, steps=40, restarts=1, draws=100, seed=0)
    notes = " ".join(posterior.certificate.notes)
    assert "2 of 40 steps had a loss or gradient that was not finite" in notes


def broken_left_of(edge):
    """0/0 left of an edge; right of it the likelihood does not depend on a."""

    def story(n):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        r = torch.relu(a - edge)
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(r / r, 1.0))

    return story


def test_a_hole_in_the_posterior_is_a_reason_and_one_far_away_is_none():
    x = {"x": torch.tensor([0.5, 0.7])}
    near = fit(broken_left_of(-1.0), x, seed=0, restarts=2).certificate
    assert not near.trusted
    assert any("NaN" in r and "Pyro's own is" in r and "a = -" in r for r in near.reasons)
    far = fit(broken_left_of(-9.0), x, seed=0, restarts=2).certificate
    assert far.trusted, far.reasons


def test_each_data_set_of_a_batch_is_told_of_its_hole():
    batch = fit_many(broken_left_of(-1.0), [{"x": torch.tensor([0.5])}, {"x": torch.tensor([0.7])}], seed=0)
    for certificate in batch.certificates:
        assert not certificate.trusted
        assert any("NaN" in reason for reason in certificate.reasons)


def test_holes_are_told_by_the_density_at_their_rim():
    density = density_of(broken_left_of(-1.0), {"x": torch.tensor([0.5])})
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    beside, within = z[z[:, 0] > -1], z[z[:, 0].abs() < 0.5]
    assert holes_beside(density, Holes(), beside, density.log_prob(beside)) == []
    density.log_prob(z)
    assert 550 < density.holes.found < 720  # 15.9 % of 4,000, give or take 3.6 standard errors
    (reason,) = holes_beside(density, density.holes, beside, density.log_prob(beside))
    assert "rim: -2.463 nats" in reason  # log N(-1; 0, 1) + log N(.5; 1, 1) = -1.419 - 1.044
    # draws that end at .5 have log densities above -2.1: had they come from a narrower posterior, they would
    # not reach to the hole
    assert holes_beside(density, density.holes, within, density.log_prob(within)) == []


def test_a_single_point_without_gradient_is_no_hole():
    def tip(n):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(a.abs().sqrt(), 1.0))

    density = density_of(tip, {"x": torch.tensor([0.5])})
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(500, 1, generator=generator, dtype=torch.float64)
    _, grad = density.value_and_grad(torch.zeros(1, 1, dtype=torch.float64))
    density.holes.look(
        torch.zeros(1, 1).double(), torch.zeros(1).double(), torch.full((1, 1), math.nan).double()
    )
    assert density.holes.points and grad.numel() == 1
    assert holes_beside(density, density.holes, z, density.log_prob(z)) == []


def test_a_batch_keeps_the_holes_of_each_data_set():
    story = broken_left_of(-1.0)
    stacked = stack(story, [{"x": torch.tensor([0.5])}, {"x": torch.tensor([0.7])}])
    assert stacked.batched
    z = torch.tensor([[[1.0], [2.0]], [[-2.0], [2.0]]], dtype=torch.float64)
    stacked.log_prob(z)
    assert [stacked.holes(p).found for p in (0, 1)] == [0, 1]


def test_no_start_says_nan():
    def nowhere(n):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(0 * a / (0 * a), 1.0))

    with pytest.raises(NoStartError, match=r"NaN \(not -inf\) at (\d+) of the last \1 points"):
        fit(nowhere, {"x": torch.tensor([0.5])}, seed=0)
