"""Pyro guides, parameters and minibatches behind `fit`."""

import math
import sys
from functools import partial
from types import ModuleType

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam

from inference import fit, load
from inference.runtime.isolation import isolated
from inference.story.call import Call
from inference.story.construct import beside
from inference.story.handlers import Known
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations
from inference.story.plan import plan
from inference.svi import schedule
from inference.svi.minibatch import Rows

X = torch.tensor([3.0, 5.0, 4.0, 8.0, 6.5, 2.5])
PRIOR, NOISE = 10.0, 2.0
PRECISION = PRIOR**-2 + len(X) * NOISE**-2
MEAN, STDDEV = X.sum().item() * NOISE**-2 / PRECISION, PRECISION**-0.5


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """Stop sooner than users do: small stories are fitted well enough in half the steps."""
    monkeypatch.setattr(schedule, "WINDOW", 60)


def story(n):
    mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, NOISE))


def by_function(n, data):
    loc = pyro.param("loc", torch.tensor(0.0))
    stddev = pyro.param("stddev", torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("mu", dist.Normal(loc + data["x"].mean(), stddev))


class ByModule(PyroModule):
    def __init__(self):
        super().__init__()
        self.loc = PyroParam(torch.tensor(1.0))
        self.stddev = PyroParam(torch.tensor(0.5), dist.constraints.positive)

    def forward(self, n):
        pyro.sample("mu", dist.Normal(self.loc, self.stddev))


def log_evidence():
    covariance = NOISE**2 * torch.eye(len(X)) + PRIOR**2
    return dist.MultivariateNormal(torch.zeros(len(X)), covariance).log_prob(X).item()


def check_normal(posterior):
    mu = posterior.draws["mu"].flatten()
    assert posterior.certificate.trusted, posterior.certificate
    assert posterior.certificate.method == "svi+psis"
    # draws are resampled by their weights: 4 Monte Carlo standard errors
    assert abs(mu.mean().item() - MEAN) < 4 * STDDEV / math.sqrt(len(mu))
    assert abs(mu.std().item() - STDDEV) < 4 * STDDEV / math.sqrt(2 * len(mu))
    error = posterior.certificate.log_evidence_stderr
    assert abs(posterior.certificate.log_evidence - log_evidence()) < 4 * error + 1e-5
    assert posterior.certificate.elbo < log_evidence() + 0.01
    assert 1 < len(posterior.history) <= 1000


@pytest.mark.parametrize(
    "guide",
    [by_function, ByModule(), AutoNormal],
    ids=["function", "module", "class"],
)
def test_normal_mean_in_closed_form(guide):
    before = torch.random.get_rng_state()
    posterior = fit(story, {"x": X}, guide=guide, restarts=2, draws=500, seed=2)
    check_normal(posterior)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        drawn = Predictive(story, guide=posterior.guide, num_samples=5)(9)
    assert drawn["x"].shape == (5, 9) and drawn["x"].dtype == torch.float32
    assert not pyro.get_param_store().keys()


def test_an_instance_of_an_autoguide_keeps_its_options_and_its_model():
    guide = AutoMultivariateNormal(story, init_scale=0.25)
    model = guide.model
    posterior = fit(story, {"x": X}, guide=guide, restarts=2, draws=500, seed=2)
    check_normal(posterior)
    assert posterior.certificate.guide == "AutoMultivariateNormal"
    assert posterior.guide.program._init_scale == 0.25
    assert guide.model is model and guide.prototype_trace is None


def test_a_partial_of_an_autoguide_keeps_its_options():
    guide = partial(AutoNormal, init_scale=0.3)
    posterior = fit(story, {"x": X}, guide=guide, restarts=1, draws=50, steps=5)
    assert posterior.guide.program._init_scale == 0.3 and posterior.certificate.guide == "AutoNormal"
    assert not posterior.certificate.trusted


def test_a_module_guide_is_not_changed():
    guide = ByModule()
    fit(story, {"x": X}, guide=guide, restarts=1, draws=50, steps=5)
    assert guide.loc.item() == 1.0 and guide.loc.dtype == torch.float32


def test_tensors_that_a_guide_and_a_story_close_over_are_not_changed():
    loc, noise = torch.tensor(1.0), torch.tensor(2.0)

    def noisy(n):
        mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(mu, pyro.param("noise", noise).abs()))

    def guide(n):
        pyro.sample("mu", dist.Normal(pyro.param("loc", loc), 1.0))

    posterior = fit(noisy, {"x": X}, guide=guide, restarts=1, draws=50, steps=5)
    assert posterior.story.params["noise"] != 2.0
    assert (loc.item(), noise.item()) == (1.0, 2.0)
    assert not loc.requires_grad and not noise.requires_grad


@pytest.mark.parametrize(
    "optim", [torch.optim.Adam, partial(torch.optim.SGD, lr=1e-3), pyro.optim.Adam({"lr": 0.01})]
)
def test_optimizers(optim):
    posterior = fit(story, {"x": X}, guide=by_function, optim=optim, steps=30, restarts=1, draws=50)
    assert max(step for _, step, _ in posterior.history) <= 30
    assert not getattr(optim, "optim_objs", {})


def test_an_underfitted_guide_is_not_trusted():
    posterior = fit(story, {"x": 100 + X}, guide=by_function_from(-300.0), steps=20, restarts=2, draws=100)
    certificate = posterior.certificate
    assert not certificate.trusted
    assert any("before convergence" in reason for reason in certificate.reasons)
    assert certificate.khat > 0.7 and certificate.method == "svi"


def by_function_from(loc):
    def guide(n):
        pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(loc)), 0.5))

    return guide


def test_a_guide_whose_support_is_too_small_is_not_trusted():
    """Its weights look excellent: no draw lies where it has no mass."""

    def guide(n):
        loc = pyro.param("loc", torch.tensor(MEAN))
        pyro.sample("mu", dist.Uniform(loc - 0.9 * STDDEV, loc + 0.9 * STDDEV))

    posterior = fit(
        story, {"x": X}, guide=guide, optim=partial(torch.optim.SGD, lr=1e-9), restarts=2, draws=200
    )
    assert posterior.certificate.khat < 0.7
    assert any("wider tails" in r for r in posterior.certificate.reasons)
    assert not posterior.certificate.trusted


def test_a_point_mass_is_not_trusted():
    posterior = fit(story, {"x": X}, guide=AutoDelta, steps=600, restarts=2, draws=50)
    assert not posterior.certificate.trusted and posterior.certificate.khat is None
    assert "point masses" in posterior.certificate.reasons[0]


def mixture(n):
    weights = pyro.sample("weights", dist.Dirichlet(torch.full((2,), 3.0)))
    with pyro.plate("class", 2):
        mu = pyro.sample("mu", dist.Normal(torch.tensor([-3.0, 3.0]), 1.0))
    with pyro.plate("row", n):
        y = pyro.sample("y", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(mu[y], 1.0))


def test_a_mixture_with_the_labels_summed_out_agrees_with_the_ladder(tmp_path):
    x = torch.tensor([-2.0, -3.5, -2.4, 2.2, 4.0, 3.0, 0.4])
    y = np.ma.masked_array([0, 0, 0, 1, 0, 1, 0], mask=[0, 0, 1, 0, 1, 0, 1])  # some labels known: one mode
    data = {"x": x, "y": y}
    posterior = fit(mixture, data, guide=AutoMultivariateNormal, restarts=2, draws=500, seed=0)
    ladder = fit(mixture, data, restarts=2, draws=500, seed=0)
    assert posterior.certificate.trusted, posterior.certificate
    one, two = posterior.certificate, ladder.certificate
    error = math.hypot(one.log_evidence_stderr, two.log_evidence_stderr)
    assert abs(one.log_evidence - two.log_evidence) < 4 * error + 1e-5
    assert posterior.draws["weights"].shape == (2, 500, 2)
    # Monte Carlo error of either: the standard deviation of p(y | theta) over draws is below 0.3
    p = posterior.probabilities("y"), ladder.probabilities("y")
    assert torch.allclose(*p, atol=4 * 0.3 * math.sqrt(2 / 1000))
    assert posterior.sample("x", num_samples=3).shape == (3, 7)
    assert torch.isfinite(posterior.log_prob({"x": x})).all()
    posterior.save(tmp_path / "fit")
    again = load(tmp_path / "fit", mixture)
    assert torch.equal(again.draws["mu"], posterior.draws["mu"])
    with pytest.raises(ValueError, match="guide"):
        _ = again.guide


@pytest.mark.parametrize("parts", [2, 3])
def test_minibatches_are_unbiased(parts):
    """Over a partition of the rows, the mean of log density and gradient is the full data's, exactly."""
    n = 6
    x, covariate = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)).unbind(1)

    def regression(n, covariate):
        slope = pyro.param("slope", torch.tensor(0.7))
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("pair", 2):
            tau = pyro.sample("tau", dist.Gamma(2.0, 2.0))
        with pyro.plate("row", n):
            y = pyro.sample("y", dist.Bernoulli(0.3)).long()
            pyro.sample("x", dist.Normal(mu + slope * covariate, tau[y]))

    call = Call.bind(regression, (), {"covariate": covariate})
    structure, observations = inspect_rows(call, as_observations({"x": x}))
    chosen = plan(structure, observations)
    rows = Rows(structure, observations, chosen, n // parts)
    values = {"mu": torch.tensor(0.4), "tau": torch.tensor([0.5, 1.5])}

    def density(batch):
        def model():
            with batch.scaled(), poutine.condition(data=values):
                with Known(batch.values, batch.seen, chosen.summed, batch.stand_in):
                    batch.call()

        with isolated(0):
            elbo = TraceEnum_ELBO(max_plate_nesting=1)
            loss = elbo.differentiable_loss(model, lambda: None)
            (grad,) = torch.autograd.grad(loss, [pyro.param("slope").unconstrained()])
        return torch.stack([loss.detach(), grad])

    partition = torch.randperm(n, generator=torch.Generator().manual_seed(1)).chunk(parts)
    batches = [rows.take(index) for index in partition]
    assert {b.scale for b in batches} == {float(parts)}
    mean = torch.stack([density(b) for b in batches]).mean(0)
    torch.testing.assert_close(mean, density(rows.all), rtol=1e-10, atol=1e-10)


def test_epochs_take_every_row_once():
    structure, observations = inspect_rows(Call.bind(story), as_observations({"x": X}))
    rows = Rows(structure, observations, plan(structure, observations), 2)
    with torch.random.fork_rng():
        batches = rows.epochs()
        seen = torch.cat([next(batches).values["x"] for _ in range(3)])
    assert sorted(seen.tolist()) == sorted(X.tolist())


def test_minibatches_find_the_posterior():
    posterior = fit(story, {"x": X}, batch_size=3, restarts=2, draws=500, seed=0)
    assert posterior.certificate.guide == "AutoMultivariateNormal"
    check_normal(posterior)
    (pointwise,) = posterior.to_arviz(predictive=0)["log_likelihood"].data_vars.values()
    exact = dist.Normal(posterior.draws["mu"][..., None], NOISE).log_prob(X.double())
    assert np.allclose(pointwise.values, exact.numpy())  # unscaled, so that LOO is not inflated


def test_an_amortized_guide_covers_local_unknowns_in_minibatches():
    def hidden(n):
        with pyro.plate("row", n):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0))

    def guide(n, data):
        slope = pyro.param("slope", torch.tensor(0.1))
        stddev = pyro.param("stddev", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("row", n):
            pyro.sample("z", dist.Normal(slope * data["x"], stddev))

    posterior = fit(hidden, {"x": X}, guide=guide, batch_size=2, restarts=2, draws=400, seed=0)
    assert posterior.certificate.trusted, posterior.certificate
    z = posterior.draws["z"].flatten(0, 1)
    assert z.shape == (800, 6)
    # exact: Normal(x / 2, variance 1 / 2)
    assert torch.allclose(z.mean(0), X.double() / 2, atol=4 * math.sqrt(0.5 / 800))
    with pytest.raises(ValueError, match="AutoNormal would give all batches"):
        fit(hidden, {"x": X}, guide=AutoNormal, batch_size=2)


def test_parameters_of_a_story_are_point_estimates(tmp_path):
    def scaled(n):
        noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("row", n):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(4.0 + 2.0 * y, noise))

    posterior = fit(scaled, {"x": X}, restarts=2, seed=0)
    assert "point estimates" in posterior.certificate.notes[0]
    fitted = posterior.story.params["noise"]

    def log_p(noise):
        parts = [dist.Normal(4.0 + 2.0 * y, noise).log_prob(X.double()) for y in (0, 1)]
        return (torch.stack(parts).logsumexp(0) - math.log(2)).sum()

    grid = torch.linspace(0.5, 4.0, 3501, dtype=torch.float64)
    best = grid[torch.stack([log_p(s) for s in grid]).argmax()]
    assert abs(fitted - best) < 0.02
    assert abs(posterior.certificate.log_evidence - log_p(fitted)) < 1e-8
    assert posterior.probabilities("y", given={"x": X}).shape == (6, 2)
    posterior.save(tmp_path / "fit")
    again = load(tmp_path / "fit", scaled)
    assert torch.equal(again.log_prob({"x": X}), posterior.log_prob({"x": X}))


@pytest.mark.parametrize("guide", [AutoMultivariateNormal, AutoLaplaceApproximation])
def test_parameters_of_a_story_are_trained_beside_an_autoguide(guide):
    """An autoguide runs the story to find its sites; what it meets there is not what is trained."""

    def scaled(n):
        noise = pyro.param("noise", torch.tensor(6.0), constraint=dist.constraints.positive)
        mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(mu, noise))

    posterior = fit(scaled, {"x": X}, guide=guide, restarts=2, seed=0)
    found = posterior.story.params["noise"].double()

    def evidence(noise):
        covariance = PRIOR**2 + noise**2 * torch.eye(len(X), dtype=torch.float64)
        return dist.MultivariateNormal(torch.zeros(len(X)).double(), covariance).log_prob(X.double())

    grid = torch.linspace(1.0, 4.0, 601, dtype=torch.float64)
    best = grid[torch.stack([evidence(s) for s in grid]).argmax()]
    if guide is AutoMultivariateNormal:  # at a point of mu the best noise is another
        assert abs(found - best) < 0.1
    assert 1.0 < found < 3.0
    assert posterior.certificate.trusted, posterior.certificate
    assert abs(posterior.certificate.log_evidence - evidence(found)) < 0.01


def test_a_module_story_is_trained_on_a_copy():
    class Story(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(1, 1)

        def forward(self, covariate):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            with pyro.plate("row", len(covariate)):
                pyro.sample("y", dist.Normal(self.net(covariate).squeeze(-1) + mu, 0.1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Story()
    kept = {n: p.detach().clone() for n, p in module.named_parameters()}
    covariate = torch.linspace(-1.0, 1.0, 20)[:, None]
    posterior = fit(module, {"y": 3 * covariate[:, 0] + 1}, args=(covariate,), restarts=2, draws=200, seed=0)
    assert all(torch.equal(p, kept[n]) for n, p in module.named_parameters())
    weight = posterior.story.program.net.weight
    assert abs(weight.item() - 3.0) < 0.05 and not weight.requires_grad
    assert posterior.sample("y").shape == (20,)


def test_the_parameter_store_is_left_alone():
    """Parameters of the user's under the same names are neither read nor written; fits do not meet."""
    with pyro.get_param_store().scope():
        pyro.param("loc", torch.tensor(123.0))
        pyro.param("AutoNormal.locs.mu", torch.tensor(7.0))
        options = {"steps": 100, "restarts": 1, "draws": 20, "seed": 3}
        first = fit(story, {"x": X}, guide=by_function, **options)
        other = fit(story, {"x": X + 50}, guide=by_function, **options)
        auto = fit(story, {"x": X}, guide=AutoNormal, **options)
        again = fit(story, {"x": X}, guide=by_function, **options)
        assert torch.equal(first.draws["mu"], again.draws["mu"])
        assert abs(other.draws["mu"].mean() - first.draws["mu"].mean()) > 40
        with torch.random.fork_rng():
            value = auto.guide(6)["mu"]
            first.guide(6)
        assert abs(value.item() - MEAN) < 10 * STDDEV
        assert sorted(pyro.get_param_store().keys()) == ["AutoNormal.locs.mu", "loc"]
        assert pyro.param("loc").item() == 123.0 and pyro.param("AutoNormal.locs.mu").item() == 7.0


def test_a_guide_beside_a_story_is_used_by_default(monkeypatch):
    module = ModuleType("story_with_a_guide")
    source = """
import pyro, torch
import pyro.distributions as dist

def story(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, 2.0))

def guide(n):
    pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))
"""
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert beside(module.story) is module.guide
    assert beside(story) == "auto"
    posterior = fit(module.story, {"x": X}, steps=10, restarts=1, draws=20)
    assert posterior.certificate.guide == "guide"
    assert fit(module.story, {"x": X}, guide="full_rank", draws=20).certificate.guide == "full_rank"


def guide_without_mu(n):
    pyro.sample("nu", dist.Normal(0.0, 1.0))


def guide_with_more(n):
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("nu", dist.Normal(0.0, 1.0))


def guide_of_another_shape(n):
    pyro.sample("mu", dist.Normal(torch.zeros(3), 1.0).to_event(1))


def guide_around_a_network(n, net=torch.nn.Linear(1, 1)):  # noqa: B008
    pyro.module("net", net)
    pyro.sample("mu", dist.Normal(net(torch.ones(1))[0], 1.0))


def guide_that_has_run():
    guide = AutoNormal(story)
    with pyro.get_param_store().scope(), torch.random.fork_rng():
        guide(6)
    return guide


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide": guide_without_mu}, "guide: .*none for 'mu'"),
        ({"guide": guide_with_more}, "guide: .*'nu' too, which is no site of the story"),
        ({"guide": guide_of_another_shape}, r"guide: expected 'mu' of shape \(\), got \(3,\)"),
        ({"guide": guide_around_a_network}, "PyroModule that owns the network"),
        ({"guide": ByModule}, "guide: .*got the class ByModule"),
        ({"guide": "laplace", "batch_size": 2}, "guide: .*got 'laplace'"),
        ({"guide": AutoNormal, "loss": lambda samples, data: 0.0}, r"loss: .*\(samples, data\)"),
        ({"guide": AutoNormal, "loss": Trace_ELBO}, "loss: .*instance"),
        ({"guide": AutoNormal, "optim": torch.optim.LBFGS}, "optim: "),
        ({"guide": AutoNormal, "optim": "adam"}, "optim: .*'adam'"),
        ({"guide": AutoNormal, "batch_size": 0}, "batch_size: "),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        fit(story, {"x": X}, **options)


def test_an_autoguide_that_has_run_is_refused():
    with pytest.raises(ValueError, match="fresh AutoNormal"):
        fit(story, {"x": X}, guide=guide_that_has_run())


def test_a_loss_that_cannot_sum_out_is_refused():
    with pytest.raises(ValueError, match="TraceEnum_ELBO"):
        fit(mixture, {"x": X}, guide=AutoNormal, loss=Trace_ELBO())


def test_batches_need_rows_that_follow_the_arguments():
    def fixed():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", 6):
            pyro.sample("x", dist.Normal(mu, 1.0))

    with pytest.raises(ValueError, match="batch_size: .*'row' has size"):
        fit(fixed, {"x": X}, batch_size=2)
