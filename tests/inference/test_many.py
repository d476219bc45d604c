"""Many data sets fitted at once: every posterior is that of its own data set."""

import dataclasses
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, fit_many, many
from inference.checks import importance as weighing
from inference.density import stacked
from inference.runtime import workers

SETS, ROWS, DRAWS = 30, 12, 400


def story(n):
    mu = pyro.sample("mu", dist.Normal(1.0, 3.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 2.0))


def simulated(rows=ROWS):
    generator = torch.Generator().manual_seed(3)
    mu = 1.0 + 3.0 * torch.randn(SETS, generator=generator)
    return [{"x": m + 2.0 * torch.randn(rows, generator=generator)} for m in mu]


def test_every_posterior_is_the_exact_one_of_its_data_set():
    data = simulated()
    posteriors = fit_many(story, data, draws=DRAWS, seed=1)
    precision = 1 / 9 + ROWS / 4
    exact = torch.stack([(1 / 9 + one["x"].double().sum() / 4) / precision for one in data])
    draws = posteriors.draws["mu"]
    assert draws.shape == (SETS, DRAWS) and bool(posteriors.trusted.all())
    score = (draws.mean(1) - exact) * math.sqrt(precision * DRAWS)
    assert score.abs().max() < 4.5
    ratio = draws.std(1) * math.sqrt(precision)
    assert (ratio - 1).abs().max() < 4.5 / math.sqrt(2 * DRAWS)
    for one, certificate in zip(data, posteriors.certificates, strict=True):
        covariance = 4 * torch.eye(ROWS).double() + 9
        known = dist.MultivariateNormal(torch.ones(ROWS).double(), covariance).log_prob(one["x"].double())
        assert certificate.log_evidence == pytest.approx(float(known), abs=1e-6)


def test_one_of_them_is_a_posterior_like_any_other():
    data = simulated()
    posteriors = fit_many(story, data, draws=DRAWS)
    fifth = posteriors[5]
    assert fifth.draws["mu"].shape == (1, DRAWS)
    assert torch.equal(fifth.draws["mu"][0], posteriors.draws["mu"][5])
    new = fifth.sample("x", args=(7,))
    assert new.shape == (7,) and len(list(posteriors)) == len(posteriors) == SETS
    assert "nothing was compared" in " ".join(fifth.certificate.notes)
    with pytest.raises(IndexError, match="expected an index below 30"):
        posteriors[30]


def test_the_same_seed_gives_the_same_draws_and_a_data_set_does_not_depend_on_its_neighbours():
    data = simulated()
    first, again, fewer = (fit_many(story, d, draws=DRAWS, seed=2) for d in (data, data, data[:4]))
    assert torch.equal(first.draws["mu"], again.draws["mu"])
    torch.testing.assert_close(first.draws["mu"][:4], fewer.draws["mu"], rtol=1e-6, atol=1e-6)


def test_the_number_of_workers_changes_nothing(monkeypatch):
    monkeypatch.setattr(many, "_BATCH", 7)  # five batches
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.random.get_rng_state()
    found = []
    for count in (1, 2, 5):
        monkeypatch.setattr(many, "workers", lambda count=count: count)
        found.append(fit_many(skewed, simulated_counts(), draws=DRAWS, seed=4))
    one = found[0]
    for other in found[1:]:
        assert torch.equal(one.draws["rate"], other.draws["rate"]) and torch.equal(one.log_p, other.log_p)
        for mine, its in zip(one.certificates, other.certificates, strict=True):
            assert dataclasses.replace(mine, seconds=0.0) == dataclasses.replace(its, seconds=0.0)
        for p in range(SETS):  # every data set's guide is its own
            rate = one.draws["rate"][p].log()
            assert torch.equal(one._guide(p).loc, other._guide(p).loc)
            assert abs(other._guide(p).loc - rate.mean()) < 0.5 * rate.std()
    assert torch.get_num_threads() == before[0] and torch.get_default_dtype() == before[1]
    assert torch.equal(torch.random.get_rng_state(), before[2])


def skewed(n):
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Poisson(rate))


def simulated_counts():
    rates = torch.linspace(0.5, 9.0, SETS)
    generator = torch.Generator().manual_seed(5)
    return [{"x": torch.poisson(rate.expand(3), generator=generator)} for rate in rates]


def test_pools_that_must_grow_still_give_the_exact_posteriors(monkeypatch):
    monkeypatch.setattr(many, "_AHEAD", 1.0)  # pools begin with twice the draws
    sizes, settle = [], weighing._replicates

    def watched(pool, *others):
        sizes.append(pool.z.shape[1])
        return settle(pool, *others)

    monkeypatch.setattr(weighing, "_replicates", watched)
    data, draws = simulated_counts(), 600
    posteriors = fit_many(skewed, data, draws=draws, seed=6)
    assert min(sizes) == 2 * draws < max(sizes) < 64 * draws
    for one, rate in zip(data, posteriors.draws["rate"], strict=True):
        exact = dist.Gamma(2.0 + one["x"].sum().double(), torch.tensor(3.5).double())
        assert abs(rate.mean() - exact.mean) < 4.5 * exact.stddev / math.sqrt(draws)
        assert len(rate.unique()) >= 0.98 * draws  # repeats of heavy draws are few


def test_a_pool_grows_by_what_its_weights_ask_for():
    heavy = torch.ones(4, 2000, dtype=torch.float64)
    for row, weight in enumerate((1.0, 2.5, 2.9, 30.0)):  # relative to the others; a tenth of the pool has it
        heavy[row, :200] = weight
    lack = weighing._lack((heavy / heavy.sum(1, keepdim=True)).log(), 1000, (1.0, 0.5, 0.25, 0.125))
    assert lack.tolist() == [0, 250, 500, 2000]


def test_workers_are_as_many_as_torch_may_use_and_their_errors_are_raised():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert workers.workers() == 1
    finally:
        torch.set_num_threads(threads)
    with pytest.raises(ZeroDivisionError):
        list(workers.run_each(lambda x: 1 / x, [1, 0, 2], count=2))


def test_arguments_may_differ_between_data_sets():
    def line(t):
        slope = pyro.sample("slope", dist.Normal(0.5, 2.0))
        with pyro.plate("row", len(t), dim=-1):
            pyro.sample("y", dist.Normal(slope * t, 1.5))

    generator = torch.Generator().manual_seed(0)
    ts = [torch.randn(20, generator=generator) for _ in range(6)]
    data = [{"y": 2.0 * t + 1.5 * torch.randn(20, generator=generator)} for t in ts]
    posteriors = fit_many(line, data, each=[(t,) for t in ts], draws=DRAWS)
    for p, (t, one) in enumerate(zip(ts, data, strict=True)):
        precision = 1 / 4 + float(t.double().square().sum()) / 2.25
        mean = (0.5 / 4 + float((t * one["y"]).double().sum()) / 2.25) / precision
        assert abs(posteriors.draws["slope"][p].mean() - mean) < 4.5 / math.sqrt(precision * DRAWS)


def test_a_part_of_the_draws_at_a_time_gives_the_same_densities(monkeypatch):
    several = stacked.stack(story, simulated())
    z = torch.randn(SETS, 50, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    value, grad = several.value_and_grad(z)
    monkeypatch.setattr(stacked, "_MEMORY", 100)
    again, slope = several.value_and_grad(z)
    torch.testing.assert_close(value, again, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad, slope, rtol=1e-12, atol=1e-12)


def test_what_does_not_fit_is_named():
    data = simulated()
    with pytest.raises(ValueError, match="expected at least one data set"):
        fit_many(story, [])
    with pytest.raises(ValueError, match=r"data\[1\]"):
        fit_many(story, [data[0], {"x": torch.full((ROWS,), math.nan)}])
    with pytest.raises(ValueError, match=r"data\[1\]"):
        fit_many(story, [data[0], {"x": data[1]["x"][:5]}])


def beyond(n):
    """No density below 900, where all starts near 0 are."""
    mu = pyro.sample("mu", dist.Normal(1000.0, 30.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal((mu - 900).log(), 0.1))


def moments_beyond(x):
    grid = torch.linspace(901, 1300, 20001, dtype=torch.float64)
    log_p = -0.5 * ((grid - 1000) / 30) ** 2
    log_p -= 0.5 * (((grid - 900).log()[:, None] - x.double()) / 0.1).square().sum(1)
    weights = (log_p - log_p.max()).exp()
    mean = float((weights * grid).sum() / weights.sum())
    return mean, math.sqrt(float((weights * (grid - mean) ** 2).sum() / weights.sum()))


def test_starts_come_from_the_prior_where_there_is_no_density_near_zero():
    data = [{"x": torch.tensor([4.5, 4.6, 4.7]) + 0.1 * k} for k in range(4)]
    several = fit_many(beyond, data, draws=DRAWS)
    alone = fit(beyond, data[0], draws=DRAWS)
    assert bool(several.trusted.all()) and alone.certificate.trusted
    found = [*several.draws["mu"], alone.draws["mu"].flatten()]
    for draws, one in zip(found, [*data, data[0]], strict=True):
        mean, stddev = moments_beyond(one["x"])
        assert abs(draws.mean() - mean) < 4 * stddev / math.sqrt(len(draws))
        assert abs(draws.std() / stddev - 1) < 4 / math.sqrt(2 * len(draws))


def test_a_data_set_without_any_start_is_named():
    def pareto(n):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Pareto(scale + 1, 1.0))

    data = [{"x": torch.full((3,), value)} for value in (20.0, 1e-9, 30.0)]
    with pytest.raises(ValueError, match=r"data\[1\]: .*no start with a finite log density.*leave"):
        fit_many(pareto, data, draws=DRAWS)
