"""How SVI trains: stories and guides as classes, losses, held-out rows, warm-up, labels, loaders."""

import math
import sys
from functools import partial
from types import ModuleType

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.utils.data import DataLoader

from inference import fit, prior
from inference.runtime.progress import Progress
from inference.story.call import Call
from inference.story.construct import beside, maker
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations
from inference.story.plan import plan
from inference.svi import schedule
from inference.svi.held_out import hold_out
from inference.svi.minibatch import Rows
from inference.svi.request import SVI, Request
from inference.svi.restart import restarted
from inference.svi.target import Target
from inference.svi.training import train

SOURCE = """
import pyro, torch
import pyro.distributions as dist
from pyro.nn import PyroModule, PyroParam
from torch import nn

class latent(PyroModule):
    def __init__(self, features=2, latents=1, hidden=8):
        super().__init__()
        self.features, self.latents = features, latents
        self.net = nn.Sequential(nn.Linear(latents, hidden), nn.Tanh(), nn.Linear(hidden, features))
        self.stddev = PyroParam(torch.tensor(0.7), dist.constraints.positive)

    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([self.latents]).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), self.stddev).to_event(1))

class guide(PyroModule):
    def __init__(self, story):
        super().__init__()
        self.net = nn.Linear(story.features, 2 * story.latents)
        self.stddev = PyroParam(torch.tensor(0.3), dist.constraints.positive)

    def forward(self, n, data):
        loc, log_stddev = self.net(data["x"]).chunk(2, -1)
        with pyro.plate("row", n, dim=-1):
            pyro.sample("z", dist.Normal(loc, self.stddev * log_stddev.exp()).to_event(1))
"""


@pytest.fixture(scope="module")
def deep():
    """A module of stories, as ppl_models has them."""
    module = ModuleType("a_deep_story")
    sys.modules[module.__name__] = module
    exec(SOURCE, module.__dict__)
    yield module
    del sys.modules[module.__name__]


def points(n=40, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def weights(story):
    return story.net[0].weight


def bound(story, data, guide, batch_size=None, args=(), steps=None, **options):
    """What training starts from: target, rows and what was asked."""
    structure, observations = inspect_rows(Call.bind(story, args), as_observations(data))
    target = Target(structure, observations)
    return (
        target,
        Rows(structure, observations, target.plan, batch_size),
        Request(guide, SVI(**options), steps),
    )


# stories and guides as classes


def test_a_class_is_constructed_anew_for_every_restart(deep):
    structure, observations = inspect_rows(Call.bind(deep.latent()), as_observations({"x": points()}))
    target = Target(structure, observations)
    rows = Rows(structure, observations, target.plan, None)
    request = Request(deep.guide, steps=2, make=maker(deep.latent))
    fits = [train(target, rows, request, seed, lambda *_: None) for seed in (1, 2, 1)]
    one, other, again = (weights(f.story) for f in fits)
    assert torch.equal(one, again) and not torch.allclose(one, other, atol=0.1)
    assert not torch.allclose(fits[0].guide.net.weight, fits[1].guide.net.weight, atol=0.1)
    instance = deep.latent()
    copied = Request(deep.guide, steps=2)
    one, other = (train(target, rows, copied, seed, lambda *_: None) for seed in (1, 2))
    assert torch.allclose(weights(one.story), weights(other.story), atol=0.1)
    assert weights(instance).requires_grad


def test_the_guide_beside_a_class_is_found_for_classes_partials_and_instances(deep):
    story = deep.latent
    assert all(beside(s) is deep.guide for s in (story, partial(story, latents=2), story()))
    assert beside(torch.nn.Linear(1, 1)) == "auto"


def test_networks_keep_their_dtype_and_the_users_object_is_not_changed(deep):
    module, before = deep.latent(), torch.random.get_rng_state()
    kept = {n: p.detach().clone() for n, p in module.named_parameters()}
    posterior = fit(module, {"x": points()}, steps=3, restarts=1, draws=4, batch_size=10)
    assert all(torch.equal(p, kept[n]) for n, p in module.named_parameters())
    assert {p.dtype for p in posterior._fit.local.restarts[0].story.program.parameters()} == {torch.float32}
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not pyro.get_param_store().keys() and torch.get_default_dtype() == torch.float32
    options = {"steps": 3, "restarts": 1, "draws": 4, "guide": deep.guide}
    partial_story = fit(partial(deep.latent, latents=3), {"x": points()}, **options)
    assert partial_story.draws["z"].shape[-1] == 3
    assert prior(deep.latent, draws=5).sample("x", args=(7,)).shape == (7, 2)


def test_story_and_guide_may_use_the_same_names(deep):
    """In Pyro's store the two ``net`` and ``stddev`` would be one parameter, and one of them untrained."""
    target, rows, request = bound(deep.latent(), {"x": points()}, deep.guide, steps=3)
    with restarted(target, rows, request, 0) as one:
        assert len(one.params) == len([*one.model.story.parameters(), *one.guide.parameters()]) == 8
        before = [p.detach().clone() for p in one.params]
        one.stepper.take(rows.all)
        assert all(not torch.equal(p, b) for p, b in zip(one.params, before, strict=True))


class NeedsSizes(PyroModule):
    def __init__(self, story, hidden):
        super().__init__()


@pytest.mark.parametrize(
    ("story", "options", "message"),
    [
        (partial(nn.Linear, 2), {}, "story: the class Linear could not be constructed"),
        (None, {"guide": NeedsSizes}, r"guide: .*constructed from the story.*NeedsSizes\(story, hidden\)"),
        (None, {"held_out": 1.5}, "held_out: .*share between 0 and 1"),
        (None, {"held_out": {"y": [1.0]}}, "held_out: expected data for x, got y"),
        (None, {"warm_up": -1}, "warm_up: expected a number"),
        (None, {"warm_up": 2}, "warm_up: expected fewer than the 2 steps"),
        (None, {"device": "nowhere"}, "device: expected a device that torch can use"),
        (None, {"optim": lambda params: 3}, "optim: expected the function to return a torch optimizer"),
    ],
)
def test_errors(deep, story, options, message):
    with pytest.raises(ValueError, match=message):
        fit(story or deep.latent, {"x": points()}, **{"steps": 2, "restarts": 1, **options})


# ELBOs: one Gaussian latent variable per row, whose best guide is exact

ROWS = torch.tensor([1.5, -0.5, 2.5, 0.7])
EVIDENCE = dist.Normal(0.0, math.sqrt(2.0)).log_prob(ROWS).sum().item()


def hidden(n):
    with pyro.plate("row", n):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0))


def amortized(n, data):
    slope = pyro.param("slope", torch.tensor(0.2))
    stddev = pyro.param("stddev", torch.tensor(0.5), constraint=dist.constraints.positive)
    with pyro.plate("row", n):
        pyro.sample("z", dist.Normal(slope * data["x"], stddev))


@pytest.mark.parametrize(
    "loss",
    [
        Trace_ELBO(num_particles=2), TraceMeanField_ELBO(), TraceEnum_ELBO(strict_enumeration_warning=False),
        RenyiELBO(alpha=0, num_particles=3), TraceGraph_ELBO(),
    ],
    ids=lambda loss: type(loss).__name__,
)  # fmt: skip
def test_every_elbo_finds_the_exact_guide(loss):
    target, rows, request = bound(hidden, {"x": ROWS}, amortized, loss=loss, steps=400)
    found = train(target, rows, request, 0, lambda *_: None)
    # Adam near the optimum, gradient noise s = 3 and curvature h = 8 per unit of the log stddev: variance
    # rate * s / 2h, frozen where the falling rate no longer relaxes, at about .009: four of .7 * .041
    assert abs(found.params["slope"].item() - 0.5) < 0.12
    assert abs(found.params["stddev"].item() - math.sqrt(0.5)) < 0.12
    exact = {"slope": 0.5, "stddev": 0.5 * math.log(0.5)}
    for size in (None, 2):
        target, rows, request = bound(hidden, {"x": ROWS}, amortized, size, loss=loss, steps=1)
        with torch.random.fork_rng(), restarted(target, rows, request, 0) as one, torch.random.fork_rng():
            with torch.no_grad():
                for p, name in one.params.items():
                    p.fill_(exact[name])
            batches = rows.epochs()
            steps = [one.stepper._gradient(next(batches), None) for _ in range(200)]
        for values, mean in [
            (torch.stack([-loss for loss, _ in steps]), EVIDENCE),  # the bound is tight, whatever its form
            *((torch.stack([grads[i] for _, grads in steps]), 0.0) for i in range(2)),
        ]:
            error = 4 * values.std().item() / math.sqrt(200)
            assert abs(values.mean().item() - mean) < error + 1e-5


def test_minibatch_gradients_are_unbiased_for_a_network(deep):
    """Over all batches of a partition the mean gradient is the full one; the guide draws nothing."""

    def fixed(n, data):
        with pyro.plate("row", n, dim=-1):
            pyro.sample(
                "z", dist.Delta(data["x"][:, :1] * pyro.param("slope", torch.tensor(0.3)), event_dim=1)
            )

    target, rows, request = bound(deep.latent().double(), {"x": points(12)}, fixed, 3, steps=1)
    with restarted(target, rows, request, 0) as restart:
        gradient = restart.stepper.traced.plain
        loss, full = gradient(rows.all, None)
        parts = torch.randperm(12, generator=torch.Generator().manual_seed(1)).chunk(4)
        found = [gradient(rows.take(index), None) for index in parts]
        torch.testing.assert_close(
            torch.stack([one for one, _ in found]).mean(0), loss, rtol=1e-10, atol=1e-10
        )
        for i, g in enumerate(full):
            mean = torch.stack([gs[i] for _, gs in found]).mean(0)
            torch.testing.assert_close(mean, g, rtol=1e-9, atol=1e-9)


def test_warm_up_scales_the_latent_sites_and_not_the_data():
    target, rows, request = bound(hidden, {"x": ROWS}, amortized, loss=TraceMeanField_ELBO(), steps=1)
    with restarted(target, rows, request, 0) as one:

        def loss(factor):
            torch.manual_seed(3)
            return one.stepper.traced.plain(rows.all, factor)[0].item()

        none, half, full = (loss(torch.tensor(f)) for f in (0.0, 0.5, 1.0))
        q = dist.Normal(0.2 * ROWS.double(), 0.5)
        kl = torch.distributions.kl_divergence(q, dist.Normal(0.0, 1.0)).sum().item()
    assert abs(full - none - kl) < 1e-9 and abs(full + none - 2 * half) < 1e-9


# steps


def test_a_traced_step_is_plain_pyros_at_the_same_noise(deep):
    torch_story = deep.latent().double()
    target, rows, request = bound(torch_story, {"x": points()}, deep.guide, 8, steps=5000)
    with restarted(target, rows, request, 0) as one:
        step, batches = one.stepper.traced, rows.epochs()
        for factor in (None, torch.tensor(0.3)):
            assert step.trace(next(batches), factor), step.refused
            for seed in range(3):
                batch = next(batches)
                with torch.no_grad():  # the graph sees what the optimizer writes into the parameters
                    for p in one.params:
                        p.add_(0.01 * torch.randn_like(p))
                torch.manual_seed(seed)
                loss, grads = step.plain(batch, factor)
                torch.manual_seed(seed)
                traced, found = step(batch, factor)
                torch.testing.assert_close(traced, loss, rtol=1e-9, atol=1e-9)
                torch.testing.assert_close(found, grads, rtol=1e-8, atol=1e-8)
                again, _ = step(batch, factor)
                assert again != traced  # its draws are made anew


def test_programs_that_cannot_be_traced_are_run_by_pyro():
    def branching(n):
        with pyro.plate("row", n):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            width = 1.0 if float(z.detach().sum()) > 0 else 2.0
            pyro.sample("x", dist.Normal(z, width))

    target, rows, request = bound(branching, {"x": ROWS}, amortized, steps=400)
    with restarted(target, rows, request, 0) as one:
        for _ in range(15):
            assert math.isfinite(one.stepper.take(rows.all))
        assert one.stepper.traced.refused


def test_steps_that_are_not_finite_are_skipped_and_counted():
    calls = []

    def sometimes(n, data):
        calls.append(1)
        slope = pyro.param("slope", torch.tensor(0.2))
        spoiled = slope * math.nan if len(calls) % 5 == 0 else slope
        with pyro.plate("row", n):
            pyro.sample("z", dist.Normal(spoiled * data["x"], 0.7))

    target, rows, request = bound(hidden, {"x": ROWS}, sometimes, steps=100)
    found = train(target, rows, request, 0, lambda *_: None)
    assert found.skipped == 20 and "20 of 100 steps" in found.notes[0]
    assert abs(found.params["slope"].item() - 0.5) < 0.2 and math.isfinite(found.elbo)

    def never(n):
        with pyro.plate("row", n):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)) * math.inf, 0.7))

    with pytest.raises(ValueError, match="guide: the ELBO is nan at step 50.*50 steps had to be skipped"):
        fit(hidden, {"x": ROWS}, guide=never, restarts=1)


def test_a_gradient_far_beyond_the_usual_is_clipped_and_counted():
    target, rows, request = bound(hidden, {"x": ROWS}, amortized, steps=200)
    with restarted(target, rows, request, 0) as one:
        for _ in range(120):
            one.stepper.take(rows.all)
        one.stepper.take(rows.take(torch.arange(4)).replaced({"x": 1e4 * ROWS.double()}, {}, {}, (4,), {}))
        assert one.stepper.count.clipped == 1 and "clipped in 1 of 121" in one.stepper.count.sentences()[0]


@pytest.mark.parametrize(
    "optim",
    [
        lambda params: torch.optim.SGD(params, lr=0.01),
        lambda params: (o := torch.optim.Adam(params, 0.05), torch.optim.lr_scheduler.ExponentialLR(o, 0.99)),
        pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.99}),
        pyro.optim.Adam(lambda name: {"lr": 0.05 if name == "slope" else 0.0}),
        pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.99}),
        partial(torch.optim.RMSprop, lr=0.02),
    ],
    ids=["function", "with scheduler", "Pyro's scheduler", "by name", "Pyro's own", "partial"],
)  # fmt: skip
def test_optimizers(optim):
    target, rows, request = bound(hidden, {"x": ROWS}, amortized, optim=optim, steps=150)
    found = train(target, rows, request, 0, lambda *_: None)
    assert abs(found.params["slope"].item() - 0.5) < 0.15  # from .2
    if callable(getattr(optim, "pt_optim_args", None)):
        assert found.params["stddev"].item() == 0.5


# held-out rows


def test_a_share_of_the_rows_is_held_out():
    structure, observations = inspect_rows(Call.bind(hidden), as_observations({"x": torch.arange(10.0)}))
    (kept, data), held = hold_out(structure, observations, 0.3, seed=1)
    other, rest = held
    assert sorted([*data["x"].value.tolist(), *rest["x"].value.tolist()]) == list(range(10))
    assert kept.call.named_arguments()["n"] == 7 and other.call.named_arguments()["n"] == 3
    assert hold_out(structure, observations, None, seed=1)[1] is None


def test_held_out_rows_stop_a_network_that_learns_by_heart():
    """Twenty rows, labels at random, a network with room for all of them: the best is near the start."""

    class Memory(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1))

        def forward(self, covariates):
            with pyro.plate("row", len(covariates)):
                pyro.sample("y", dist.Bernoulli(logits=self.net(covariates)[..., 0]))

    g = torch.Generator().manual_seed(0)
    covariates, y = torch.randn(40, 4, generator=g), torch.randint(2, (40,), generator=g).float()
    options = {"args": (covariates,), "restarts": 1, "draws": 4, "steps": 1500, "seed": 0}
    stopped = fit(Memory, {"y": y}, held_out=0.5, **options)
    by_heart = fit(Memory, {"y": y}, **options)
    note = next(n for n in stopped.certificate.notes if "held out" in n)
    assert "20 rows were held out" in note and max(step for _, step, _ in stopped.history) < 1500
    assert by_heart.certificate.elbo / 40 > -0.1 > stopped.certificate.elbo / 20
    best = float(note.split("best: ")[1].split(" nats")[0])
    assert -1.0 < best < -0.6  # a coin's -.69, and not the -5 of a network that is sure and wrong


def test_held_out_data_by_site_name():
    target, rows, request = bound(hidden, {"x": ROWS}, amortized, steps=400)
    other, found = inspect_rows(Call.bind(hidden), as_observations({"x": torch.tensor([0.3, -1.0])}))
    held = Rows(other, found, plan(other, found), None)
    result = train(target, rows, request, 0, lambda *_: None, held)
    exact = dist.Normal(0.0, math.sqrt(2.0)).log_prob(torch.tensor([0.3, -1.0])).mean().item()
    assert (
        abs(result.held_out.elbo - exact) < 4 * result.held_out.stderr + 0.02 and result.held_out.rows is held
    )


# loaders


class BatchedFunction(torch.utils.data.Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i]}


def test_a_loader_makes_the_batches():
    loader = DataLoader(BatchedFunction(ROWS.repeat(2)), batch_size=3, shuffle=True)
    before = torch.random.get_rng_state()
    posterior = fit(hidden, loader, guide=amortized, steps=400, restarts=1, draws=20, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    slope = posterior.guide.params["slope"].item()
    assert abs(slope - 0.5) < 0.1 and posterior.draws["z"].shape == (1, 20, 8)
    target, _, request = bound(hidden, {"x": ROWS.repeat(2)}, amortized)
    rows = Rows(target.structure, target.observations, target.plan, None, loader)
    with torch.random.fork_rng():
        batches = rows.epochs()
        first, second = ([next(batches) for _ in range(3)] for _ in range(2))
    assert [len(b.values["x"]) for b in second] == [3, 3, 2]
    assert [b.scale for b in second] == [3.0, 3.0, 3.0]  # their sum over an epoch, thrice, is three epochs
    assert first[0].scale == pytest.approx(8 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 2}, "batch_size: the loader"), ({"held_out": 0.5}, "held_out: a loader")],
)
def test_what_a_loader_does_not_go_with(options, message):
    with pytest.raises(ValueError, match=message):
        fit(hidden, DataLoader(BatchedFunction(ROWS), batch_size=2), guide=amortized, **options)


def test_a_loader_of_tuples_is_refused():
    tuples = torch.utils.data.TensorDataset(ROWS)
    with pytest.raises(ValueError, match="data: expected a loader of mappings"):
        fit(hidden, DataLoader(tuples, batch_size=2), guide=amortized)


# losses on samples


class Pushed(PyroModule):
    """y ~ Categorical(weights), x = g(z, y): a story without a likelihood."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.shift = nn.Parameter(torch.zeros(2))
        self.weights = PyroParam(torch.tensor([0.5, 0.5]), dist.constraints.simplex)

    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(self.weights))
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([1]).to_event(1))
            x = self.net(z) + self.shift[y.long()][..., None]
            pyro.sample("x", dist.Delta(x, event_dim=1))


def moments(samples, data):
    """Distance of mean and standard deviation, class by class."""
    total = 0.0
    for k in (0, 1):
        mine, theirs = samples["x"][samples["y"] == k], data["x"][data["y"] == k]
        total = total + (mine.mean() - theirs.mean()).square() + (mine.std() - theirs.std()).square()
    return total


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))

    def forward(self, samples, data):
        """What the critic finds between the means, less what a steep one costs."""
        return self.slope * (data["x"].mean() - samples["x"].mean()) - self.slope.square()


def labelled(n=200):
    g = torch.Generator().manual_seed(2)
    y = (torch.rand(n, generator=g) < 0.7).long()
    return {"x": torch.randn(n, 1, generator=g) * 0.5 + 3.0 * y[:, None], "y": y}


def test_a_loss_on_samples_trains_a_story_without_likelihood():
    data = labelled()
    posterior = fit(
        Pushed, data, loss=moments, optim=partial(torch.optim.Adam, lr=0.05), steps=300, restarts=2
    )
    certificate = posterior.certificate
    assert not certificate.trusted and certificate.method == "loss" and "(moments)" in certificate.reasons[0]
    story = posterior.story.program if hasattr(posterior.story, "program") else posterior.story
    # trained to the frequencies, which have no Monte Carlo error here; the rate ends at Adam's .05
    assert abs(story.weights[1].item() - data["y"].double().mean().item()) < 0.03
    drawn = posterior.sample("x", {"y": torch.ones(500, dtype=torch.long)})
    mean = data["x"][data["y"] == 1].mean()
    assert abs(drawn.mean() - mean) < 4 * 0.5 / math.sqrt(500) + 0.1
    with pytest.raises(ValueError, match="loss on samples"):
        posterior.log_prob(data)


def test_an_adversary_climbs_on_a_copy_of_its_own():
    critic, data = Critic(), labelled()
    target, rows, request = bound(Pushed(), data, "auto", loss=critic, steps=5)
    with restarted(target, rows, request, 0) as one:
        before = one.objective.adversary.slope.item()
        one.stepper.take(rows.all)
        moved = one.objective.adversary.slope.item()
        gap = (data["x"].mean() - 0.0).item()  # the story's mean is near zero, and the data's is larger
        assert gap > 0 and moved > before == 0.0
    assert critic.slope.item() == 0.0
    posterior = fit(Pushed, data, loss=critic, steps=600, restarts=1, seed=1)
    drawn = posterior.sample("x", args=(2000,))
    assert abs(drawn.mean() - data["x"].mean()) < 0.3 and critic.slope.item() == 0.0


def shared(n):
    mu = pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Delta(mu.expand(n)))


@pytest.mark.parametrize(
    ("story", "loss", "options", "message"),
    [
        (hidden, moments, {}, "loss: .*the story has none"),
        (Pushed, lambda samples, data: samples["x"], {}, r"loss: expected a function.*\(200, 1\)"),
        (Pushed, lambda samples, data: 1.0, {}, "loss: expected a function.*got float"),
        (Pushed, lambda samples, data: data["x"].mean(), {"steps": 3}, None),
        (Pushed, moments, {"guide": amortized}, r"loss: .*\(samples, data\).*no guide"),
        (Pushed, Critic(), {"held_out": 0.2}, "held_out: an adversary's loss"),
        (shared, moments, {}, "loss: .*all sites in the data plate, got 'mu'"),
    ],
)
def test_losses_that_cannot_train(story, loss, options, message):
    data = labelled() if story is Pushed else {"x": ROWS}
    if message is None:  # nothing but the class weights has a gradient
        assert fit(story, data, loss=loss, restarts=1, **options).certificate.method == "loss"
        return
    with pytest.raises(ValueError, match=message):
        fit(story, data, loss=loss, restarts=1, **options)


# half-seen labels


def two_classes(n):
    loc = pyro.param("loc", torch.tensor([-0.5, 0.5]))
    with pyro.plate("row", n):
        y = pyro.sample("y", dist.Categorical(torch.tensor([0.4, 0.6])))
        pyro.sample("x", dist.Normal(loc[y.long()], 1.0))


def classifier(n, data, seen=None):
    """q(y | x); it overlooks the labels that were given."""
    assert seen is None or seen["y"].dtype == torch.bool
    logits = torch.stack(
        [torch.zeros_like(data["x"]), pyro.param("slope", torch.tensor(0.3)) * data["x"]], -1
    )
    with pyro.plate("row", n):
        pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})


def test_a_guide_may_draw_a_half_labelled_site_itself():
    """The ELBO is the exact sum over q(y | x) where the label is missing, and the joint density elsewhere."""
    x, labels, missing = ROWS.double(), torch.tensor([1, 0, 0, 1]), [False, True, True, False]
    y = np.ma.masked_array(labels.numpy(), missing)
    target, rows, request = bound(two_classes, {"x": x, "y": y}, classifier, steps=1)
    with restarted(target, rows, request, 0) as one:
        assert isinstance(one.objective.elbo, TraceEnum_ELBO)
        one.model.batch = rows.all
        elbo = -one.objective.evaluate()
        graph = one.stepper.traced
        assert graph.trace(rows.all, None), graph.refused
        assert abs(-graph(rows.all, None)[0].item() - elbo) < 1e-9
    loc, prior_y = torch.tensor([-0.5, 0.5]).double(), torch.tensor([0.4, 0.6]).double().log()
    joint = prior_y + dist.Normal(loc, 1.0).log_prob(x[:, None])
    q = torch.stack([torch.zeros(4), 0.3 * x], -1).log_softmax(-1)
    free = (q.exp() * (joint - q)).sum(-1)
    told = joint.gather(1, labels[:, None])[:, 0]
    assert abs(elbo - torch.where(torch.tensor(missing), free, told).sum().item()) < 1e-6


# devices


def test_device_cpu(deep):
    options = {"steps": 20, "restarts": 1, "draws": 4, "batch_size": 10, "seed": 3}
    plain = fit(deep.latent, {"x": points()}, **options)
    there = fit(deep.latent, {"x": points()}, device="cpu", **options)
    assert torch.equal(plain.draws["z"], there.draws["z"])


@pytest.mark.gpu
def test_device_cuda(deep):
    posterior = fit(
        deep.latent, {"x": points(256)}, steps=500, restarts=1, draws=4, batch_size=64, device="cuda"
    )
    assert posterior.draws["z"].device.type == "cpu"
    assert posterior.sample("x", args=(5,)).device.type == "cpu"


# the schedule


class Recorded:
    """Stands for an optimizer: keeps the factors of its rate."""

    ours = True

    def __init__(self):
        self.factors = []

    def pace(self, factor):
        self.factors.append(factor)


def run_schedule(values, **options):
    optimizer = Recorded()
    rule = schedule.Cooldown(optimizer, rows=1, **options)
    for value in values:
        if rule.add(value):
            break
    rule.finish()
    return rule, optimizer.factors


def test_with_steps_given_all_are_taken_and_the_rate_falls_to_zero():
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(0)).tolist()
    rule, factors = run_schedule(noise, total=1000, given=True)
    assert rule.steps == 1000 and rule.converged
    assert factors[0] < 0.05 and factors[300] == factors[699] == 1.0 and factors[-1] == 0.0
    assert all(a >= b for a, b in zip(factors[700:], factors[701:], strict=False))
    rising, _ = run_schedule([0.01 * i + e for i, e in enumerate(noise)], total=1000, given=True)
    assert rising.steps == 1000 and not rising.converged
    few, _ = run_schedule(noise, total=50, given=True)
    assert few.steps == 50 and not few.converged  # nothing can be said after so few


def test_without_steps_the_rate_falls_once_the_elbo_stands_still():
    noise = torch.randn(9000, generator=torch.Generator().manual_seed(1)).tolist()
    saturating = [-50 * math.exp(-i / 300) + 0.1 * e for i, e in enumerate(noise)]
    rule, factors = run_schedule(saturating, total=9000, given=False)
    # the last quarter gains less than a standard error (about .005) after some ten time constants
    assert rule.converged and 1500 < rule.steps < 7000 and factors[-1] == 0.0
    assert rule.elbo > -0.1


def test_held_out_rows_let_the_rate_fall_and_then_end_it():
    rule = schedule.Cooldown(Recorded(), 10_000, given=True, rows=1)
    for _ in range(900):
        rule.add(0.0)
    assert not rule.hurry() and rule.converged
    rule.add(0.0)
    assert rule.hurry()


@pytest.mark.parametrize("show", [False, True])
def test_the_bar_shows_a_smoothed_elbo(show, capsys):
    with Progress(1, show) as bar:
        for step, elbo in enumerate([0.0, 10.0, -10.0], 1):
            bar.step("rung", step, elbo)
        assert bar._smooth == pytest.approx(0.8 * 2.0 - 2.0)
        bar.step("rung", 1, 7.0)  # the next restart begins anew
        assert bar._smooth == 7.0
        bar.step("hmc", 500, None)  # chains have no ELBO
    assert [row[2] for row in bar.history] == [0.0, 10.0, -10.0, 7.0]
