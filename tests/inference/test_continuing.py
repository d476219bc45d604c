"""So many steps and as many again are the same as all of them at once."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule

from inference import SVI, certify, continue_fit, fit, load, prior
from inference.svi import schedule

X = torch.linspace(-2.0, 3.0, 24)


def story(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, 2.0))


def with_parameter(n):
    noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, noise))


class Deep(PyroModule):
    """A small autoencoder, with numbers that are no parameters (running means)."""

    def __init__(self):
        super().__init__()
        self.decoder = torch.nn.Sequential(
            torch.nn.Linear(2, 32), torch.nn.BatchNorm1d(32), torch.nn.Tanh(), torch.nn.Dropout(0.1),
            torch.nn.Linear(32, 4),
        )  # fmt: skip

    def forward(self, n):
        with pyro.plate("row", n):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1))


class Encoder(PyroModule):
    def __init__(self, story):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4))

    def forward(self, n, data):
        loc, log_scale = self.net(data["x"]).chunk(2, -1)
        with pyro.plate("row", n):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


ROWS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) @ torch.diag(
    torch.tensor([3.0, 2, 1, 1])
)


def cosine(params):
    optimizer = torch.optim.SGD(params, lr=1e-5, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)


def by_name(name):
    return {"lr": 0.01 if "loc" in name else 0.02}


DEEP = {"story": Deep, "data": {"x": ROWS}, "guide": Encoder}
FITS = [
    {"story": story, "data": {"x": X}, "guide": AutoNormal, "batch_size": 7},
    {"story": with_parameter, "data": {"x": X}},
    {**DEEP, "batch_size": 16},
    {**DEEP, "svi": SVI(batch_size=16, held_out=0.2, warm_up=20)},
    {**DEEP, "optim": cosine},
    {"story": with_parameter, "data": {"x": X}, "optim": pyro.optim.Adam(by_name)},
    {
        "story": story, "data": {"x": X}, "guide": AutoNormal,
        "optim": pyro.optim.ExponentialLR(
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.99}
        ),
    },
]  # fmt: skip


def numbers(posterior):
    """All trained tensors of all restarts, and the draws."""
    found = dict(posterior.draws)
    local = posterior._fit.local
    programs = [p for pair in local.restarts for p in (pair.story, pair.guide)] if local else []
    programs += [posterior.story, posterior.guide]
    for index, program in enumerate(programs):
        module = getattr(program, "program", None)
        parts = {**getattr(program, "params", {})}
        parts |= module.state_dict() if isinstance(module, torch.nn.Module) else {}
        found |= {f"{index}/{n}": v for n, v in parts.items()}
    return found


def are_equal(one, other):
    a, b = numbers(one), numbers(other)
    assert a.keys() == b.keys() and len(a) > 1
    different = [n for n in a if not torch.equal(a[n], b[n])]
    assert different == []
    facts = [{**p.certificate.as_dict(), "seconds": None} for p in (one, other)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("options", FITS, ids=range(len(FITS)))
def test_half_and_half_are_the_whole(options):
    restarts = 2 if options is FITS[0] else 1
    fitted = partial(fit, **options, restarts=restarts, draws=200, seed=1)
    half, whole = fitted(steps=80), fitted(steps=160)
    before = {n: v.clone() for n, v in numbers(half).items()}
    store, state = dict(pyro.get_param_store()), torch.random.get_rng_state()
    are_equal(continue_fit(half, steps=80), whole)
    assert all(torch.equal(v, before[n]) for n, v in numbers(half).items())
    assert dict(pyro.get_param_store()) == store and torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(AssertionError):  # that they are equal says something
        are_equal(half, whole)


@pytest.mark.parametrize("parts", [(30, 30, 60), (80, 90, 150)])
def test_many_parts_are_the_whole_and_a_graph_takes_over_on_the_way(parts):
    fitted = partial(fit, **FITS[0], restarts=1, draws=200)
    now = fitted(steps=parts[0])
    for more in parts[1:]:
        now = continue_fit(now, more)
    are_equal(now, fitted(steps=sum(parts)))


def test_a_fit_that_was_given_up_goes_on(monkeypatch):
    fitted = partial(fit, story, {"x": X}, guide=AutoNormal, restarts=1)
    monkeypatch.setattr(schedule, "WINDOW", 60)
    monkeypatch.setattr(schedule, "CAP", 100)
    half = fitted()
    assert not half.certificate.trusted
    monkeypatch.setattr(schedule, "CAP", 220)
    are_equal(continue_fit(half, 120), fitted())


def test_fits_that_ended_by_themselves_go_on_and_stay_right(monkeypatch):
    monkeypatch.setattr(schedule, "WINDOW", 60)
    ended = fit(story, {"x": X}, guide=AutoNormal)
    longer = continue_fit(ended, 400)
    assert longer.certificate.gradient_calls > ended.certificate.gradient_calls
    assert longer.certificate.trusted, longer.certificate
    mean = X.sum().item() / 4 / (0.01 + len(X) / 4)
    assert abs(longer.draws["mu"].mean() - mean) < 4 * (0.01 + len(X) / 4) ** -0.5 / 4000**0.5


def test_a_network_whose_rate_fell_by_itself_goes_on_from_there(monkeypatch):
    monkeypatch.setattr(schedule, "WINDOW", 20)
    monkeypatch.setattr(schedule, "CAP", 300)
    fitted = partial(fit, **DEEP, restarts=1, draws=200)
    ended = fitted()
    taken = ended.certificate.gradient_calls
    assert ended.training.resumed[0].checkpoint.rule["steps"] < taken
    are_equal(continue_fit(ended, taken // 2), fitted(steps=taken + taken // 2))


def test_a_posterior_can_be_continued_twice():
    half = fit(**FITS[0], restarts=1, steps=120)
    are_equal(continue_fit(half, 120), continue_fit(half, 120))


def test_what_has_no_steps_is_refused_in_words(tmp_path):
    ladder = fit(story, {"x": X})
    trained = fit(story, {"x": X}, guide=AutoNormal, steps=100, restarts=1)
    trained.save(tmp_path / "mu")
    judged = certify(story, {"x": X}, guide=trained.guide)
    for posterior in (ladder, prior(story), judged, load(tmp_path / "mu", story)):
        with pytest.raises(
            ValueError, match="expected one that `fit` trained by SVI in this session, got one"
        ):
            continue_fit(posterior, 100)
    for steps in (0, None):
        with pytest.raises(ValueError, match=f"steps: expected a positive integer, got {steps}"):
            continue_fit(trained, steps)
    with pytest.raises(ValueError, match="posterior: expected one that `fit` trained, got dict"):
        continue_fit({}, 100)
    rows = torch.utils.data.DataLoader([{"x": x} for x in X], batch_size=6)
    loaded = fit(story, rows, guide=AutoNormal, steps=100, restarts=1)
    with pytest.raises(ValueError, match="made by a loader"):
        continue_fit(loaded, 100)
    fixed = fit(story, {"x": X}, guide=lambda n: pyro.sample("mu", dist.Normal(0.5, 0.4)))
    with pytest.raises(ValueError, match="nothing in its story or guide is trained"):
        continue_fit(fixed, 100)


def test_a_trained_guide_is_refused_and_a_trained_story_says_that_it_is_held():
    posterior = fit(**DEEP, steps=100, restarts=1)
    for guide in (posterior.guide, fit(story, {"x": X}).guide):
        with pytest.raises(ValueError, match="nothing would change. To train on, use continue_fit"):
            fit(posterior.story, {"x": ROWS}, guide=guide)
    again = fit(posterior.story, {"x": ROWS}, guide=Encoder, steps=100, restarts=1)
    assert any("keeps its parameters" in note for note in again.certificate.notes)
    scaled = fit(with_parameter, {"x": X}, steps=100, restarts=1)
    assert any("keeps its parameters" in note for note in fit(scaled.story, {"x": X}).certificate.notes)
    frozen = Deep().requires_grad_(False).eval()
    stiff = fit(frozen, {"x": ROWS}, guide=Encoder(frozen).requires_grad_(False).eval(), restarts=1)
    assert any("no parameter of story or guide asks for a gradient" in n for n in stiff.certificate.notes)
