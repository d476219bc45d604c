"""Which arguments go along with rows: told by what the story does with them, never by their length."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit
from inference.answers.row_story import row_story_of
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.row_arguments import row_arguments

N = 8
X = torch.sin(torch.arange(float(N * 3))).reshape(N, 3)
Z = torch.cos(torch.arange(float(N)))
KNOTS = torch.arange(float(N)) ** 2
FLAGS = (torch.arange(N) % 3 == 0).double()
LEVEL = (torch.arange(N) * 5) % N  # a permutation: its entries are rows' numbers, and codes of N levels
PAIRS = torch.exp(-((Z[:, None] - Z) ** 2))


def told(location, *args, n=N, sites=()):
    """What belongs to the rows, by place; ``location(w, *args)`` is where a row's datum lies."""

    def story(n, *args):
        w = pyro.sample("w", dist.Normal(torch.zeros(N), 10.0).to_event(1))
        with pyro.plate("row", n) as rows:
            local = {"u": pyro.sample("u", dist.Normal(0.0, 1.0))} if "u" in sites else {}
            extra = {"rows": rows} if "rows" in sites else {}
            pyro.sample("x", dist.Normal(location(w, *args, **local, **extra), 1.0))

    structure, _ = inspect_story(Call.bind(story, (n, *args)))
    found = row_arguments(structure, {}, structure.sites["x"].plates[0])
    assert found.counted
    return {place - 1 for place in found.own}


@pytest.mark.parametrize(
    ("location", "args", "own"),
    [
        (lambda w, x: x @ w[:3], (X,), {0}),
        (lambda w, z: w[0] * z, (Z,), {0}),
        (lambda w, knots: w[0] * knots.mean(), (KNOTS,), set()),
        (lambda w, knots: w @ knots, (KNOTS,), set()),
        # Of a few rows, most have the same greatest entry as all have.
        (lambda w, flags: w[0] * flags.max(), (FLAGS,), set()),
        (lambda w, flags: w[0] * flags, (FLAGS,), {0}),
        (lambda w, x, knots: x @ w[:3] + knots.std(), (X, KNOTS), {0}),
        (lambda w, z, knots: w[0] * z * knots.sum(), (Z, KNOTS), {0}),
        (lambda w, level: w[level], (LEVEL,), {0}),
        (lambda w, knots, level: w[0] * knots[level], (KNOTS, LEVEL), {1}),
        # A square matrix may be a table of covariates, or shared.
        (lambda w, pairs: pairs @ w, (PAIRS,), {0}),
        (lambda w, pairs: w[0] * pairs.mean(), (PAIRS,), set()),
        (lambda w, pairs, level: (pairs @ w)[level], (PAIRS, LEVEL), {1}),
    ],
)
def test_what_the_story_does_tells(location, args, own):
    assert told(location, *args) == own


def test_what_a_row_takes_by_its_number_is_refused():
    """The plate's numbers begin at 0 in every batch."""
    with pytest.raises(ValueError, match="the rows cannot be told apart"):
        told(lambda w, rows: w[rows], n=N, sites=("rows",))


@pytest.mark.parametrize(
    ("location", "args", "sites", "name"),
    [
        (lambda w, x: (x - x.mean(0)) @ w[:3], (X,), (), r"args\[0\]"),
        (lambda w, z: w[0] * torch.cat([z[:1], z[:-1]]), (Z,), (), r"args\[0\]"),
        (lambda w, pairs, u: pairs @ u + w[0] * pairs.mean(), (PAIRS,), ("u",), r"args\[0\]"),
        (lambda w, z, x: (x - x.mean(0)) @ w[:3] + z, (Z, X), (), r"args\[1\]"),
    ],
)
def test_what_is_read_across_rows_is_refused_by_name(location, args, sites, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected arguments that .* reads across rows"):
        told(location, *args, sites=sites)


def test_a_density_that_depends_on_the_number_of_rows_is_refused():
    def story(n):
        tau = pyro.sample("tau", dist.HalfNormal(1.0 / n))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(0.0, tau))

    with pytest.raises(ValueError, match=r"^n: the rows cannot be told apart.*no density may depend on it"):
        fit(story, {"x": Z}, batch_size=2, guide="mean_field")


def test_layers_that_are_noisy_in_training_are_at_rest():
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(
                torch.nn.Linear(3, 1), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(1)
            )

        def forward(self, covariates):
            with pyro.plate("row", len(covariates)):
                pyro.sample("x", dist.Normal(self.net(covariates)[:, 0], 1.0))

    story = Noisy()
    structure, _ = inspect_story(Call.bind(story, (X,)))
    assert row_arguments(structure, {}, structure.sites["x"].plates[0]).own == {0}
    assert story.training


def hidden_in_a_branch(n, z, knots):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(w * z + torch.where(w > 0, knots.mean(), torch.zeros(())), 1.0))


def test_what_matters_at_some_values_only_is_tried_at_others():
    call = Call.bind(hidden_in_a_branch, (N, Z, KNOTS))
    for seed in range(4):
        structure, _ = inspect_story(call, seed=seed)
        found = row_arguments(structure, {}, structure.sites["x"].plates[0])
        assert (found.own, found.untold) == ({1}, ())


def test_row_questions_select_alike():
    def story(n, z, knots):
        with pyro.plate("row", n):
            u = pyro.sample("u", dist.Normal(z, 1.0))
            pyro.sample("x", dist.Normal(u * knots.max(), 1.0))

    structure, checked = inspect_story(Call.bind(story, (N, Z, KNOTS)))
    index = torch.tensor([0, 0, 5])
    n, z, knots = row_story_of(structure, checked).call(index).args
    assert n == 3 and torch.equal(z, Z[index].double()) and torch.equal(knots, KNOTS.double())


def unread(n, knots):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(w, 1.0))


def test_what_only_a_guide_may_read_is_asked_for():
    def guide(n, knots):
        loc = pyro.param("loc", torch.zeros(()))
        pyro.sample("w", dist.Normal(loc + knots.mean(), 1.0))

    with pytest.raises(ValueError, match=r"^knots: .*no bearing on the story.*knots\[None\]"):
        fit(unread, {"x": Z}, (N, KNOTS), guide=guide, batch_size=2)
    structure, _ = inspect_story(Call.bind(unread, (N, KNOTS)))
    assert row_arguments(structure, {}, structure.sites["x"].plates[0]).untold == ("knots",)


def shared(n, knots):
    w = pyro.sample("w", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(w * knots.mean(), 1.0))


@pytest.mark.parametrize(("length", "options"), [(100, {}), (101, {}), (100, {"held_out": 0.2})])
def test_a_batch_gets_the_whole_of_what_rows_share(length, options):
    """The posterior is Normal(sum x / (m + .01), 1 / (m + .01)), m the rows that are fitted."""
    knots = torch.zeros(length)
    knots[0] = length
    x = 2 + torch.sin(torch.arange(100.0))
    posterior = fit(shared, {"x": x}, (100, knots), batch_size=10, guide="mean_field", restarts=2, **options)
    rows = posterior._fit.observations["x"].value
    assert len(rows) == (80 if options else 100)
    precision = len(rows) + 0.01
    w = posterior.draws["w"]
    # 2,000 draws that weights have corrected: four standard errors of mean and standard deviation.
    assert abs(float(w.mean()) - float(rows.sum()) / precision) < 4 / (precision * w.numel()) ** 0.5
    assert abs(float(w.std()) * precision**0.5 - 1) < 4 / (2 * w.numel()) ** 0.5
    # Ended early by held-out rows, the guide is narrow: its weights may be refused for their tail, only.
    reasons = posterior.certificate.reasons
    assert not reasons or (options and all("its tail is cut off" in reason for reason in reasons))
