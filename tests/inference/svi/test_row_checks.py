"""What certificates say of rows that were held out, and of stories without a likelihood."""

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from inference import fit
from inference.checks.certificate import Certificate, RowCheck
from inference.checks.psis import pareto_smooth_rows
from inference.svi import schedule


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(schedule, "WINDOW", 30)


class Normal(PyroModule):
    """No latent site: the held-out log density is known."""

    def __init__(self):
        super().__init__()
        self.location = torch.nn.Parameter(torch.zeros(2))

    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(self.location, 1.0).to_event(1))


X = 1.5 + torch.randn(200, 2, generator=torch.Generator().manual_seed(3))


def test_held_out_rows_are_checked_with_their_error():
    posterior = fit(Normal, {"x": X[:150]}, held_out={"x": X[150:]}, restarts=2, seed=0)
    check, location = posterior.certificate.held_out, posterior.story.location.detach()
    truth = dist.Normal(location.double(), 1.0).log_prob(X[150:].double()).sum(-1)
    assert check.rows == check.of == 50 and check.draws == 1 and check.khat is None
    assert abs(check.bound - truth.mean().item()) < 1e-5 and check.gap == 0.0
    # the rows are a sample: standard deviation over the root of their number
    assert abs(check.stderr - truth.std().item() / math.sqrt(50)) < 1e-5
    assert posterior.certificate.rows.stderr == 0.0  # all that was fitted was checked
    assert "held out: 50 rows" in str(posterior.certificate)


def test_a_certificate_survives_json():
    check = RowCheck(9, 10, 64, -2.0, -1.5, 0.1, 0.5, 0.05, 0.3, 0.0, 0.45)
    whole = Certificate(True, "svi", "guide", rows=check, held_out=replace(check, rows=3), notes=("a",))
    assert Certificate.of_dict(whole.as_dict()) == whole
    plain = Certificate(False, "svi", "guide", reasons=("b",))
    assert Certificate.of_dict(plain.as_dict()) == plain


def test_rounding_is_no_tail():
    """Equal weights in single precision differ by a few steps of rounding, and have no tail to fit."""
    steps = torch.randint(0, 4, (5, 256), generator=torch.Generator().manual_seed(0)) * 1e-6
    steps[:, 0] = 3e-5
    assert (pareto_smooth_rows(steps, 1e-3)[1] == -math.inf).all()
    assert (pareto_smooth_rows(steps)[1] > -math.inf).all()


class Generator(PyroModule):
    """A story whose x is a function of noise and a label: it has no density."""

    def __init__(self):
        super().__init__()
        self.centre = torch.nn.Parameter(torch.zeros(2))

    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.tensor([0.5, 0.5])))
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Delta((self.centre[y] + z)[..., None], event_dim=1))


def moments(samples, data):
    """A loss on samples: the mean of x within each class."""
    total = 0.0
    for value in (0, 1):
        own, seen = samples["y"] == value, data["y"] == value
        total = total + (samples["x"][own].mean() - data["x"][seen].mean()).square()
    return total


@pytest.fixture(scope="module")
def implicit():
    y = torch.arange(100) % 2
    x = (3.0 * y - 1.0)[:, None] + torch.randn(100, 1, generator=torch.Generator().manual_seed(5))
    return fit(Generator, {"x": x, "y": y}, loss=moments, restarts=1, steps=300, seed=0)


def test_a_story_without_a_likelihood_generates(implicit):
    certificate = implicit.certificate
    assert not certificate.trusted and certificate.method == "loss"
    assert certificate.khat is certificate.elbo is certificate.log_evidence is certificate.rows is None
    assert "loss on samples" in certificate.reasons[0]
    x = implicit.sample("x", given={"y": torch.tensor([0, 1])}, num_samples=4000)
    assert x.shape == (4000, 2, 1)
    torch.testing.assert_close(  # 4 Monte Carlo errors of a unit normal's mean
        x.mean(0)[:, 0], implicit.story.centre.detach(), rtol=0, atol=4 / math.sqrt(4000)
    )
    assert implicit.sample("x", num_samples=3).shape == (3, 100, 1)
    assert implicit.sample(["x", "y"], args=(7,))["x"].shape == (7, 1)
    assert implicit.draws == {}
    assert implicit.to_arviz(predictive=3)["posterior_predictive"]["x"].shape == (1, 3, 100, 1)


def test_a_story_without_a_likelihood_weighs_nothing(implicit):
    x = torch.zeros(4, 1)
    with pytest.raises(ValueError, match="loss on samples"):
        implicit.log_prob({"x": x})
    with pytest.raises(ValueError, match="loss on samples"):
        implicit.probabilities("y", given={"x": x})
    with pytest.raises(ValueError, match="loss on samples"):
        implicit.sample("z", given={"x": x})
