"""Answers row by row where names, shapes or a missing guide could silently change the numbers."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam

from inference import fit, load
from inference.story.call import Call
from inference.svi.compiled_step import TracedStep
from inference.svi.minibatch import Batch

X = 3 + 2 * torch.randn(40, 1, generator=torch.Generator().manual_seed(0))


class shifted(PyroModule):  # noqa: N801
    """x = z + mean + offset + noise; the offset is shared by all rows."""

    def __init__(self):
        super().__init__()
        self.scale = PyroParam(torch.tensor(1.5), dist.constraints.positive)
        self.mean = PyroParam(torch.tensor([2.5]))

    def forward(self, n, offset):
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.deterministic("both", torch.stack([z, 2 * z], -1))
            pyro.sample("x", dist.Normal(z[..., None] + self.mean + offset, self.scale).to_event(1))


def read_off(n, offset, data):
    """A guide whose parameter goes by the name of the story's."""
    scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
    slope, start = pyro.param("slope", torch.tensor(0.3)), pyro.param("start", torch.tensor(-0.8))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("z", dist.Normal(slope * data["x"][..., 0] + start, scale))


@pytest.fixture(scope="module")
def posterior():
    return fit(shifted, {"x": X}, args=(40, torch.zeros(1)), guide=read_off, restarts=1, steps=150, draws=20)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_an_argument_that_all_rows_share_whatever_their_number(posterior, rows):
    own = posterior.story.program
    x = torch.linspace(1.0, 5.0, rows)[:, None]
    expected = dist.Normal(own.mean + 1.0, (1 + own.scale**2).sqrt()).log_prob(x)[:, 0].double()
    found, error = posterior.log_prob({"x": x}, args=(rows, torch.ones(1)), stderr=True)
    assert bool(((found - expected).abs() < 5 * error + 1e-3).all()) and float(error.max()) < 0.1


def test_a_story_keeps_its_parameters_where_a_guide_uses_their_names(posterior):
    pair = posterior._fit.local.restarts[0]
    assert "scale" not in pair.story.params and "scale" in pair.guide.params
    assert float(pair.guide.params["scale"]) != float(pair.story.program.scale)


@pytest.mark.parametrize("count", [2, 5])
def test_deterministic_sites_with_dimensions_of_their_own(posterior, count):
    drawn = posterior.sample(["z", "both"], given={"x": X[:4]}, args=(4, torch.zeros(1)), num_samples=count)
    assert drawn["both"].shape == (count, 4, 2)
    torch.testing.assert_close(drawn["both"][..., 0], drawn["z"])
    assert posterior.draws["both"].shape == (1, 20, 40, 2)


class cause(PyroModule):  # noqa: N801
    """c -> z -> x, and c -> x."""

    def __init__(self):
        super().__init__()
        self.noise = PyroParam(torch.tensor(0.6), dist.constraints.positive)

    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            c = pyro.sample("c", dist.Bernoulli(0.7))
            z = pyro.sample("z", dist.Normal(4 * c - 2, 1.0))
            pyro.sample("x", dist.Normal(z + 3 * c, self.noise))


def broad(n, data):
    with pyro.plate("row", n, dim=-1):
        pyro.sample("z", dist.Normal(pyro.param("slope", torch.tensor(0.5)) * data["x"], 1.5))


def test_without_a_guide_discrete_parents_of_what_is_drawn_are_not_forgotten(tmp_path):
    fit(cause, {"x": X[:, 0]}, guide=broad, restarts=1, steps=30, draws=20).save(tmp_path / "cause")
    loaded = load(tmp_path / "cause", cause)
    x = torch.tensor([-3.0, 0.0, 1.0, 4.0, 6.0])
    total = (1 + loaded.story.program.noise**2).sqrt()
    each = [np.log(w) + dist.Normal(m, total).log_prob(x) for w, m in ((0.3, -2.0), (0.7, 5.0))]
    found, error = loaded.log_prob({"x": x}, stderr=True)
    expected = torch.logsumexp(torch.stack(each), 0).double()
    assert bool(((found - expected).abs() < 5 * error).all()) and float(error.max()) < 0.2


def test_a_graph_that_holds_numbers_of_one_batch_is_given_up():
    slope = torch.ones(2, requires_grad=True)

    def run(batch, _):
        x = batch.values["x"]
        held = torch.from_numpy(x.detach().numpy().copy())  # leaves the graph
        return (slope.sum() * x * held).sum() + slope.square().sum()

    def batch(value):
        return Batch(call, {"x": torch.tensor([value, 2.0])}, {}, {}, "row", 1.0)

    call = Call(run, (), {})
    traced, first = TracedStep(run, [slope]), batch(1.0)
    assert traced(first, None) is not None and traced(first, None) is not None
    assert traced(batch(3.0), None) is None and "differs from plain Pyro" in traced.refused


def test_a_held_out_loss_on_samples_is_no_elbo_and_not_shared_out_among_rows():
    def loss(samples, data):
        return 50 + (samples["x"].mean() - data["x"].mean()).square()

    class Push(PyroModule):
        def __init__(self):
            super().__init__()
            self.mean = torch.nn.Parameter(torch.tensor([3.0]))

        def forward(self, n):
            with pyro.plate("row", n, dim=-1):
                noise = pyro.sample("e", dist.Normal(0.0, 0.1).expand([1]).to_event(1))
                pyro.sample("x", dist.Delta(self.mean + noise).to_event(1))

    fitted = fit(Push(), {"x": X}, loss=loss, held_out=0.25, restarts=1, steps=60)
    (note,) = [n for n in fitted.certificate.notes if "held out" in n]
    assert "nats" not in note and float(note.rsplit(" ", 1)[1].rstrip(".")) >= 50


def labelled(n):
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Bernoulli(0.3))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        k = pyro.sample("k", dist.Poisson(z.exp()))
        pyro.deterministic("label", 1.0 * y)
        pyro.deterministic("twice", 2 * k)
        pyro.sample("x", dist.Normal(z + 3 * y, 0.5))


def scaled(n, data):
    scale = pyro.param("scale", torch.tensor(1.3), constraint=dist.constraints.positive)
    with pyro.plate("row", n, dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(n), scale))


def test_what_hangs_on_summed_out_labels_of_rows_follows_their_conditional():
    """Run forward beside draws of z alone, the labels would be drawn from their prior: 0.3 in every row."""
    x = torch.cat([torch.linspace(-1, 0, 10), torch.linspace(3.0, 4.0, 10)])
    posterior = fit(labelled, {"x": x}, guide=scaled, restarts=1, steps=1, draws=400)
    label, away = posterior.draws["label"][0].mean(0), dist.Normal(torch.tensor([3.0, 0.0]), 1.25**0.5)
    p = (away.log_prob(x[:, None]) + torch.tensor([0.3, 0.7]).log()).softmax(-1)[:, 0]
    # of 64 weighted draws for each label at least 8 count: the posterior of z is a third as wide as the guide
    error = (p * (1 - p) * (1 / 400 + 2 / 8)).sqrt()
    assert posterior._fit.local is not None
    assert bool((abs(label - p) < 4 * error).all()) and p.max() > 0.9 and p.min() < 0.05
    k, rate = posterior.draws["twice"][0] / 2, posterior.draws["z"][0].exp()
    assert abs(float((k - rate).mean())) < 4 * float(rate.mean().sqrt()) / math.sqrt(k.numel())
