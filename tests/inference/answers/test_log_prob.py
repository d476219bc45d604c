"""Predictive densities log p(values | given, data) against closed forms, enumeration and quadrature."""

import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, prior
from ppl_models.binomial_pixels import EXAMPLE, binomial_pixels

CLASSES, PIXELS, LEVELS = EXAMPLE[0][1:]


@pytest.fixture(scope="module")
def images():
    return fit(binomial_pixels, EXAMPLE[1], EXAMPLE[0], restarts=1, draws=200, seed=0)


@pytest.fixture
def x():
    return torch.randint(0, LEVELS + 1, (7, PIXELS), generator=torch.Generator().manual_seed(1))


def joint(posterior, x, seen=None):
    """log p(x_i, y_i = c | theta_s): (draws, rows, classes)."""
    draws = {name: value.flatten(0, 1) for name, value in posterior.draws.items()}
    log_p = dist.Binomial(LEVELS, draws["ink"][:, None]).log_prob(x[:, None].double())
    if seen is not None:
        log_p = log_p * seen[:, None]
    return draws["weights"].log()[:, None] + log_p.sum(-1)


def log_mean(log_p):
    return log_p.logsumexp(0) - math.log(len(log_p))


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def test_labels_are_summed_out(images, x):
    found, error = images.log_prob({"x": x}, stderr=True)
    close(found, log_mean(joint(images, x).logsumexp(-1)))
    p = joint(images, x).logsumexp(-1).exp()
    close(error, p.std(0) / p.mean(0) / math.sqrt(len(p)))


def test_densities_of_labels_and_pixels(images, x):
    y = torch.tensor([3, 0, 2, 1, 0, 1, 2])
    both = log_mean(joint(images, x)[:, torch.arange(7), y])
    alone = log_mean(joint(images, x).logsumexp(-1))
    label = images.draws["weights"].flatten(0, 1)[:, y].mean(0).log()
    close(images.log_prob({"x": x, "y": y}), both)
    close(images.log_prob({"y": y}), label)
    close(images.log_prob({"x": x}, given={"y": y}), both - label)
    close(images.log_prob({"y": y}, given={"x": x}), both - alone)


def test_the_inversion_and_the_densities_are_one_thing(images, x):
    y = torch.tensor([3, 0, 2, 1, 0, 1, 2])
    found = images.probabilities("y", given={"x": x})[torch.arange(7), y].log()
    close(images.log_prob({"y": y}, given={"x": x}), found)


def test_masked_pixels_and_labels(images, x):
    seen = torch.rand(7, PIXELS, generator=torch.Generator().manual_seed(2)) < 0.5
    masked = np.ma.masked_array(x.numpy(), ~seen.numpy())
    close(images.log_prob({"x": masked}), log_mean(joint(images, x, seen).logsumexp(-1)))
    y = np.ma.masked_array([3, 0, 2, 1, 0, 1, 2], [0, 1, 1, 0, 0, 1, 0])
    rows = torch.arange(7)
    labelled = joint(images, x)[:, rows, torch.from_numpy(y.data)]
    expected = torch.where(torch.from_numpy(~y.mask), labelled, joint(images, x).logsumexp(-1))
    close(images.log_prob({"x": x, "y": y}), log_mean(expected))


def test_all_images_together_have_probability_one(images):
    """Every image of two pixels, the third one missing."""
    pairs = torch.cartesian_prod(torch.arange(LEVELS + 1), torch.arange(LEVELS + 1))
    x = torch.cat([pairs, torch.zeros(len(pairs), 1)], -1).numpy()
    mask = np.zeros(x.shape, dtype=bool)
    mask[:, 2] = True
    assert images.log_prob({"x": np.ma.masked_array(x, mask)}).logsumexp(0).abs() < 1e-6


def coin(n):
    bias = pyro.sample("bias", dist.Beta(2.0, 3.0))
    with pyro.plate("toss", n, dim=-1):
        pyro.sample("heads", dist.Binomial(7, bias))


def test_the_prior_predictive_is_beta_binomial():
    heads = torch.arange(8.0)
    found, error = prior(coin, draws=4000, seed=1).log_prob({"heads": heads}, stderr=True)
    expected = dist.BetaBinomial(2.0, 3.0, 7).log_prob(heads)
    assert ((found - expected).abs() <= 4 * error).all()
    assert (error < 0.1).all()


def test_the_posterior_predictive_is_beta_binomial():
    data = torch.tensor([5.0, 6.0, 3.0])
    heads = torch.arange(8.0)
    found, error = fit(coin, {"heads": data}, restarts=2, seed=1).log_prob({"heads": heads}, stderr=True)
    expected = dist.BetaBinomial(2.0 + data.sum(), 3.0 + (7 - data).sum(), 7).log_prob(heads)
    assert ((found - expected).abs() <= 4 * error).all()


def test_given_global_sites_on_the_prior_the_density_is_exact():
    heads = torch.arange(8.0)
    found, error = prior(coin, draws=10).log_prob({"heads": heads}, given={"bias": 0.3}, stderr=True)
    close(found, dist.Binomial(7, 0.3).log_prob(heads))
    assert (error < 1e-9).all()


def nested(n):
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.0))
    mu = pyro.sample("mu", dist.Normal(0.0, tau))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 0.7))


def test_given_one_global_site_the_others_follow_it():
    """x | tau = 2 is N(0, sqrt(4 + .49)), row by row although all rows share mu."""
    x = torch.tensor([1.5, 4.0])
    found, error = prior(nested, draws=1000, seed=1).log_prob({"x": x}, given={"tau": 2.0}, stderr=True)
    assert found.shape == (2,)
    assert ((found - dist.Normal(0.0, 4.49**0.5).log_prob(x)).abs() <= 4 * error).all()


def test_the_prior_density_of_a_global_site():
    """By quadrature over tau; given rows, over tau and mu."""
    posterior = prior(nested, draws=2000, seed=1)
    mu, x = torch.tensor(1.6), torch.tensor([1.5, 2.5])
    tau = (torch.arange(2000).double() + 0.5) / 100
    log_tau = dist.Gamma(2.0, 1.0).log_prob(tau) + math.log(0.01)
    grid = torch.linspace(-10, 10, 2001).double()
    both = log_tau[:, None] + dist.Normal(0.0, tau[:, None]).log_prob(grid)
    alone = (log_tau + dist.Normal(0.0, tau).log_prob(mu)).logsumexp(0)
    evidence = (both + dist.Normal(grid[:, None], 0.7).log_prob(x).sum(-1)).logsumexp((0, 1)) + math.log(0.01)
    inside = alone + dist.Normal(mu, 0.7).log_prob(x).sum() - evidence
    for given, expected in ((None, alone), ({"x": x}, inside)):
        found, error = posterior.log_prob({"mu": mu}, given=given, stderr=True)
        assert abs(found - expected) <= 4 * error and error < 0.2
    close(posterior.log_prob({"mu": mu}, given={"tau": 2.0}), dist.Normal(0.0, 2.0).log_prob(mu))


def schools(stddev):
    """Eight schools, centred: a local continuous latent for every row."""
    mu = pyro.sample("mu", dist.Normal(4.0, 5.0))
    tau = pyro.sample("tau", dist.HalfNormal(6.0))
    with pyro.plate("school", len(stddev), dim=-1):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        return pyro.sample("y", dist.Normal(theta, stddev))


def test_local_continuous_sites_are_integrated_out():
    """Within 4 of its own errors of the marginal Normal(mu, sqrt(tau^2 + sd^2)) over the same prior."""
    stddev = torch.tensor([15.0, 10.0, 16.0, 11.0])
    y = torch.tensor([28.0, 8.0, -3.0, 7.0])
    found, error = prior(schools, (stddev,), draws=1000, seed=2).log_prob({"y": y}, stderr=True)
    generator = torch.Generator().manual_seed(3)
    mu = 4.0 + 5.0 * torch.randn(200_000, 1, generator=generator).double()
    tau = 6.0 * torch.randn(200_000, 1, generator=generator).double().abs()
    expected = log_mean(dist.Normal(mu, (tau**2 + stddev**2).sqrt()).log_prob(y))
    assert ((found - expected).abs() <= 4 * (error + 0.005)).all()
    assert (error > 0).all() and (error < 0.3).all()


def test_covariates_that_are_missing():
    """c ~ N(m, 1.5), y ~ N(2 c, 1), m ~ N(0, 2): seen c count, missing ones are integrated out."""

    def regression(n):
        m = pyro.sample("m", dist.Normal(0.0, 2.0))
        with pyro.plate("row", n, dim=-1):
            c = pyro.sample("c", dist.Normal(m, 1.5))
            pyro.sample("y", dist.Normal(2 * c, 1.0))

    c = np.ma.masked_array([0.7, 2.0, 3.0], [False, True, False])
    y = torch.tensor([1.0, 2.0, 5.0])
    full = torch.from_numpy(c.data).float()
    seen = dist.Normal(0.0, 2.5).log_prob(full) + dist.Normal(2 * full, 1.0).log_prob(y)
    expected = torch.where(torch.from_numpy(c.mask), dist.Normal(0.0, 26.0**0.5).log_prob(y), seen)
    found, error = prior(regression, draws=4000, seed=1).log_prob({"c": c, "y": y}, stderr=True)
    assert ((found - expected).abs() <= 4 * error).all()
    assert (error < 0.2).all()


def test_large_errors_are_said():
    def sharp(n):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(m, 0.01))

    posterior = prior(sharp, draws=100)
    with pytest.warns(UserWarning, match="standard error"):
        posterior.log_prob({"x": torch.tensor([0.5])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, error = posterior.log_prob({"x": torch.tensor([0.5])}, stderr=True)
    assert error > 0.5


def test_a_row_is_the_same_in_any_company(images, x):
    alone = torch.cat([images.log_prob({"x": x[i : i + 1]}) for i in range(3)])
    close(images.log_prob({"x": x})[:3], alone, 1e-12)


@pytest.mark.parametrize("count", [2, 200_000])
def test_values_read_by_python_do_not_freeze(count):
    """The program may be traced, for many rows always: into a graph that holds the value of one draw."""

    def reads(n):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(m.tolist(), 1.0))

    posterior = prior(reads, draws=50)
    expected = log_mean(dist.Normal(posterior.draws["m"].flatten(), 1.0).log_prob(torch.tensor(1.0)))
    close(posterior.log_prob({"x": torch.ones(count)})[:2], expected.expand(2))


def test_plates_that_share_a_dimension_are_told_apart():
    """The global plate of pixels lies at the rows' dimension, and is as long as the rows or not."""
    args = {"classes": CLASSES, "pixels": PIXELS, "levels": LEVELS}
    posterior = prior(binomial_pixels, kwargs=args, draws=5)
    weights = torch.full((CLASSES,), 1 / CLASSES).double()
    ink = torch.rand(CLASSES, PIXELS, generator=torch.Generator().manual_seed(3)).double()
    x = torch.tensor([[1, 2, 3], [4, 5, 0], [2, 2, 2]])
    log_p = dist.Binomial(LEVELS, ink[None]).log_prob(x[:, None].double()).sum(-1)
    for rows in (2, 3):
        found = posterior.log_prob({"x": x[:rows]}, given={"weights": weights, "ink": ink})
        close(found, (log_p + weights.log()).logsumexp(-1)[:rows])


def test_what_cannot_be_asked(images, x):
    with pytest.raises(ValueError, match="values: expected at least one"):
        images.log_prob({})
    with pytest.raises(ValueError, match="'x' is in given too"):
        images.log_prob({"x": x}, given={"x": x})
    with pytest.raises(ValueError, match="'ink' is shared by all rows"):
        images.log_prob({"ink": images.draws["ink"][0, 0]})
    with pytest.raises(ValueError, match="'pixel' is not a site"):
        images.log_prob({"pixel": x})
