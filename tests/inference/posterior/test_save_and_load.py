"""A saved posterior answers like the one that was saved; a folder is written whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, load, prior
from ppl_models.binomial_pixels import EXAMPLE, binomial_pixels

QUICK = {"restarts": 1, "draws": 60, "seed": 0}
X = torch.tensor([3.0, 5.0, 4.0])


def story(n, covariates, stddev=2.0, options=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    pyro.deterministic("twice", 2 * mu)
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("x", dist.Normal(mu + covariates[0] + options["shift"], stddev))


ARGS = (3, (torch.tensor([0.5, 0.2, 0.3]), None), 1.5)
KWARGS = {"options": {"shift": 2.0, "names": ["a", "b"]}}


@pytest.fixture(scope="module")
def posterior():
    return fit(story, {"x": X}, ARGS, KWARGS, **QUICK)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "posterior"


def identical(one, other):
    assert one.draws.keys() == other.draws.keys()
    for name in one.draws:
        assert one.draws[name].dtype == other.draws[name].dtype
        assert torch.equal(one.draws[name], other.draws[name])
    assert one.certificate == other.certificate
    assert one.history == other.history
    assert str(one.certificate) == str(other.certificate)


def test_there_and_back(posterior, path):
    posterior.save(path)
    again = load(path, story)
    identical(posterior, again)
    assert torch.equal(posterior.sample("x", num_samples=4), again.sample("x", num_samples=4))
    assert torch.equal(posterior.log_prob({"x": X}), again.log_prob({"x": X}))
    for mine, theirs in zip(posterior._fit.stats.values(), again._fit.stats.values(), strict=True):
        assert torch.equal(mine, theirs)
    pages = [p.to_arviz(predictive=3) for p in (posterior, again)]
    for group in ("posterior", "log_likelihood", "sample_stats", "observed_data", "constant_data", "fit"):
        assert pages[0][group].equals(pages[1][group]), group


def test_the_guide_is_kept(posterior, path):
    posterior.save(path)
    draws = []
    for guide in (posterior.guide, load(path, story).guide):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            draws.append(guide(*ARGS, **KWARGS)["mu"])
    assert draws[0] == draws[1]


def test_discrete_and_half_seen_data(path):
    y = np.ma.masked_array(EXAMPLE[1]["y"].numpy(), [0, 1, 0, 1, 0, 0])
    sizes = dict(zip(("classes", "pixels", "levels"), EXAMPLE[0][1:], strict=True))
    posterior = fit(binomial_pixels, {"x": EXAMPLE[1]["x"], "y": y}, kwargs=sizes, **QUICK)
    posterior.save(path)
    again = load(path, binomial_pixels)
    identical(posterior, again)
    assert torch.equal(posterior.probabilities("y"), again.probabilities("y"))
    new = {"x": EXAMPLE[1]["x"][:2]}  # the rows are still counted
    assert torch.equal(posterior.probabilities("y", given=new), again.probabilities("y", given=new))
    mine, theirs = posterior.sample(["x", "y"]), again.sample(["x", "y"])
    assert torch.equal(mine["x"], theirs["x"]) and torch.equal(mine["y"], theirs["y"])


def test_priors_and_exact_answers(path):
    def coin(n):
        fair = pyro.sample("fair", dist.Bernoulli(0.3))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(3.0 * fair, 2.0))

    exact = fit(coin, {"x": X})
    exact.save(path)
    again = load(path, coin)
    identical(exact, again)
    assert torch.equal(exact.probabilities("fair"), again.probabilities("fair"))
    before = prior(coin, draws=30, seed=3)
    before.save(path)  # a saved posterior may be replaced
    identical(before, load(path, coin))
    assert torch.equal(before.sample("x", args=(4,)), load(path, coin).sample("x", args=(4,)))


def test_a_model_that_observes_inside(path):
    def model(y=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("row", 3, dim=-1):
            pyro.sample("y", dist.Normal(mu, 2.0), obs=y)

    posterior = fit(model, {}, (X,), **QUICK)
    posterior.save(path)
    again = load(path, model)
    identical(posterior, again)
    assert torch.equal(posterior.sample("y", seed=3), again.sample("y", seed=3))


def test_nothing_in_the_folder_can_run(posterior, path):
    posterior.save(path)
    assert sorted(p.name for p in path.iterdir()) == ["posterior.json", "posterior.nc", "tensors.safetensors"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["posterior"]
    page = json.loads((path / "posterior.json").read_text())
    assert page["certificate"]["trusted"] == posterior.certificate.trusted
    for file in path.iterdir():
        assert not file.read_bytes().startswith((b"\x80\x04", b"\x80\x02", b"PK"))  # pickle, torch.save


def test_the_netcdf_opens_in_arviz_by_itself(posterior, path):
    import arviz as az

    posterior.save(path)
    idata = az.from_netcdf(path / "posterior.nc")
    np.testing.assert_array_equal(idata["posterior"]["mu"].values, posterior.draws["mu"].numpy())


@pytest.mark.parametrize("kind", ["file", "folder", "other json"])
def test_a_foreign_folder_is_left_alone(posterior, path, kind):
    path.parent.mkdir()
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "posterior.json").write_text('{"format": "mine"}' if kind == "other json" else "mine")
        (path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="exists and is not a saved posterior"):
        posterior.save(path)
    assert path.is_file() or (path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(ValueError, match="path: expected a folder that Posterior.save wrote"):
        load(path, story)


def test_a_failure_leaves_the_old_one(posterior, path, monkeypatch):
    posterior.save(path)
    other = fit(story, {"x": X + 30.0}, ARGS, KWARGS, **QUICK)
    monkeypatch.setattr("safetensors.torch.save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        other.save(path)
    monkeypatch.undo()
    identical(posterior, load(path, story))
    assert sorted(p.name for p in path.parent.iterdir()) == ["posterior"]
    other.save(path)
    identical(other, load(path, story))
    assert sorted(p.name for p in path.parent.iterdir()) == ["posterior"]


def test_a_failure_to_move_into_place_puts_the_old_one_back(posterior, path, monkeypatch):
    posterior.save(path)
    rename = Path.rename

    def refuse(self, target):
        if Path(target) == path and ".old." not in self.name:
            raise OSError("busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="busy"):
        posterior.save(path)
    monkeypatch.undo()
    identical(posterior, load(path, story))
    assert sorted(p.name for p in path.parent.iterdir()) == ["posterior"]


def test_a_failure_at_first_leaves_nothing(posterior, path, monkeypatch):
    monkeypatch.setattr(
        "inference.posterior.save.write_netcdf", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        posterior.save(path)
    assert list(path.parent.iterdir()) == []


class Settings:
    """Not data."""

    shift = 2.0


def test_arguments_that_are_no_data_are_asked_for(path):
    def configured(n, settings):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu + settings.shift, 2.0))

    args = (3, Settings())
    posterior = fit(configured, {"x": X}, args, **QUICK)
    posterior.save(path)
    with pytest.raises(ValueError, match="argument of type Settings, which is not data. Pass args="):
        load(path, configured)
    identical(posterior, load(path, configured, args))


def test_another_story_is_refused(posterior, path):
    posterior.save(path)

    def other(n, covariates, stddev, options):
        nu = pyro.sample("nu", dist.Normal(0.0, 10.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(nu, stddev))

    def larger(n, covariates, stddev, options):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 10.0).to_event(1))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu.sum(), stddev))

    with pytest.raises(ValueError, match="draws of 'mu'.*no such site"):
        load(path, other)
    with pytest.raises(ValueError, match=r"draws of 'mu' of shape \(\), the story has \(2,\)"):
        load(path, larger)
    with pytest.raises(ValueError, match="path: expected a folder"):
        load(path.with_name("nothing"), story)
