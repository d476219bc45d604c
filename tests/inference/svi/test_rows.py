"""Stories whose unknowns all belong to rows: certificates and questions, row by row.

The truths are linear and Gaussian: factor analysis with known loadings, of which only the location is
trained, so that the marginal density of x and the posterior of z are known for whatever location came out.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from inference import fit
from inference.answers.row_programs import affordable
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.svi import schedule

LOADING = torch.tensor([[1.2, 0.3], [-0.7, 0.9], [0.4, 1.5]])
NOISE = 0.6
WEIGHTS = torch.tensor([0.2, 0.3, 0.5])
CENTRES = torch.tensor([[3.0, -1.0, 2.0], [-2.0, 2.5, 0.5], [0.5, 0.5, -3.0]])
PRECISION = torch.eye(2) + LOADING.T @ LOADING / NOISE**2
COVARIANCE = (LOADING @ LOADING.T + NOISE**2 * torch.eye(3)).double()


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(schedule, "WINDOW", 30)


class Factors(PyroModule):
    """z -> x; with classes y -> x too."""

    def __init__(self, classes=None):
        super().__init__()
        self.location = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
        self.classes = classes

    def mean(self, z, y):
        shift = 0.0 if self.classes is None else CENTRES[y]
        return z @ LOADING.T + self.location + shift

    def forward(self, n):
        y = None
        with pyro.plate("row", n, dim=-1):
            if self.classes is not None:
                y = pyro.sample("y", dist.Categorical(WEIGHTS))
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Normal(self.mean(z, y), NOISE).to_event(1))


def residual(story, x, y=None):
    return x - story.location - (0.0 if y is None else CENTRES[y])


class Exact(PyroModule):
    """The posterior of z given x (and y), its standard deviations times ``factor``."""

    factor = 1.0

    def __init__(self, story):
        super().__init__()
        self.told = [story]  # in a list: the story is no part of the guide

    def normal(self, x, y=None):
        mean = residual(self.told[0], x, y) @ LOADING / NOISE**2 @ PRECISION.inverse()
        scale = self.factor * torch.linalg.cholesky(PRECISION.inverse())
        return dist.MultivariateNormal(mean, scale_tril=scale)

    def forward(self, n, data):
        with pyro.plate("row", n, dim=-1):
            pyro.sample("z", self.normal(data["x"], data.get("y")))


class Narrow(Exact):
    factor = 0.5


class Classifier(Exact):
    """Draws y too, where it is not given: q(y | x) is exact."""

    def forward(self, n, data, seen=None):
        log_p = log_joint(self.told[0], data["x"]).float()
        if seen is not None and "y" in seen:
            label = torch.nn.functional.one_hot(data["y"], 3)
            log_p = torch.where(seen["y"][:, None], (label - 1.0) * 1e4, log_p)
        with pyro.plate("row", n, dim=-1):
            if "y" in data and seen is None:
                y = data["y"]
            else:
                y = pyro.sample("y", dist.Categorical(logits=log_p), infer={"enumerate": "parallel"})
            pyro.sample("z", self.normal(data["x"], y))


def log_x(story, x):
    """log p(x), exactly."""
    return dist.MultivariateNormal(story.location.detach().double(), COVARIANCE).log_prob(x.double())


def log_joint(story, x):
    """log p(x, y) for every y, exactly: (rows, 3)."""
    centres = story.location.detach().double() + CENTRES.double()
    return dist.MultivariateNormal(centres, COVARIANCE).log_prob(x.double()[:, None]) + WEIGHTS.double().log()


def simulate(n, classes=None, seed=1):
    """x (and y) of n rows."""
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        torch.manual_seed(seed)
        trace = pyro.poutine.trace(Factors(classes)).get_trace(n)
    values = {name: trace.nodes[name]["value"].detach() for name in ("x", "y") if name in trace.nodes}
    return values if classes else values["x"]


def fitted(guide, data, classes=None, **options):
    options = {"restarts": 2, "draws": 200, "seed": 0, "optim": None} | options
    return fit(Factors(classes), data, guide=guide, **options)


@pytest.fixture(scope="module")
def exact():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "WINDOW", 30)
        return fitted(Exact, {"x": simulate(40)})


@pytest.fixture(scope="module")
def mixture():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "WINDOW", 30)
        return fitted(Exact, simulate(60, 3), classes=3)


def test_an_exact_guide_gives_away_nothing(exact):
    """The weights are all equal: no gap, no error, whatever the draws."""
    certificate, x = exact.certificate, exact._fit.observations["x"].value
    assert certificate.trusted, certificate
    assert certificate.method == "svi+psis" and certificate.rhat is None
    assert certificate.rows.rows == certificate.rows.of == 40 and certificate.rows.draws == 256
    assert abs(certificate.rows.gap) < 1e-5 and certificate.rows.flagged == 0.0
    # single precision: 1e-6 of some nats in each of 40 rows
    truth = log_x(exact.story, x).sum().item()
    assert abs(certificate.log_evidence - truth) < 1e-3 and abs(certificate.elbo - truth) < 1e-3
    assert certificate.spread < 1e-2
    assert "point estimates" in certificate.notes[0]
    assert "40 of 40 rows" in str(certificate) and "restarts: ELBOs differ" in str(certificate)


def test_the_density_of_new_rows_is_exact(exact):
    x = simulate(9, seed=2)
    value, error = exact.log_prob({"x": x}, stderr=True)
    assert value.dtype == torch.float64 and error.max() < 1e-5
    torch.testing.assert_close(value, log_x(exact.story, x), rtol=0, atol=1e-4)


def test_a_guide_of_half_the_width_is_not_trusted():
    x = simulate(40)
    posterior = fitted(Narrow, {"x": x}, restarts=1)
    certificate = posterior.certificate
    assert not certificate.trusted and certificate.method == "svi"
    assert certificate.rows.flagged > 0.3 and certificate.khat > certificate.rows.limit
    assert "narrow" in certificate.reasons[0]
    # divergence of the guide: each of two dimensions (1/4 - 1 + log 4) / 2; the bound gets most of it back
    divergence = 0.25 - 1 + math.log(4)
    assert divergence / 2 < certificate.rows.gap < 1.2 * divergence
    # Monte Carlo: the ELBO of a row is a mean over 256 draws of a number with standard deviation .75 x 1
    elbo = log_x(posterior.story, x).mean().item() - divergence
    assert abs(certificate.rows.elbo - elbo) < 4 * 0.75 / math.sqrt(40 * 256)
    assert "single restart" in certificate.notes[-1]


def test_latent_sites_of_new_rows_are_drawn_from_their_posterior(exact):
    x, count = simulate(5, seed=3), 1000
    z = exact.sample("z", given={"x": x}, num_samples=count)
    assert z.shape == (count, 5, 2)
    mean = residual(exact.story, x) @ LOADING / NOISE**2 @ PRECISION.inverse()
    # chosen with replacement from 1,024 draws: twice the variance of as many independent draws
    error = PRECISION.inverse().diagonal().sqrt() * math.sqrt(2 / count)
    assert ((z.mean(0) - mean) / error).abs().max() < 4
    assert torch.equal(z, exact.sample("z", given={"x": x}, num_samples=count))
    assert exact.sample("z", given={"x": x}).shape == (5, 2)


def test_the_fitted_rows_keep_their_data_and_are_predicted_anew(exact):
    both = exact.sample(["z", "x"], num_samples=3)
    assert both["z"].shape == (3, 40, 2) and both["x"].shape == (3, 40, 3)
    x = exact._fit.observations["x"].value
    assert not torch.equal(both["x"][0], x)
    # predictions lie near the data: their deviation is below 2 NOISE by construction, on average
    assert (both["x"] - x).std() < 2.5 * NOISE


def test_draws_are_restarts_of_the_rows(exact):
    z = exact.draws["z"]
    assert z.shape == (2, 200, 40, 2) and z.dtype == torch.float32
    x = exact._fit.observations["x"].value
    mean = residual(exact.story, x) @ LOADING / NOISE**2 @ PRECISION.inverse()
    error = PRECISION.inverse().diagonal().sqrt() / math.sqrt(200)
    scores = (z.mean(1) - mean) / error  # 160 numbers: one beyond 4.5 has chance 1e-3
    assert scores.abs().max() < 4.5


def test_labels_are_inverted_exactly(mixture):
    new = simulate(20, 3, seed=4)
    truth = log_joint(mixture.story, new["x"])
    p = mixture.probabilities("y", given={"x": new["x"]})
    torch.testing.assert_close(p, truth.softmax(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(mixture.log_prob({"x": new["x"]}), truth.logsumexp(-1), rtol=0, atol=1e-4)
    joint = truth.gather(-1, new["y"][:, None])[:, 0]
    torch.testing.assert_close(mixture.log_prob(new), joint, rtol=0, atol=1e-4)
    given_y = mixture.log_prob({"x": new["x"]}, given={"y": new["y"]})
    torch.testing.assert_close(given_y, joint - WEIGHTS.double().log()[new["y"]], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="was given in data for every row"):
        mixture.probabilities("y")
    y = np.ma.masked_array(new["y"].numpy(), mask=[True] * 10 + [False] * 10)
    half = mixture.probabilities("y", given={"x": new["x"], "y": y})
    torch.testing.assert_close(half[:10], p[:10], rtol=0, atol=1e-5)
    assert torch.equal(half[10:].argmax(-1), new["y"][10:]) and half[10:].amax(-1).min() == 1.0


def test_rows_are_generated_in_one_run(mixture):
    y, runs = torch.tensor([0, 1, 2, 2]), []
    forward = Factors.forward

    def counting(self, n):
        runs.append(n)
        return forward(self, n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Factors, "forward", counting)
        x = mixture.sample("x", given={"y": y}, num_samples=2000)
    assert x.shape == (2000, 4, 3) and len(runs) < 5 and 8000 in runs
    mean = mixture.story.location + CENTRES[y]
    error = COVARIANCE.diagonal().sqrt() / math.sqrt(2000)
    assert ((x.mean(0) - mean) / error).abs().max() < 4
    assert mixture.sample("x", args=(7,)).shape == (7, 3)


def test_labels_are_drawn_with_the_latent_sites(mixture):
    x = simulate(6, 3, seed=5)["x"]
    drawn = mixture.sample(["y", "z"], given={"x": x}, num_samples=1000)
    p = log_joint(mixture.story, x).softmax(-1)
    share = torch.nn.functional.one_hot(drawn["y"], 3).double().mean(0)
    # with replacement from 1,024 draws of every value
    assert ((share - p).abs() <= 4 * (2 * p * (1 - p) / 1000).sqrt() + 1e-3).all()
    assert drawn["z"].shape == (1000, 6, 2)


def test_half_labelled_rows():
    """y given for some rows: the others' are summed out, in the fit and in its answers."""
    data = simulate(60, 3)
    missing = torch.arange(60) % 3 > 0
    y = np.ma.masked_array(data["y"].numpy(), mask=missing.numpy())
    posterior = fitted(Classifier, {"x": data["x"], "y": y}, classes=3, restarts=1)
    certificate = posterior.certificate
    assert certificate.trusted, certificate
    truth = log_joint(posterior.story, data["x"])
    seen = truth.gather(-1, data["y"][:, None])[:, 0]
    expected = torch.where(missing, truth.logsumexp(-1), seen).sum().item()
    assert abs(certificate.log_evidence - expected) < 2e-3
    p = posterior.probabilities("y")
    torch.testing.assert_close(p[missing], truth.softmax(-1)[missing], rtol=0, atol=1e-5)
    assert torch.equal(p[~missing].argmax(-1), data["y"][~missing])
    new = simulate(9, 3, seed=6)["x"]
    torch.testing.assert_close(
        posterior.log_prob({"x": new}), log_joint(posterior.story, new).logsumexp(-1), rtol=0, atol=1e-4
    )
    assert posterior.draws["z"].shape == (1, 200, 60, 2)


def test_labels_that_were_never_seen():
    """A guide that knows nothing of y: it is summed out within the run, and assumed where it is asked for."""

    class Wide(PyroModule):
        def __init__(self, story):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.zeros(2))

        def forward(self, n, data):
            with pyro.plate("row", n, dim=-1):
                pyro.sample("z", dist.Normal(self.shift, 1.5).expand([n, 2]).to_event(1))

    posterior = fitted(Wide, {"x": simulate(40, 3)["x"]}, classes=3, restarts=1, steps=30)
    x = simulate(8, 3, seed=9)["x"]
    truth = log_joint(posterior.story, x)
    value, error = posterior.log_prob({"x": x}, stderr=True)
    assert ((value - truth.logsumexp(-1)).abs() < 4.5 * error + 0.05).all() and error.max() < 0.6
    p = posterior.probabilities("y", given={"x": x})
    assert p.shape == (8, 3) and (p.argmax(-1) == truth.argmax(-1)).sum() >= 7


def test_half_seen_rows_are_weighed_exactly(exact):
    """The guide needs all of x; the missing element is integrated out."""
    x = simulate(12, seed=7)
    value, error = exact.log_prob(
        {"x": np.ma.masked_array(x.numpy(), mask=[[False, True, False]] * 12)}, stderr=True
    )
    kept = [0, 2]
    truth = dist.MultivariateNormal(
        exact.story.location.detach().double()[kept], COVARIANCE[kept][:, kept]
    ).log_prob(x[:, kept].double())
    assert error.max() < 0.2
    assert ((value - truth) / (error + 0.01)).abs().max() < 4.5
    filled = exact.sample(
        "x", given={"x": np.ma.masked_array(x.numpy(), mask=[[False, True, False]] * 12)}, num_samples=5
    )
    assert torch.equal(filled[..., kept], x[:, kept].expand(5, 12, 2)) and filled[..., 1].std() > 0


def test_a_story_without_latent_sites():
    """Nothing is drawn: the density is exact, and so is the certificate's."""

    class Normal(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(1, 2)

        def forward(self, n):
            loc, log_stddev = self.net(torch.ones(1))
            with pyro.plate("row", n, dim=-1):
                pyro.sample("x", dist.Normal(loc, log_stddev.exp()))

    x = 3.0 + 2.0 * torch.randn(50, generator=torch.Generator().manual_seed(0))
    posterior = fit(Normal, {"x": x}, restarts=2, seed=0)
    certificate = posterior.certificate
    best = dist.Normal(x.mean(), x.std(correction=0)).log_prob(x)
    assert certificate.trusted and certificate.khat is None and certificate.rows.draws == 1, certificate
    # Adam's rate is halved until nothing more is gained; 50 rows have a noise of sqrt(50)
    assert abs(certificate.log_evidence - best.sum().item()) < 0.05
    assert certificate.log_evidence_stderr == 0.0
    assert posterior.draws == {} and posterior.sample("x", args=(4,)).shape == (4,)
    assert abs(posterior.log_prob({"x": x}).sum().item() - certificate.log_evidence) < 1e-3


def test_a_guide_that_does_not_read_the_rows_is_weighed_jointly():
    x = simulate(5)

    class Free(PyroModule):
        def __init__(self, story):
            super().__init__()
            self.mean = torch.nn.Parameter(torch.zeros(5, 2))

        def forward(self, n):
            with pyro.plate("row", n, dim=-1):
                scale = torch.linalg.cholesky(PRECISION.inverse())
                pyro.sample("z", dist.MultivariateNormal(self.mean, scale_tril=scale))

    posterior = fitted(Free, {"x": x}, restarts=1, steps=60)
    assert posterior.certificate.rows is None and posterior.draws["z"].shape == (1, 200, 5, 2)
    assert torch.isfinite(posterior.log_prob({"x": x})).all()


class Regression(PyroModule):
    """Covariates are arguments with one entry per row."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, covariates):
        with pyro.plate("row", len(covariates), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(self.slope * covariates + z, 0.5))


class Residual(PyroModule):
    def __init__(self, story):
        super().__init__()
        self.told = [story]

    def forward(self, covariates, data):
        mean = (data["x"] - self.told[0].slope * covariates) * 0.8  # variance 1 / (1 + 4)
        with pyro.plate("row", len(covariates), dim=-1):
            pyro.sample("z", dist.Normal(mean, math.sqrt(0.2)))


def test_covariates_follow_the_rows():
    generator = torch.Generator().manual_seed(8)
    covariates = torch.randn(30, generator=generator)
    x = 2.0 * covariates + 1.1 * torch.randn(30, generator=generator)
    posterior = fit(Regression, {"x": x}, args=(covariates,), guide=Residual, restarts=2, draws=20, seed=0)
    assert posterior.certificate.trusted, posterior.certificate
    new, slope = torch.tensor([0.3, -2.0]), posterior.story.slope
    truth = dist.Normal(slope * new, math.sqrt(1.25)).log_prob(torch.tensor([1.0, -3.0])).double()
    value = posterior.log_prob({"x": torch.tensor([1.0, -3.0])}, args=(new,))
    torch.testing.assert_close(value, truth, rtol=0, atol=1e-5)
    drawn = posterior.sample("x", args=(new,), num_samples=2000)
    error = math.sqrt(1.25 / 2000)
    assert ((drawn.mean(0) - slope * new).abs() < 4 * error).all()
    assert posterior.sample("z", num_samples=5).shape == (5, 30)


def test_draws_are_bounded_in_memory():
    structure, _ = inspect_story(Call.bind(Factors(), (10_000,)))
    kept, resampled = affordable(structure, ("z",), 4, 1000)
    assert kept * 4 * 20_000 <= 2**24 and kept >= 100 and resampled
    assert affordable(structure, ("z",), 1, 10) == (10, True)


def test_ten_thousand_rows(monkeypatch):
    x = simulate(10_000)
    posterior = fitted(Exact, {"x": x}, draws=10, steps=30, batch_size=200)
    certificate = posterior.certificate
    assert certificate.rows.rows == 1000 and certificate.rows.of == 10_000
    # the mean over 1,000 rows, times ten thousand
    truth = log_x(posterior.story, x).sum().item()
    assert abs(certificate.log_evidence - truth) < 4 * certificate.log_evidence_stderr + 0.1
    assert posterior.draws["z"].shape == (2, 10, 10_000, 2)
    assert posterior.log_prob({"x": x}).shape == (10_000,)
