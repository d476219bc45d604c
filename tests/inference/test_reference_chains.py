"""The trusted sampler: right on what is known, by its own means, or it says that it failed."""

import math

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import reference
from inference.hmc.long_chains import approach, run_chains
from ppl_models import linear_regression


def density(function):
    """Value and gradient of a log density of one point, by autograd."""

    def target(z):
        z = z.detach().requires_grad_()
        value = function(z)
        (grad,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), grad

    return target


def sampled(function, size, seed, measure=lambda z: {}, **options):
    options = {"draws": 500, "chains": 32, "budget": 30_000, **options}
    generator = torch.Generator().manual_seed(seed)
    return run_chains(density(function), size, generator, measure=measure, **options)


def error(draws):
    """Monte Carlo standard error of the mean of (chains, draws), by ArviZ."""
    return az.mcse(draws.numpy(), method="mean").item()  # of numba, where it is there, an array


def test_conjugate_regression_is_sampled_as_its_closed_form():
    """Means and standard deviations within 4.5 Monte Carlo errors, and the certificate is what ArviZ says."""
    args, data = linear_regression.EXAMPLE
    posterior = reference(linear_regression.linear_regression, data, args, seed=1)
    certificate = posterior.certificate
    assert certificate.trusted, certificate
    assert certificate.method == "hmc" and certificate.gradient_calls > 0
    assert posterior.history == []  # chains have no ELBO
    assert certificate.rhat < 1.01 and certificate.ess > 400
    exact = linear_regression.exact(data, *args)
    variance = posterior.draws["variance"]
    assert variance.shape == (32, 500)
    expected = float(exact["variance"].mean)
    assert abs(float(variance.mean()) - expected) < 4.5 * error(variance)
    summary = az.summary(posterior.to_arviz(predictive=0), var_names=["weights", "variance"], round_to="none")
    assert summary["r_hat"].max() <= certificate.rhat + 1e-9
    assert summary[["ess_bulk", "ess_tail"]].min().min() >= certificate.ess - 1e-6


def test_every_element_of_every_site_is_judged():
    """A simplex near its edge, and a deterministic site one element of which is a constant."""

    def story():
        p = pyro.sample("p", dist.Dirichlet(torch.tensor([0.8, 2.0, 5.0])))
        pyro.deterministic("odds", torch.stack([p[0] / p[2], p[1] / p[2], p[2] / p[2]]))
        with pyro.plate("row", 10):
            pyro.sample("x", dist.Categorical(p))

    data = {"x": torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])}
    one = reference(story, data, seed=2, chains=16, draws=300)
    assert one.certificate.trusted, one.certificate
    assert {n: v.shape[2:] for n, v in one.draws.items()} == {"p": (3,), "odds": (3,)}
    # Dirichlet(2.8, 5, 10): mean 2.8 / 17.8; p0 / p2 is beta prime (2.8, 10), of mean 2.8 / 9.
    for draws, mean in ((one.draws["p"][..., 0], 2.8 / 17.8), (one.draws["odds"][..., 0], 2.8 / 9)):
        assert abs(float(draws.mean()) - mean) < 4.5 * error(draws)


def test_a_quantity_that_no_chain_agrees_on_is_named():
    """Judged through `measure`: the unknowns have converged, a function of them has not."""
    seen = []

    def measure(z):
        seen.append(len(z))
        chain = torch.arange(len(z)) * 8 // len(z)
        return {"fine": z, "stuck": z + 3.0 * chain[:, None]}

    found = sampled(lambda z: -0.5 * z.square().sum(-1), 2, seed=3, measure=measure, chains=8, budget=1500)
    assert not found.converged and seen
    assert any("R-hat of stuck" in r for r in found.reasons)


def test_equal_seeds_make_equal_draws_and_others_do_not():
    one, same, other = (
        sampled(lambda z: -0.5 * z.square().sum(-1), 2, seed, draws=20, budget=300) for seed in (1, 1, 2)
    )
    assert torch.equal(one.z, same.z) and not torch.equal(one.z, other.z)
    assert one.z.shape == (32, 20, 2)


def test_a_gaussian_of_condition_number_a_million():
    """Variances from 1e-3 to 1e3 in directions of no axis: the metric must be found from wrong starts."""
    g = torch.Generator().manual_seed(4)
    basis, _ = torch.linalg.qr(torch.randn(100, 100, generator=g, dtype=torch.float64))
    variance = torch.logspace(-3, 3, 100, dtype=torch.float64)
    mean = torch.linspace(-3, 3, 100, dtype=torch.float64)
    found = sampled(
        lambda z: -0.5 * (((z - mean) @ basis).square() / variance).sum(-1), 100, seed=5, draws=250
    )
    assert found.converged, found.reasons
    white = (found.z.flatten(0, 1) - mean) @ basis / variance.sqrt()
    size = min(found.ess_bulk, found.ess_tail)
    # 5 standard errors of 100 means and 100 variances: a false alarm has a chance of 1e-4.
    assert (white.mean(0).abs() < 5 / math.sqrt(size)).all()
    assert ((white.var(0) - 1).abs() < 5 * math.sqrt(2 / size)).all()


def two_modes(z):
    other = z - torch.tensor([10.0, 0.0, 0.0], dtype=z.dtype)
    parts = [math.log(w) - 0.5 * x.square().sum(-1) for w, x in ((0.3, z), (0.7, other))]
    return torch.logaddexp(*parts)


def test_two_modes_are_refused():
    """Ten standard deviations apart: the wider boxes of starts reach both, and R-hat tells."""
    found = sampled(two_modes, 3, seed=6, budget=2500)
    assert not found.converged
    assert any("The chains disagree" in r for r in found.reasons)
    assert any("budget of 2500" in r for r in found.reasons)


def test_a_mode_that_only_the_prior_reaches_is_not_missed():
    """The boxes end at 8 and hold one mode; the prior reaches the other, at 60, and R-hat tells."""

    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 40.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal((mu / 2 * (mu / 60 - 1)), 1.0))

    data = {"x": torch.zeros(20)}
    posterior = reference(story, data, seed=9, draws=100, budget=1500)
    assert not posterior.certificate.trusted
    assert float(posterior.draws["mu"].max()) > 55 and float(posterior.draws["mu"].min()) < 5


def funnel(z):
    v, x = z[:, 0], z[:, 1:]
    return -v.square() / 18 - 0.5 * x.shape[-1] * v - 0.5 * x.square().sum(-1) * (-v).exp()


def banana(z):
    return -z[:, 0].square() / 8 - (z[:, 1] - 0.3 * z[:, 0].square()).square() / 0.18


@pytest.mark.parametrize(
    ("function", "size", "stddev"), [(funnel, 10, 3.0), (banana, 2, 2.0)], ids=["funnel", "banana"]
)
def test_curved_densities_are_right_or_refused(function, size, stddev):
    found = sampled(function, size, seed=7, draws=250, budget=4000)
    if not found.converged:
        assert found.reasons
        return
    first = found.z[..., 0]
    assert abs(float(first.mean())) < 4.5 * error(first)
    assert abs(float(first.square().mean()) - stddev**2) < 4.5 * error(first.square())


def test_starts_come_down_without_climbing_to_the_mode():
    """In the funnel, whose log density has no bound, and on a slope of 1e8 standard deviations."""
    g = torch.Generator().manual_seed(8)
    z, calls = approach(density(funnel), 64, 10, g)
    assert calls < 100 and float(z[:, 0].min()) > -9
    z, calls = approach(density(lambda z: -0.5 * ((z - 50) / 5e-7).square().sum(-1)), 8, 3, g)
    assert calls < 301 and float((z - 50).abs().max()) < 1e-4
    with pytest.raises(ValueError, match="no start with a finite log density"):
        approach(lambda z: (z[:, 0] * math.nan, z), 4, 2, g)


def test_what_cannot_be_sampled_is_said():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(mu, 2.0))

    def trained(n):
        weight = pyro.param("weight", torch.ones(()))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(pyro.sample("mu", dist.Normal(weight, 1.0)), 2.0))

    def discrete(n):
        y = pyro.sample("y", dist.Bernoulli(0.3))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(y, 2.0))

    data = {"x": torch.tensor([3.0, 5.0])}
    with pytest.raises(ValueError, match="draws, chains: expected at least 4 of each, got 500 and 2"):
        reference(story, data, chains=2)
    with pytest.raises(ValueError, match="data"):
        reference(story, {}, (2,))
    with pytest.raises(ValueError, match="networks or parameters, got weight"):
        reference(trained, data)
    with pytest.raises(ValueError, match="nothing continuous is unknown"):
        reference(discrete, data)
