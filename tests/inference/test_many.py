"""Many data sets fitted at once: every posterior is that of its own data set."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit_many

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


def test_what_does_not_fit_is_named():
    data = simulated()
    with pytest.raises(ValueError, match="expected at least one data set"):
        fit_many(story, [])
    with pytest.raises(ValueError, match=r"data\[1\]"):
        fit_many(story, [data[0], {"x": torch.full((ROWS,), math.nan)}])
    with pytest.raises(ValueError, match=r"data\[1\]"):
        fit_many(story, [data[0], {"x": data[1]["x"][:5]}])
