"""From a real fit to ArviZ: groups, named dimensions, and what people then do with them."""

import json

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive
from torch.distributions import constraints

from inference import fit, load, prior
from ppl_models.binomial_pixels import EXAMPLE, binomial_pixels

az = pytest.importorskip("arviz")
OLD = int(az.__version__.split(".")[0]) < 1
ROWS = 25
QUICK = {"restarts": 2, "draws": 300, "seed": 0}
COVARIATES = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(1))
Y = COVARIATES @ torch.tensor([2.0, -1.5]) + 0.7 * torch.randn(
    ROWS, generator=torch.Generator().manual_seed(2)
)


def line(covariates, stddev_prior=2.0):
    tau = pyro.sample("tau", dist.HalfNormal(stddev_prior))
    with pyro.plate("feature", covariates.shape[1], dim=-1):
        slope = pyro.sample("slope", dist.Normal(0.0, 3.0))
    pyro.deterministic("steeper", 2 * slope)
    with pyro.plate("row", len(covariates), dim=-1):
        pyro.sample("y", dist.Normal(covariates.double() @ slope.double(), tau))


def flat_line(covariates):
    """A worse story: it leaves the covariates out."""
    tau = pyro.sample("tau", dist.HalfNormal(2.0))
    with pyro.plate("row", len(covariates), dim=-1):
        pyro.sample("y", dist.Normal(0.0, tau))


@pytest.fixture(scope="module")
def posterior():
    return fit(line, {"y": Y}, (COVARIATES,), **QUICK)


@pytest.fixture(scope="module")
def idata(posterior):
    return posterior.to_arviz(predictive=40)


def names(tree):
    return set(tree.groups()) if OLD else {path.strip("/") for path in tree.groups} - {""}


def flat(posterior, name):
    return posterior.draws[name].flatten(0, 1)


def test_every_group_with_its_dimensions(idata):
    expected = {
        "posterior": {"tau": (), "slope": ("feature",), "steeper": ("steeper_dim_0",)},
        "log_likelihood": {"joint": ("row",)},
        "log_prior": {"tau": (), "slope": ("feature",)},
        "sample_stats": {"lp": (), "log_q": (), "log_weight": ()},
        "posterior_predictive": {"y": ("row",)},
        "prior": {"tau": (), "slope": ("feature",), "steeper": ("steeper_dim_0",)},
        "prior_predictive": {"y": ("row",)},
    }
    assert names(idata) == {*expected, "observed_data", "constant_data", "fit"}
    for group, variables in expected.items():
        found = {str(n): tuple(map(str, v.dims)) for n, v in idata[group].data_vars.items()}
        assert found == {n: ("chain", "draw", *dims) for n, dims in variables.items()}, group
    assert dict(idata["posterior"].sizes) == {"chain": 2, "draw": 300, "feature": 2, "steeper_dim_0": 2}
    assert idata["posterior_predictive"]["y"].size == 40 * ROWS
    assert idata["prior_predictive"]["y"].size == 40 * ROWS
    np.testing.assert_allclose(idata["observed_data"]["y"].values, Y.numpy())
    np.testing.assert_allclose(idata["constant_data"]["covariates"].values, COVARIATES.numpy())


def test_the_numbers_in_the_groups(posterior, idata):
    draws = {name: flat(posterior, name) for name in ("tau", "slope")}
    np.testing.assert_array_equal(idata["posterior"]["tau"].values, posterior.draws["tau"].numpy())
    mean = draws["slope"] @ COVARIATES.double().T
    log_p = dist.Normal(mean, draws["tau"][:, None]).log_prob(Y.double()).reshape(2, 300, ROWS)
    np.testing.assert_allclose(idata["log_likelihood"]["joint"].values, log_p.numpy(), rtol=1e-8)
    log_tau = dist.HalfNormal(2.0).log_prob(draws["tau"]).reshape(2, 300)
    log_slope = dist.Normal(0.0, 3.0).log_prob(draws["slope"]).reshape(2, 300, 2)
    np.testing.assert_allclose(idata["log_prior"]["tau"].values, log_tau.numpy(), rtol=1e-6)
    np.testing.assert_allclose(idata["log_prior"]["slope"].values, log_slope.numpy(), rtol=1e-6)
    jacobian = draws["tau"].log().reshape(2, 300)
    total = log_p.sum(-1) + log_tau + log_slope.sum(-1) + jacobian
    np.testing.assert_allclose(idata["sample_stats"]["lp"].values, total.numpy(), rtol=1e-6)
    stats = idata["sample_stats"]
    np.testing.assert_allclose(stats["log_weight"].values, (stats["lp"] - stats["log_q"]).values)


def test_the_certificate_travels_along(posterior, idata):
    attrs = idata["posterior"].attrs
    assert attrs["story"] == "line" and int(attrs["trusted"]) == int(posterior.certificate.trusted)
    assert json.loads(attrs["certificate"])["khat"] == pytest.approx(posterior.certificate.khat)


def test_summary_and_diagnostics(posterior, idata):
    table = az.summary(idata, round_to="none")
    assert {"tau", "slope[0]", "slope[1]"} <= set(table.index)
    assert float(table.loc["tau", "mean"]) == pytest.approx(float(flat(posterior, "tau").mean()), rel=1e-6)
    assert float(table["r_hat"].astype(float).max()) < 1.03
    assert float(table["ess_bulk"].astype(float).min()) > 300  # draws are nearly independent


def test_leave_one_out(posterior, idata):
    """Against the exact leave-one-out density, by weights 1 / p(y_i | theta): within 4 of its own errors."""
    loo = az.loo(idata, pointwise=True)
    elpd = float(loo.elpd_loo if OLD else loo.elpd)
    log_p = idata["log_likelihood"]["joint"].values.reshape(-1, ROWS)
    by_hand = -(np.logaddexp.reduce(-log_p, axis=0) - np.log(len(log_p))).sum()
    assert elpd == pytest.approx(by_hand, abs=0.3)
    worse = fit(flat_line, {"y": Y}, (COVARIATES,), **QUICK).to_arviz(predictive=0)
    table = az.compare({"line": idata, "flat": worse})
    assert list(table.index) == ["line", "flat"]


def test_labels_and_names_of_ones_own(posterior):
    found = posterior.to_arviz(
        predictive=0, coords={"feature": ["age", "dose"]}, dims={"steeper": ["feature"]}
    )
    assert found["posterior"]["slope"].coords["feature"].values.tolist() == ["age", "dose"]
    assert not {"posterior_predictive", "prior", "prior_predictive"} & names(found)
    with pytest.raises(ValueError, match="coords"):
        posterior.to_arviz(predictive=0, coords={"feature": ["age"]})


def test_predictive_draws_follow_the_posterior(posterior, idata):
    found = idata["posterior_predictive"]["y"].values.reshape(-1, ROWS)
    mean = (flat(posterior, "slope") @ COVARIATES.double().T).mean(0).numpy()
    spread = np.sqrt(float(flat(posterior, "tau").square().mean()))
    assert np.abs((found.mean(0) - mean) / spread).max() < 4.5 * np.sqrt(1.3 / len(found))


@pytest.mark.skipif(
    not OLD, reason="renamed in ArviZ 1.x; tests/inference/arviz_groups/test_build.py runs there"
)
def test_plots(idata):
    import matplotlib.pyplot as plt

    az.plot_trace(idata, var_names=["tau", "slope"])
    az.plot_posterior(idata, var_names=["tau", "slope"])
    az.plot_ppc(idata, num_pp_samples=20, random_seed=1)
    az.plot_ppc(idata, group="prior", num_pp_samples=20, random_seed=1)
    az.plot_forest(idata)
    az.plot_khat(az.loo(idata, pointwise=True))
    plt.close("all")


@pytest.mark.skipif(
    not OLD, reason="ArviZ 1.x takes other arguments; tests/inference/arviz_groups/test_build.py runs there"
)
def test_loo_pit(posterior):
    """It wants a predictive draw for every posterior draw, and log likelihood under the site's name."""
    import matplotlib.pyplot as plt

    full = posterior.to_arviz(predictive=600, log_likelihood="sites")
    drawn = full["posterior_predictive"]["y"].values
    assert drawn.shape == (2, 300, ROWS)
    centre = (posterior.draws["slope"] @ COVARIATES.double().T).numpy()
    pairs = np.corrcoef((drawn - centre.mean((0, 1))).ravel(), (centre - centre.mean((0, 1))).ravel())
    assert pairs[0, 1] > 4 / np.sqrt(600 * ROWS) + 0.1  # each belongs to its posterior draw
    pit = az.loo_pit(full, y="y")
    assert pit.shape == (ROWS,) and ((pit >= 0) & (pit <= 1)).all()
    # the story is the truth: a uniform sample of 25, Kolmogorov distance beyond .39 with chance 1e-3
    assert np.abs(np.sort(pit) - (np.arange(ROWS) + 0.5) / ROWS).max() < 0.39
    az.plot_loo_pit(full, y="y")
    plt.close("all")


def test_netcdf_and_back(idata, tmp_path):
    idata.to_netcdf(str(tmp_path / "fit.nc"))
    again = az.from_netcdf(str(tmp_path / "fit.nc"))
    assert names(again) == names(idata)
    for group in names(idata):
        for name in idata[group].data_vars:
            np.testing.assert_array_equal(again[group][name].values, idata[group][name].values)


def test_two_observed_sites():
    """The joint by default, so that `az.loo` just runs; each by itself on request."""
    posterior = fit(binomial_pixels, EXAMPLE[1], EXAMPLE[0], **QUICK)
    draws = {name: value.flatten(0, 1) for name, value in posterior.draws.items()}
    x, y = EXAMPLE[1]["x"], EXAMPLE[1]["y"]
    label = draws["weights"][:, y].log()
    pixel = dist.Binomial(5, draws["ink"][:, y]).log_prob(x).sum(-1)
    joint = posterior.to_arviz(predictive=5)
    found = joint["log_likelihood"]
    assert list(found.data_vars) == ["joint"]
    np.testing.assert_allclose(found["joint"].values.reshape(-1, 6), (label + pixel).numpy(), rtol=1e-8)
    sites = posterior.to_arviz(predictive=0, log_likelihood="sites")["log_likelihood"]
    np.testing.assert_allclose(sites["y"].values.reshape(-1, 6), label.numpy(), rtol=1e-8)
    np.testing.assert_allclose(sites["x"].values.reshape(-1, 6), pixel.numpy(), rtol=1e-8)
    assert joint["posterior"]["ink"].dims == ("chain", "draw", "class", "pixel")
    assert joint["posterior_predictive"]["x"].dims[2] == "image"
    with pytest.raises(ValueError, match="log_likelihood: expected 'joint' or 'sites', got 'rows'"):
        posterior.to_arviz(log_likelihood="rows")
    with pytest.raises(ValueError, match="predictive: expected a count"):
        posterior.to_arviz(predictive=-1)


def test_sites_that_were_summed_out_leave_the_rows_joint():
    data = {"x": EXAMPLE[1]["x"], "y": np.ma.masked_array(EXAMPLE[1]["y"].numpy(), [0, 1, 0, 1, 0, 0])}
    posterior = fit(binomial_pixels, data, EXAMPLE[0], **QUICK)
    draws = {name: value.flatten(0, 1) for name, value in posterior.draws.items()}
    log_p = dist.Binomial(5, draws["ink"][:, None]).log_prob(data["x"][:, None]).sum(-1)
    log_p = log_p + draws["weights"].log()[:, None]
    known = log_p[:, torch.arange(6), EXAMPLE[1]["y"]]
    expected = torch.where(torch.from_numpy(data["y"].mask), log_p.logsumexp(-1), known)
    idata = posterior.to_arviz(predictive=4)
    np.testing.assert_allclose(
        idata["log_likelihood"]["joint"].values.reshape(-1, 6), expected.numpy(), rtol=1e-8
    )
    observed = idata["observed_data"]["y"].values
    assert (np.isnan(observed) == data["y"].mask).all()


def test_known_latents_are_not_part_of_the_likelihood():
    """z tells of the discrete y as well: log p(x | z), y weighed by p(y | z), is that of x ~ N(z, .5)."""

    def story(n):
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.tensor([0.3, 0.7])))
            z = pyro.sample("z", dist.Normal(torch.tensor([-2.0, 2.0])[y], 1.0))
            pyro.sample("x", dist.Normal(z, 0.5))

    x = torch.tensor([-1.0, 0.3, 2.5])
    posterior = fit(story, {"x": x}, **QUICK)
    expected = dist.Normal(posterior.draws["z"], 0.5).log_prob(x)
    found = posterior.to_arviz(predictive=0)["log_likelihood"]["joint"].values
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-9)


def test_improper_priors_leave_out_the_prior_groups():
    def story(n):
        mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu, 2.0))

    found = fit(story, {"x": torch.tensor([3.0, 5.0])}, **QUICK).to_arviz(predictive=5)
    assert {"posterior", "posterior_predictive"} <= names(found)
    assert not {"prior", "prior_predictive"} & names(found)


def test_the_prior_by_itself():
    found = prior(line, (COVARIATES,), draws=20).to_arviz(predictive=7)
    assert {"prior", "prior_predictive", "constant_data"} <= names(found)
    assert "posterior" not in names(found)
    assert found["prior"]["slope"].shape == (1, 20, 2)
    assert found["prior_predictive"]["y"].shape == (1, 7, ROWS)


def test_the_guide_in_pyros_predictive():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(mu, 1.5))
            pyro.sample("x", dist.Normal(z, 0.7))

    x = torch.tensor([3.0, 5.0, 4.0])
    posterior = fit(story, {"x": x}, **QUICK)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        fitted = Predictive(story, guide=posterior.guide, num_samples=200)(3)
        others = Predictive(story, guide=posterior.guide, num_samples=5)(8)
    assert fitted["x"].shape == (200, 3) and others["x"].shape == (5, 8)
    # z | x: the fitted rows keep their latents; sd below sqrt(1 / (1 / .7^2)) = .7
    assert ((fitted["x"].mean(0) - x).abs() < 4 * np.sqrt(0.7**2 + 0.7**2) / np.sqrt(200) + 0.4).all()
    assert not torch.isnan(others["x"]).any()
    assert fitted["x"].dtype == torch.float32


def test_a_quantity_that_is_added_to_the_draws_goes_along(tmp_path):
    """The draws that a user holds are those that ArviZ gets, and that are saved."""

    def story():
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("row", 3, dim=-1):
            pyro.sample("x", dist.Normal(mu, 2.0))

    posterior = fit(story, {"x": torch.tensor([3.0, 5.0, 4.0])}, restarts=2, draws=40)
    posterior.draws["twice"] = 2 * posterior.draws["mu"]
    group = posterior.to_arviz(predictive=0)["posterior"]
    assert np.array_equal(group["twice"], 2 * group["mu"])
    posterior.save(tmp_path / "mu")
    assert torch.equal(load(tmp_path / "mu", story).draws["twice"], posterior.draws["twice"])
