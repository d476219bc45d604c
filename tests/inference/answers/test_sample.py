"""Draws from conditionals: moments and frequencies within Monte Carlo error, shapes, seeds."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, prior
from ppl_models.binomial_pixels import EXAMPLE, binomial_pixels
from ppl_models.linear_regression import linear_regression

CLASSES, PIXELS, LEVELS = EXAMPLE[0][1:]


@pytest.fixture(scope="module")
def images():
    return fit(binomial_pixels, EXAMPLE[1], EXAMPLE[0], restarts=1, draws=800, seed=0)


def flat(posterior):
    return {name: value.flatten(0, 1) for name, value in posterior.draws.items()}


def pixel_masses(ink):
    """Probabilities of every grey level: (*ink shape, levels + 1)."""
    return dist.Binomial(LEVELS, ink[..., None]).log_prob(torch.arange(LEVELS + 1.0)).exp()


def same_frequencies(found, probabilities):
    """Chi-squared: the 1e-4 quantile by Wilson and Hilferty, cells of small expectation joined."""
    count, order = len(found), probabilities.argsort()
    observed = torch.bincount(found.long(), minlength=len(probabilities)).double()[order]
    expected = count * probabilities[order] / probabilities.sum()
    keep = expected.cumsum(0) > 5
    cells = [
        (observed[~keep].sum(), expected[~keep].sum()),
        *zip(observed[keep], expected[keep], strict=True),
    ]
    cells = [(o, e) for o, e in cells if e > 0]
    statistic = sum(float((o - e) ** 2 / e) for o, e in cells)
    k = max(1, len(cells) - 1)
    assert statistic < k * (1 - 2 / (9 * k) + 3.72 * math.sqrt(2 / (9 * k))) ** 3


def test_pixels_given_a_label(images):
    """The label itself tells the draws apart: p(x | y) = E[weights_y p(x | y, ink)] / E[weights_y]."""
    found = images.sample("x", given={"y": torch.tensor([3, 0])}, num_samples=800)
    assert found.shape == (800, 2, PIXELS)
    draws = flat(images)
    for row, label in enumerate((3, 0)):
        weight = draws["weights"][:, label] / draws["weights"][:, label].sum()
        expected = torch.tensordot(weight, pixel_masses(draws["ink"][:, label]), 1)
        for pixel in range(PIXELS):
            same_frequencies(found[:, row, pixel], expected[pixel])


def test_half_an_image_is_completed(images):
    x = np.ma.masked_array([[5, 1, 0], [0, 4, 5]], [[0, 0, 1], [0, 1, 1]])
    found = images.sample("x", given={"x": x}, num_samples=800)
    seen = torch.from_numpy(~x.mask)
    assert (found[:, seen] == torch.from_numpy(x.data)[seen]).all()
    draws = flat(images)
    mass = pixel_masses(draws["ink"])  # (draws, classes, pixels, levels + 1)
    joint = draws["weights"] * mass[:, :, 0, 5] * mass[:, :, 1, 1]
    same_frequencies(found[:, 0, 2], torch.tensordot(joint / joint.sum(), mass[:, :, 2], 2))
    joint = draws["weights"] * mass[:, :, 0, 0]
    pair = torch.einsum("sc,sca,scb->ab", joint, mass[:, :, 1], mass[:, :, 2])
    same_frequencies(found[:, 1, 1] * (LEVELS + 1) + found[:, 1, 2], pair.flatten())


def test_labels_given_pixels_are_the_probabilities(images):
    x = torch.tensor([[5, 1, 0], [2, 4, 5], [4, 3, 2]])
    found = images.sample("y", given={"x": x}, num_samples=800)
    assert found.shape == (800, 3) and not found.is_floating_point()
    for row, expected in enumerate(images.probabilities("y", given={"x": x})):
        same_frequencies(found[:, row], expected)


def test_fitted_rows_keep_their_labels(images):
    """No question about new rows: every image is drawn anew from its own class."""
    found = images.sample("x", num_samples=600)
    labels, ink = EXAMPLE[1]["y"], flat(images)["ink"]
    for row, label in enumerate(labels):
        same_frequencies(found[:, row, 0], pixel_masses(ink[:, label, 0]).mean(0))


def mixture(n):
    with pyro.plate("class", 2, dim=-1):
        mu = pyro.sample("mu", dist.Normal(torch.tensor([-6.0, 6.0]), 1.0))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(torch.tensor([0.5, 0.5])))
        pyro.sample("x", dist.Normal(mu[y], 1.0))


def test_fitted_rows_keep_their_latents():
    x = torch.tensor([-7.0, -5.0, 6.0, 0.05])
    posterior = fit(mixture, {"x": x}, restarts=2, draws=400, seed=0)
    drawn = posterior.sample(["x", "y"], num_samples=400)
    assert drawn["x"].shape == drawn["y"].shape == (400, 4)
    assert (drawn["y"][:, :2] == 0).all() and (drawn["y"][:, 2] == 1).all()
    assert (drawn["x"][:, :3].sign() == x[:3].sign()).all()
    share = posterior.probabilities("y")[3, 1]
    error = math.sqrt(share * (1 - share) / 400)
    assert abs(drawn["y"][:, 3].double().mean() - share) < 4 * error
    assert ((drawn["x"][:, 3] > 0) == (drawn["y"][:, 3] == 1)).double().mean() > 0.99


def test_a_regression_at_new_covariates():
    generator = torch.Generator().manual_seed(1)
    covariates = 3.0 * torch.randn(30, 2, generator=generator)
    y = covariates @ torch.tensor([2.0, -1.5]) + 2.0 * torch.randn(30, generator=generator)
    posterior = fit(linear_regression, {"y": y}, (covariates, 2.0, 3.0), restarts=2, draws=500, seed=0)
    new = torch.tensor([[4.0, 0.5], [-2.0, 6.0], [0.3, 0.2]])
    found = posterior.sample("y", args=(new, 2.0, 3.0), num_samples=1000)
    draws = flat(posterior)
    mean = draws["weights"] @ new.double().T
    variance = mean.var(0) + draws["variance"].mean()
    assert ((found.mean(0) - mean.mean(0)).abs() < 4 * (variance / 1000).sqrt()).all()
    # a sample variance of near-normal draws has relative error sqrt(2 / 1000)
    assert ((found.var(0) / variance - 1).abs() < 4 * math.sqrt(2 / 1000) + 0.05).all()
    rows = torch.corrcoef(found.T)
    implied = torch.corrcoef(mean.T) * (mean.var(0)[:, None] * mean.var(0)).sqrt()
    implied = implied / (variance[:, None] * variance).sqrt()
    off = ~torch.eye(3, dtype=torch.bool)
    assert ((rows - implied)[off].abs() < 4 / math.sqrt(1000)).all()  # one sample, one draw of the weights


def coins(n):
    """Two tosses of a new coin in every row, whose bias all rows share."""
    bias = pyro.sample("bias", dist.Beta(2.0, 3.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("first", dist.Binomial(5, bias))
        pyro.sample("second", dist.Binomial(5, bias))


def test_every_row_weighs_the_draws_by_itself():
    posterior = prior(coins, draws=4000, seed=1)
    found = posterior.sample("second", given={"first": torch.tensor([0.0, 5.0, 2.0])}, num_samples=800)
    for row, first in enumerate((0.0, 5.0, 2.0)):
        law = dist.BetaBinomial(2.0 + first, 3.0 + 5 - first, 5)
        same_frequencies(found[:, row], law.log_prob(torch.arange(6.0)).exp())


def test_local_continuous_sites_given_what_was_measured():
    """z ~ N(0, 2), x ~ N(z, 1): z | x ~ N(.8 x, sqrt(.8)); 1,000 simulated z per row."""

    def measured(n):
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 2.0))
            pyro.sample("x", dist.Normal(z, 1.0))

    x = torch.tensor([1.5, -2.0])
    for posterior in (prior(measured), fit(measured, {"x": torch.tensor([0.3])}, restarts=2, draws=200)):
        found = posterior.sample("z", given={"x": x}, num_samples=800)
        # error of resampling and of 1,000 simulated z, of which about 400 effective
        error = math.sqrt(0.8) * math.sqrt(1 / 800 + 1 / 300)
        assert ((found.mean(0) - 0.8 * x).abs() < 4 * error).all()
        assert ((found.std(0) / math.sqrt(0.8) - 1).abs() < 4 * math.sqrt(0.5 * (1 / 800 + 1 / 300))).all()


def test_the_prior_draws_parameters_and_data_together():
    drawn = prior(coins, draws=500, seed=2).sample(["bias", "first"], args=(200,), num_samples=50)
    assert drawn["bias"].shape == (50,) and drawn["first"].shape == (50, 200)
    error = (drawn["bias"] * (1 - drawn["bias"]) / 1000).sqrt()
    assert ((drawn["first"].mean(-1) / 5 - drawn["bias"]).abs() < 4 * error + 1e-9).all()
    assert drawn["bias"].std() > 0.1


def test_global_sites_are_the_fitted_draws(images):
    drawn = images.sample("ink", num_samples=300)
    pool = flat(images)["ink"][:, 0, 0]
    assert torch.isin(drawn[:, 0, 0], pool).all()
    assert len(drawn[:, 0, 0].unique()) > 290  # without replacement while they last
    assert images.sample("ink", num_samples=1500).shape == (1500, CLASSES, PIXELS)


def test_shapes(images):
    y = torch.tensor([3, 2])
    assert images.sample("x", given={"y": y}).shape == (2, PIXELS)
    assert images.sample("x", given={"y": y}, num_samples=1).shape == (1, 2, PIXELS)
    both = images.sample(["x", "y"], args=(9, CLASSES, PIXELS, LEVELS), num_samples=4)
    assert {name: tuple(v.shape) for name, v in both.items()} == {"x": (4, 9, PIXELS), "y": (4, 9)}
    assert images.sample(["x"]).keys() == {"x"}
    assert images.sample("x").shape == EXAMPLE[1]["x"].shape


def test_the_same_seed_gives_the_same_draws(images):
    y = torch.tensor([3, 2, 0])
    first = images.sample("x", given={"y": y}, num_samples=5, seed=7)
    assert (first == images.sample("x", given={"y": y}, num_samples=5, seed=7)).all()
    assert (first != images.sample("x", given={"y": y}, num_samples=5, seed=8)).any()


def test_deterministic_sites():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        pyro.deterministic("total", n * mu)
        with pyro.plate("row", n, dim=-1):
            x = pyro.sample("x", dist.Normal(mu, 2.0))
            pyro.deterministic("above", x - mu)

    posterior = fit(story, {"x": torch.tensor([3.0, 5.0, 4.0, 8.0])}, restarts=2, draws=50)
    torch.testing.assert_close(posterior.draws["total"], 4 * posterior.draws["mu"])
    assert posterior.draws["above"].shape == (2, 50, 4)
    drawn = posterior.sample(["mu", "x", "above", "total"], args=(3,), num_samples=6)
    torch.testing.assert_close(drawn["x"] - drawn["mu"][:, None], drawn["above"])
    torch.testing.assert_close(drawn["total"], 3 * drawn["mu"])


def test_keywords_stay_when_other_arguments_come():
    def story(n, levels=2):
        chance = pyro.sample("chance", dist.Beta(4.0, 3.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Binomial(levels, chance))

    x = torch.tensor([7.0, 9.0, 12.0])
    for args in ((3,), ()):
        posterior = fit(story, {"x": x}, args, {"levels": 15}, restarts=1, draws=50)
        assert posterior.sample("x", args=(40,)).max() > 4
        assert posterior.sample("x", args=(40, 3)).max() <= 3
        assert posterior.log_prob({"x": torch.tensor([14.0])}).isfinite()


def test_what_cannot_be_asked(images):
    y = torch.tensor([3, 2])
    with pytest.raises(ValueError, match="'ink' is shared by all rows"):
        images.sample("ink", given={"y": y})
    with pytest.raises(ValueError, match="num_samples: expected a positive integer or None, got 0"):
        images.sample("x", num_samples=0)
    with pytest.raises(ValueError, match="'z' is not a site"):
        images.sample("z")
    with pytest.raises(ValueError, match=r"given\['y'\].*support"):
        images.sample("x", given={"y": torch.tensor([CLASSES])})
    with pytest.raises(ValueError, match="args: expected a tuple"):
        images.sample("x", args=9)
