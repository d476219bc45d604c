"""Saving, loading and handing to ArviZ what a fit with trained parameters knows."""

import json
import math
from functools import partial

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam

from inference import fit, load
from inference.svi import schedule


@pytest.fixture(autouse=True, scope="module")
def short_windows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "WINDOW", 30)
        yield


class vae(PyroModule):  # noqa: N801
    """A small network story, with classes."""

    def __init__(self, latents=2):
        super().__init__()
        self.latents = latents
        self.weights = PyroParam(torch.tensor([0.5, 0.5]), dist.constraints.simplex)
        self.decoder = torch.nn.Linear(latents + 2, 3)

    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(self.weights))
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([self.latents]).to_event(1))
            label = torch.nn.functional.one_hot(y, 2).to(z.dtype)
            label = label.expand(*torch.broadcast_shapes(label.shape[:-1], z.shape[:-1]), 2)
            z = z.expand(*label.shape[:-1], self.latents)
            pyro.sample("x", dist.Normal(self.decoder(torch.cat([z, label], -1)), 0.5).to_event(1))


class guide(PyroModule):  # noqa: N801
    """Found beside the story."""

    def __init__(self, story):
        super().__init__()
        self.encoder = torch.nn.Linear(3, 2 * story.latents)

    def forward(self, n, data):
        mean, log_stddev = self.encoder(data["x"]).chunk(2, -1)
        with pyro.plate("row", n, dim=-1):
            pyro.sample("z", dist.Normal(mean, log_stddev.exp()).to_event(1))


class scaled(PyroModule):  # noqa: N801
    """A story with an option that is no tensor."""

    def __init__(self, stddev):
        super().__init__()
        self.stddev, self.mean = stddev, torch.nn.Parameter(torch.zeros(1))

    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(self.mean, self.stddev).to_event(1))


X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) * 2
Y = (X[:, 0] > 0).long()


@pytest.fixture(scope="module")
def posterior():
    return fit(partial(vae, latents=2), {"x": X, "y": Y}, restarts=2, draws=30, steps=60, seed=1)


@pytest.fixture(scope="module")
def folder(posterior, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "vae"
    posterior.save(path)
    return path


@pytest.mark.parametrize(
    "story", [vae, partial(vae, latents=2), vae(2)], ids=["class", "partial", "instance"]
)
def test_round_trip(posterior, folder, story):
    again = load(folder, story)
    new = X[:7] + 0.1
    assert str(again.certificate) == str(posterior.certificate)
    assert again.certificate == posterior.certificate
    assert torch.equal(again.draws["z"], posterior.draws["z"])
    assert torch.equal(again.log_prob({"x": new}), posterior.log_prob({"x": new}))
    assert torch.equal(again.probabilities("y", {"x": new}), posterior.probabilities("y", {"x": new}))
    given = {"y": torch.tensor([0, 1, 1])}
    assert torch.equal(again.sample("x", given), posterior.sample("x", given))
    assert torch.equal(again.sample("z", {"x": new}), posterior.sample("z", {"x": new}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert again.guide(30) is None and again.story.decoder.weight.shape == (3, 4)


def test_saved_files_hold_numbers_only(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "posterior.json",
        "posterior.nc",
        "tensors.safetensors",
    ]
    page = json.loads((folder / "posterior.json").read_text())
    assert page["programs"]["restarts"] == 2 and page["programs"]["guide"] == "guide"


def test_another_architecture_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"parameter 'decoder.weight': expected shape \(3, 4\).*got \(3, 5\)"
    ):
        load(folder, partial(vae, latents=3))

    class Other(vae):
        def __init__(self):
            super().__init__()
            self.more = torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match=r"parameter 'more.weight': expected shape none"):
        load(folder, Other)
    with pytest.raises(ValueError, match="expected the module whose networks were saved"):
        load(folder, lambda n: None)


def test_another_option_of_the_same_sizes_is_refused(tmp_path):
    fitted = fit(partial(scaled, 3.0), {"x": X[:, :1]}, steps=60, restarts=1, draws=20)
    fitted.save(tmp_path / "scaled")
    again = load(tmp_path / "scaled", partial(scaled, 3.0))
    torch.testing.assert_close(again.log_prob({"x": X[:5, :1]}), fitted.log_prob({"x": X[:5, :1]}))
    with pytest.raises(ValueError, match="another option differs"):
        load(tmp_path / "scaled", partial(scaled, 1.0))


def test_without_its_guide_latent_sites_are_proposed_from_the_prior(posterior, folder):
    class Elsewhere(vae):
        pass

    again = load(folder, Elsewhere)
    assert "without its guide" in again.certificate.notes[-1]
    value, error = again.log_prob({"x": X[:5], "y": Y[:5]}, stderr=True)
    exact, other = posterior.log_prob({"x": X[:5], "y": Y[:5]}, stderr=True)
    assert ((value - exact).abs() <= 5 * torch.hypot(error, other) + 1e-3).all()
    given = load(folder, Elsewhere, guide=guide)
    assert torch.equal(given.log_prob({"x": X[:5]}), posterior.log_prob({"x": X[:5]}))


def test_arviz(posterior):
    data = posterior.to_arviz(predictive=20)
    assert dict(data["posterior"]["z"].sizes) == {"chain": 2, "draw": 30, "row": 30, "z_dim_0": 2}
    assert dict(data["log_likelihood"]["joint"].sizes) == {"chain": 2, "draw": 30, "row": 30}
    assert data["posterior_predictive"]["x"].shape == (1, 20, 30, 3)
    assert data["prior_predictive"]["y"].shape == (1, 20, 30)
    # the density of a row given its z, by hand, under the networks of that restart
    local = posterior._fit.local
    for chain, pair in enumerate(local.restarts):
        z = posterior.draws["z"][chain, 3]
        story = pair.story.program
        label = torch.nn.functional.one_hot(Y, 2).float()
        mean = story.decoder(torch.cat([z, label], -1))
        expected = dist.Normal(mean, 0.5).log_prob(X).sum(-1) + story.weights.log()[Y]
        got = torch.from_numpy(np.array(data["log_likelihood"]["joint"][chain, 3])).float()
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        prior = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
        got = torch.from_numpy(np.array(data["log_prior"]["z"][chain, 3])).float()
        torch.testing.assert_close(got, prior, rtol=1e-5, atol=1e-5)
    assert len(az.summary(data)) == 60


def test_arviz_log_likelihood_by_site(posterior):
    groups = posterior.to_arviz(predictive=0, log_likelihood="sites")
    total = groups["log_likelihood"]["x"] + groups["log_likelihood"]["y"]
    joint = posterior.to_arviz(predictive=0)["log_likelihood"]["joint"]
    np.testing.assert_allclose(total, joint, rtol=1e-5, atol=1e-5)
    assert "posterior_predictive" not in groups


def test_parameters_of_a_function_and_names_with_slashes(tmp_path):
    def story(n):
        stddev = pyro.param("noise/stddev", torch.tensor(1.0), constraint=dist.constraints.positive)
        mu = pyro.sample("mu/a%2Fb", dist.Normal(0.0, 10.0))
        with pyro.plate("row", n):
            pyro.sample("x/y", dist.Normal(mu, stddev))

    x = torch.tensor([3.0, 5.0, 4.0, 8.0, 1.0])
    posterior = fit(story, {"x/y": x}, restarts=2, draws=50, steps=100)
    posterior.save(tmp_path / "fit")
    again = load(tmp_path / "fit", story)
    assert torch.equal(again.draws["mu/a%2Fb"], posterior.draws["mu/a%2Fb"])
    assert again.story.params["noise/stddev"] == posterior.story.params["noise/stddev"]
    assert torch.equal(again.log_prob({"x/y": x}), posterior.log_prob({"x/y": x}))


def test_networks_beside_an_unknown_that_rows_share(tmp_path):
    class Shared(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(1, 1)

        def forward(self, n):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            with pyro.plate("row", n):
                pyro.sample("x", dist.Normal(mu + self.net(torch.ones(1)), 1.0))

    x = torch.tensor([1.0, 2.0, 4.0])
    posterior = fit(Shared, {"x": x}, restarts=2, draws=50, steps=60)
    assert posterior.certificate.rows is None
    posterior.save(tmp_path / "fit")
    again = load(tmp_path / "fit", Shared)
    assert torch.equal(again.log_prob({"x": x}), posterior.log_prob({"x": x}))
    assert math.isfinite(again.log_prob({"x": x}).sum())
