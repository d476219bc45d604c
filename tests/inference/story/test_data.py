"""What `fit` accepts as data, and what it says about data that do not fit the story."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit
from inference.density.log_density import LogDensity
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations
from ppl_models.binomial_pixels import EXAMPLE, binomial_pixels

ARGS, DATA = EXAMPLE
CLASSES, PIXELS, LEVELS = ARGS[1:]
QUICK = {"restarts": 2, "draws": 200, "seed": 0}
ROUGH = {"restarts": 1, "draws": 50}


def density(story, data, args=(), kwargs=None):
    structure, observations = inspect_rows(Call.bind(story, args, kwargs), as_observations(data))
    return LogDensity(structure, observations)


def heights(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 2.0))


def refused(match, data, args=ARGS, story=binomial_pixels, **settings):
    with pytest.raises(ValueError, match=match):
        fit(story, data, args, **settings)


def test_a_site_that_does_not_exist():
    refused(
        r"'z' is not a sample site of binomial_pixels. Its sites are weights, ink, y, x", {**DATA, "z": 2}
    )
    refused("expected a mapping of site names", DATA["x"])


@pytest.mark.parametrize(
    ("site", "value", "match"),
    [
        ("x", DATA["x"].T, r"data\['x'\]: expected shape \(6, 3\).*got \(3, 6\).*transposed"),
        ("x", DATA["x"][:4], r"data\['x'\]: expected shape \(6, 3\).*got \(4, 3\).*number of rows"),
        ("y", DATA["y"][:, None], r"data\['y'\]: expected shape \(6,\).*got \(6, 1\)"),
        (
            "x",
            DATA["x"][:, 0],
            r"data\['x'\]: expected shape \(6, 3\).*got \(6,\).*last dimension is missing",
        ),
        (
            "x",
            DATA["x"] + 2,
            r"data\['x'\]: expected values in the support of Binomial "
            r"\(IntegerInterval, lower 0, upper 5\), got 6 outside",
        ),
        ("x", DATA["x"] + 0.5, r"data\['x'\]: expected values in the support"),
        (
            "y",
            DATA["y"] + 2,
            r"data\['y'\]: expected values in the support of Categorical.*got 6 outside it, such as 4",
        ),
        ("y", DATA["y"] - 5.0, r"data\['y'\]: expected values in the support"),
        ("x", torch.where(DATA["x"] == 5, torch.nan, DATA["x"]), r"data\['x'\].*3 NaN.*masked_invalid\(x\)"),
        ("x", torch.where(DATA["x"] == 5, torch.inf, DATA["x"]), r"data\['x'\]: expected finite numbers"),
        ("x", DATA["x"][:0], r"data\['x'\]: expected at least one value, got shape \(0, 3\)"),
        ("y", np.array(list("abcdef")), r"data\['y'\]: expected numbers, got an array of dtype <U1"),
        ("y", np.array([2, 2, None, 3, 2, 3]), r"data\['y'\]: expected numbers"),
    ],
)
def test_values_that_do_not_fit(site, value, match):
    refused(match, {**DATA, site: value})


@pytest.mark.parametrize("kind", ["u1", "i2", ">i4", "f4", ">f8", "list", "strided"])
def test_numbers_of_any_kind(kind):
    x = DATA["x"].numpy()
    value = x.tolist() if kind == "list" else x.repeat(2, 0)[::2] if kind == "strided" else x.astype(kind)
    z = torch.zeros(1, 15, dtype=torch.float64)
    expected = density(binomial_pixels, DATA, ARGS).log_prob(z)
    torch.testing.assert_close(density(binomial_pixels, {**DATA, "x": value}, ARGS).log_prob(z), expected)


def test_booleans_are_coin_tosses():
    def coin(n):
        bias = pyro.sample("bias", dist.Beta(2.0, 3.0))
        with pyro.plate("toss", n, dim=-1):
            pyro.sample("heads", dist.Bernoulli(bias))

    tosses = np.array([True, False, True])
    posterior = fit(coin, {"heads": tosses}, **QUICK)
    certificate = posterior.certificate
    expected = (
        math.lgamma(4) + math.lgamma(4) - math.lgamma(8) + math.lgamma(5) - math.lgamma(2) - math.lgamma(3)
    )
    assert abs(certificate.log_evidence - expected) < 4 * certificate.log_evidence_stderr


def test_the_data_are_not_changed():
    x = torch.tensor([3.0, 5.0, 4.0])
    before = x.clone()
    posterior = fit(heights, {"x": x}, **QUICK)
    posterior.sample("x", given={"x": np.ma.masked_array(x.numpy(), [1, 0, 0])})
    x_before = posterior.log_prob({"x": before})
    x[:] = -100.0
    assert posterior.to_arviz(predictive=0).observed_data["x"].values.tolist() == before.tolist()
    torch.testing.assert_close(posterior.log_prob({"x": before}), x_before)


def test_the_rows_are_counted_where_n_is_left_out():
    sizes = {"classes": CLASSES, "pixels": PIXELS, "levels": LEVELS}
    z = torch.ones(1, 15, dtype=torch.float64)
    counted, told = density(binomial_pixels, DATA, kwargs=sizes), density(binomial_pixels, DATA, ARGS)
    torch.testing.assert_close(counted.log_prob(z), told.log_prob(z))
    refused(r"data\['y'\]: expected shape \(7,\)", DATA, (7, CLASSES, PIXELS, LEVELS))


def test_how_the_story_is_called():
    refused("args: expected a tuple", DATA, args=6)
    refused(r"binomial_pixels\(n: .* cannot be called with 5 positional", DATA, args=(*ARGS, 2))
    refused("story: expected a callable, got int", DATA, story=3)
    refused(
        "args: expected plain arrays, got a masked array",
        {"x": [2.0]},
        (np.ma.masked_array([2], [1]),),
        heights,
    )
    with pytest.raises(ValueError, match="cannot be called with .* keywords .*'colour'"):
        fit(binomial_pixels, DATA, ARGS, {"colour": 3})


@pytest.mark.parametrize("name", ["draws", "restarts", "steps"])
def test_counts_are_positive(name):
    refused(f"{name}: expected a positive integer, got 0", DATA, **{name: 0})


def test_what_is_not_there_is_said():
    refused("guide: expected 'auto' or one of flow, full_rank, laplace, mean_field", DATA, guide="magic")
    refused("device: expected a device that torch can use here, got 'nowhere'", DATA, device="nowhere")


def test_nothing_observed_points_to_the_prior():
    refused("data: expected at least one observed site.*inference.prior", {}, (3,), heights)


def observes(x, y=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 3.0))
    with pyro.plate("row", len(x), dim=-1):
        return pyro.sample("y", dist.Normal(slope * x, 2.0), obs=y)


def test_a_model_that_observes_inside():
    """slope | y ~ N(sum xy / (sum x^2 + 4 / 9), 2 / sqrt(sum x^2 + 4 / 9)), in both ways of writing."""
    x, y = torch.tensor([2.0, -1.5, 3.0]), torch.tensor([5.0, -2.0, 6.5])
    precision = (x @ x + 4 / 9) / 4
    inside = fit(observes, {}, (x, y), **QUICK)
    outside = fit(observes, {"y": y}, (x,), **QUICK)
    for posterior in (inside, outside):
        draws = posterior.draws["slope"]
        assert posterior.certificate.trusted
        assert abs(draws.mean() - x @ y / 4 / precision) < 4 / math.sqrt(400 * precision)
        assert abs(draws.std() * precision.sqrt() - 1) < 4 / math.sqrt(800)
    assert inside.certificate.log_evidence == pytest.approx(outside.certificate.log_evidence)
    new = torch.tensor([10.0, 20.0, 30.0, 2.0])
    assert inside.sample("y", args=(new,), num_samples=3).shape == (3, 4)
    assert inside.sample("y").shape == (3,)
    groups = inside.to_arviz(predictive=3)
    assert groups.observed_data["y"].values.tolist() == y.tolist()
    assert groups.log_likelihood["joint"].shape == (2, 200, 3)
    refused(r"data\['y'\]: the story observes this site itself", {"y": y}, (x, y), observes)


def test_missing_values_on_which_nothing_depends_are_left_out():
    """As if those elements had never been: the same posterior, the same evidence."""
    x = np.ma.masked_array([3.0, 99.0, 4.0, 8.0], [0, 1, 0, 0])
    z = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    gap = density(heights, {"x": x}).log_prob(z) - density(heights, {"x": x.compressed()}).log_prob(z)
    torch.testing.assert_close(gap, torch.zeros(5, dtype=torch.float64))
    nothing = np.ma.masked_array([3.0, 4.0], [0, 0])
    torch.testing.assert_close(
        density(heights, {"x": nothing}).log_prob(z), density(heights, {"x": nothing.data}).log_prob(z)
    )


def test_what_stands_under_a_mask_does_not_matter():
    x = np.ma.masked_array([3.0, np.nan, 4.0, np.inf], [0, 1, 0, 1])
    assert fit(heights, {"x": x}, **QUICK).certificate.trusted
    y = np.ma.masked_array([2, 2, -7, 3, 2, 99], [0, 0, 1, 0, 0, 1])
    assert fit(binomial_pixels, {**DATA, "y": y}, ARGS, **ROUGH).draws["ink"].isfinite().all()


def test_missing_parts_of_a_joint_event():
    def pairs(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.MultivariateNormal(mu, torch.tensor([[2.0, 0.5], [0.5, 3.0]])))

    x = np.array([[2.5, 3.5], [-4.0, 2.0], [3.0, 6.0]])
    whole = np.ma.masked_array(x, [[0, 0], [1, 1], [0, 0]])
    z = torch.ones(1, 2, dtype=torch.float64)
    torch.testing.assert_close(
        density(pairs, {"x": whole}).log_prob(z), density(pairs, {"x": x[[0, 2]]}).log_prob(z)
    )
    part = np.ma.masked_array(x, [[0, 0], [1, 0], [0, 0]])
    refused(r"data\['x'\]: 1 events are partly missing.*MultivariateNormal", {"x": part}, (), pairs)


def test_missing_labels_are_summed_out():
    """Against the same sum written by hand, at several points."""
    y = np.ma.masked_array(DATA["y"].numpy(), [0, 1, 0, 1, 0, 0])
    found = density(binomial_pixels, {**DATA, "y": y}, ARGS)
    z = torch.randn(4, found.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    draws = found.constrain(z)
    log_p = dist.Binomial(LEVELS, draws["ink"][:, None]).log_prob(DATA["x"][:, None]).sum(-1)
    joint = draws["weights"].log()[:, None] + log_p
    joint = torch.where(torch.from_numpy(y.mask), joint.logsumexp(-1), joint[:, torch.arange(6), DATA["y"]])
    complete = density(binomial_pixels, DATA, ARGS)
    rest = complete.log_prob(z) - (draws["weights"].log()[:, None] + log_p)[
        :, torch.arange(6), DATA["y"]
    ].sum(-1)
    torch.testing.assert_close(found.log_prob(z), rest + joint.sum(-1), rtol=1e-10, atol=1e-10)


def test_missing_covariates_become_unknowns():
    """c ~ N(m, 1.5), y ~ N(2 c, .7), all Gaussian: the posterior of the missing c in closed form."""

    def story(n):
        m = pyro.sample("m", dist.Normal(0.0, 2.0))
        with pyro.plate("row", n, dim=-1):
            c = pyro.sample("c", dist.Normal(m, 1.5))
            pyro.sample("y", dist.Normal(2 * c, 0.7))

    c = np.ma.masked_array([0.6, 99.0, 3.0], [0, 1, 0])
    y = torch.tensor([1.5, 2.5, 5.0])
    posterior = fit(story, {"c": c, "y": y}, restarts=2, draws=1000, seed=0)
    # of (m, c_1): precision and its product with the mean
    precision = np.array([[1 / 4 + 3 / 2.25, -1 / 2.25], [-1 / 2.25, 1 / 2.25 + 4 / 0.49]])
    mean = np.linalg.solve(precision, [3.6 / 2.25, 2 * 2.5 / 0.49])
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    draws = {"m": posterior.draws["m"].flatten(), "c": posterior.draws["c"].flatten(0, 1)}
    for k, values in enumerate((draws["m"], draws["c"][:, 1])):
        assert abs(values.mean() - mean[k]) < 4 * sd[k] / math.sqrt(2000)
        assert abs(values.std() / sd[k] - 1) < 4 / math.sqrt(4000)
    assert (draws["c"][:, 0] == 0.6).all() and (draws["c"][:, 2] == 3.0).all()
    # log evidence: (c_0, c_2, y_1) and y_0, y_2 given c
    covariance = np.full((3, 3), 4.0) + 2.25 * np.eye(3)
    covariance = np.diag([1, 1, 2]) @ covariance @ np.diag([1, 1, 2]) + np.diag([0, 0, 0.49])
    seen = dist.MultivariateNormal(torch.zeros(3).double(), torch.from_numpy(covariance))
    expected = (
        seen.log_prob(torch.tensor([0.6, 3.0, 2.5]).double())
        + dist.Normal(torch.tensor([1.2, 6.0]), 0.7).log_prob(y[[0, 2]]).sum()
    )
    assert posterior.certificate.log_evidence == pytest.approx(float(expected), abs=1e-4)


def test_missing_positive_values_keep_their_support():
    def story(n):
        with pyro.plate("row", n, dim=-1):
            duration = pyro.sample("duration", dist.Gamma(2.0, 0.5))
            pyro.sample("y", dist.Normal(duration, 2.0))

    duration = np.ma.masked_array([3.0, 9.0, 9.0], [0, 1, 1])
    draws = fit(story, {"duration": duration, "y": torch.tensor([2.5, -3.0, 6.0])}, **QUICK).draws["duration"]
    assert (draws > 0).all() and (draws[..., 0] == 3.0).all() and (draws[..., 1:].std((0, 1)) > 0.3).all()


def test_a_latent_count_without_end():
    def story(n):
        with pyro.plate("row", n, dim=-1):
            count = pyro.sample("count", dist.Poisson(3.0))
            pyro.sample("x", dist.Normal(count, 2.0))

    refused(
        "site 'count': expected a discrete site that can be summed out.*Poisson", {"x": [2.0, 3.0]}, (), story
    )
    assert fit(story, {"x": [2.0, 3.0], "count": [2, 4]}).certificate.method == "exact"
