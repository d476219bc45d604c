"""What a density leaves out is drawn for every draw of the unknowns: a stand-in of one run is no value."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, fit_many, load, reference
from inference.answers import completion

X = torch.tensor([1.0, 2.0, 0.0, 3.0], dtype=torch.float64)
SEEN = torch.tensor([True, True, False, True])
MEAN, SD = (
    6 / (3 + 1 / 100),
    math.sqrt(1 + 1 / (3 + 1 / 100)),
)  # of the missing value
FIT = {"restarts": 4, "draws": 1000, "seed": 0}
QUICK = {"restarts": 1, "draws": 100, "seed": 3}


def near(values, mean, sd, kurtosis=3.0):
    """Mean and standard deviation within four standard errors of so many draws."""
    n = values.numel()
    assert abs(float(values.double().mean()) - mean) < 4 * sd / math.sqrt(n)
    assert abs(float(values.double().std()) / sd - 1) < 4 * math.sqrt((kurtosis - 1) / (4 * n))


def leaf():
    mu = pyro.sample("mu", dist.Normal(1.0, 0.2))
    k = pyro.sample("k", dist.Poisson(mu.exp()))
    pyro.deterministic("twice", 2 * k)
    pyro.deterministic("rate", mu.exp())
    pyro.sample("x", dist.Normal(mu, 0.2))


def imputed():
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", 4):
        v = pyro.sample("x", dist.Normal(mu, 1.0), obs=X, obs_mask=SEEN)
    pyro.deterministic("total", v.sum())


def masked(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n):
        v = pyro.sample("x", dist.Normal(mu, 1.0))
    pyro.deterministic("total", v.sum())


def loop():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    for t in range(4):
        pyro.sample(f"x_{t}", dist.Poisson(a.exp()))


def leaves(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("c", dist.Bernoulli(torch.sigmoid(mu)))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, 1.0))
        pyro.sample("later", dist.Bernoulli(torch.sigmoid(mu)))


def labels(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    with pyro.plate("row", n):
        y = pyro.sample("y", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(mu + 2 * y, 1.0))
        after = pyro.sample("after", dist.Normal(10 * y, 0.1))
    pyro.deterministic("label", y)
    pyro.deterministic("mean_after", after.mean())


def test_a_count_that_nothing_observes():
    """Given the data mu ~ N(1, .2 / sqrt 2), so that E k = E exp(mu), Var k = E exp(mu) + Var exp(mu)."""
    posterior = fit(leaf, {"x": torch.tensor(1.0)}, **FIT)
    s2 = 0.02
    mean = math.exp(1 + s2 / 2)
    sd = math.sqrt(mean + (math.exp(s2) - 1) * mean**2)
    near(posterior.draws["k"], mean, sd, 3.5)
    assert torch.equal(posterior.draws["twice"], 2 * posterior.draws["k"])
    assert torch.equal(posterior.draws["rate"], posterior.draws["mu"].exp())
    assert posterior.certificate.trusted and not posterior.certificate.notes
    assert {"k", "twice"} <= set(posterior.to_arviz(predictive=0)["posterior"].data_vars)


@pytest.mark.parametrize("story, data", [(imputed, {}), (masked, {"x": np.ma.masked_array(X, ~SEEN)})])
def test_missing_values_and_what_is_computed_from_them(story, data):
    posterior = fit(story, data, **FIT)
    x, total = posterior.draws["x"], posterior.draws["total"]
    assert torch.equal(x[..., SEEN], X[SEEN].expand(4, 1000, 3))
    near(x[..., 2], MEAN, SD)
    near(total, 6 + MEAN, SD)
    torch.testing.assert_close(total, x.sum(-1))
    shown = posterior.to_arviz(predictive=0)["posterior"]
    assert np.array_equal(shown["total"].values, total.numpy()) and shown["x"].dims[2:] == ("row",)


def test_in_reference_and_in_many_fits():
    truth = reference(imputed, {}, draws=200, chains=16)
    near(truth.draws["x"][..., 2], MEAN, SD)
    rows = [X, X + 5]
    many = fit_many(masked, [{"x": np.ma.masked_array(row, ~SEEN)} for row in rows], draws=1000)
    for index, shift in enumerate((0, 15 / (3 + 1 / 100))):
        near(many.draws["x"][index, :, 2], MEAN + shift, SD)
        near(many[index].draws["total"], float(rows[index][SEEN].sum()) + MEAN + shift, SD)


def test_counts_of_some_steps_are_missing():
    posterior = fit(loop, {"x_0": torch.tensor(1.0), "x_2": torch.tensor(2.0)}, **FIT)
    rate = posterior.draws["a"].exp()
    error = float((rate + rate.var()).mean().sqrt()) / math.sqrt(4000)
    for name in ("x_1", "x_3"):
        assert abs(float(posterior.draws[name].mean() - rate.mean())) < 4 * error
    expected = dist.Poisson(rate).log_prob(torch.tensor(2.0)).logsumexp((0, 1)) - math.log(4000)
    torch.testing.assert_close(posterior.log_prob({"x_1": torch.tensor(2.0)}), expected)
    drawn = posterior.sample(["x_1", "x_0"], num_samples=400)
    assert abs(float(drawn["x_1"].mean() - rate.mean())) < 4 * error * math.sqrt(10)
    assert fit_many(loop, [{"x_0": torch.tensor(1.0)}], draws=100).draws["x_3"].shape == (1, 100)


def test_questions_about_sites_that_nothing_depends_on(tmp_path):
    """Also about a half-seen one: its missing element, by its probability, and its seen one as it was."""
    data = {"x": torch.tensor([1.0, 2.0]), "later": np.ma.masked_array([1.0, 0.0], [0, 1])}
    posterior = fit(leaves, data, **FIT)
    p = torch.sigmoid(posterior.draws["mu"]).mean()
    one, zero = torch.ones(()).double(), torch.zeros(()).double()
    torch.testing.assert_close(posterior.probabilities("c"), torch.stack([1 - p, p]))
    later = torch.stack([torch.stack([zero, one]), torch.stack([1 - p, p])])
    torch.testing.assert_close(posterior.probabilities("later"), later)
    torch.testing.assert_close(posterior.log_prob({"c": torch.tensor(1.0)}), p.log())
    for values in (posterior.draws["c"], posterior.draws["later"][..., 1]):
        assert abs(float(values.mean() - p)) < 4 * math.sqrt(float(p * (1 - p)) / 4000)
    posterior.save(tmp_path / "leaves")
    again = load(tmp_path / "leaves", leaves)
    assert all(torch.equal(again.draws[n], v) for n, v in posterior.draws.items())
    torch.testing.assert_close(again.probabilities("later"), later)


def test_what_hangs_on_summed_out_sites_follows_their_conditional():
    posterior = fit(labels, {"x": torch.tensor([0.0, 2.0, 1.0, 3.0])}, **FIT)
    label, p = posterior.draws["label"], posterior.probabilities("y")[:, 1]
    assert bool((abs(label.mean((0, 1)) - p) < 4 * (p * (1 - p) / 4000).sqrt()).all())
    gap = posterior.draws["after"] - 10 * label  # of the same run
    near(gap, 0.0, 0.1)
    torch.testing.assert_close(posterior.draws["mean_after"], posterior.draws["after"].mean(-1))
    assert "y" not in posterior.draws


def test_equal_seeds_equal_draws_and_no_global_random_state():
    before = torch.random.get_rng_state()
    one, same, other = (fit(imputed, {}, **{**QUICK, "seed": seed}).draws["total"] for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_story_that_cannot_be_batched_is_run_draw_by_draw():
    def branching():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        k = pyro.sample("k", dist.Poisson(3.0))
        pyro.deterministic("many", torch.tensor(1.0 if float(mu.detach()) > 0 else 0.0) + k)
        pyro.sample("x", dist.Normal(mu, 1.0))

    draws = fit(branching, {"x": torch.tensor(0.5)}, **QUICK).draws
    assert torch.equal(draws["many"], (draws["mu"] > 0) + draws["k"])


def test_what_is_too_large_or_cannot_be_drawn_is_said_in_a_note(monkeypatch):
    data = {"x": torch.tensor([0.0, 2.0, 1.0, 3.0])}
    monkeypatch.setattr(completion, "_WORK", 0)
    posterior = fit(labels, data, **QUICK)
    assert set(posterior.draws) == {"mu"}
    assert any(
        note.startswith("after, label, mean_after: not among the draws")
        for note in posterior.certificate.notes
    )
    assert posterior.sample("label", num_samples=3).shape == (3, 4)
    known, notes = completion.completed(posterior._fit, 0, largest=10)
    assert notes[0].startswith("after: not among the draws, since their draws would hold more than 10")


def test_where_nothing_continuous_is_unknown_nothing_is_frozen_either():
    def story():
        with pyro.plate("row", 2):
            y = pyro.sample("y", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Normal(y, 1.0))
        pyro.deterministic("label", y)

    posterior = fit(story, {"x": torch.tensor([0.0, 1.0])})
    assert not posterior.draws and "label: not among the draws" in posterior.certificate.notes[0]
    assert posterior.sample("label").shape == (2,)


def test_missing_counts_that_only_a_deterministic_site_depends_on():
    def counts(n):
        a = pyro.sample("a", dist.Gamma(3.0, 1.0))
        with pyro.plate("row", n):
            k = pyro.sample("k", dist.Poisson(a))
        pyro.deterministic("total", k.sum())

    posterior = fit(counts, {"k": np.ma.masked_array([2.0, 9.0, 4.0], [0, 1, 0])}, **FIT)
    mean = 9 / 3  # a ~ Gamma(3 + 6, 1 + 2); the missing count has mean E a and variance E a + Var a
    near(posterior.draws["k"][..., 1], mean, math.sqrt(mean + 1), 3.7)
    torch.testing.assert_close(posterior.draws["total"], 6 + posterior.draws["k"][..., 1])
