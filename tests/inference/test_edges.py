"""Supports that depend on unknowns: no density beyond them, and no fit that is trusted and wrong."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, prior
from inference.edges import edged, inside
from inference.stacked import stack

SHIFT = dist.transforms.AffineTransform


def shifted(n):
    start = pyro.sample("start", dist.Normal(-2.0, 1.0))
    with pyro.plate("row", n):
        later = dist.TransformedDistribution(dist.Exponential(torch.ones(())), [SHIFT(start, 1.0)])
        pyro.sample("x", later)


def pareto(n):
    start = pyro.sample("start", dist.HalfNormal(0.3))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Pareto(start, 2.0))


def uniform(n):
    end = pyro.sample("end", dist.Exponential(1.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Uniform(0.0, end))


def with_a_support(n, smallest):
    gap = pyro.sample("gap", dist.Exponential(1.0))
    with pyro.plate("row", n):
        later = dist.TransformedDistribution(dist.Exponential(torch.ones(())), [SHIFT(smallest - gap, 1.0)])
        pyro.sample("x", later)


def rows(n=20, seed=0):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)).log().neg()


@pytest.mark.parametrize(("story", "data"), [(shifted, rows()), (pareto, 1 + rows()), (uniform, 3 * rows(4))])
def test_an_unknown_edge_is_never_overstepped_in_a_trusted_fit(story, data):
    """Before, the shifted exponential came back trusted, with a start 18 beyond the first observation."""
    posterior = fit(story, {"x": data}, draws=500, seed=0)
    unknown = next(iter(posterior.draws.values()))
    within = unknown >= data.max() if story is uniform else unknown <= data.min()
    assert bool(within.all()) or not posterior.certificate.trusted
    assert posterior.certificate.trusted or posterior.certificate.reasons


def test_the_edge_written_as_a_support_gives_the_closed_form():
    """The gap before the first of n exponential times, itself exponential, is exponential of rate n + 1."""
    data = rows()
    posterior = fit(with_a_support, {"x": data}, kwargs={"smallest": data.min()}, draws=1000, seed=0)
    gap = posterior.draws["gap"].flatten() * 21
    assert posterior.certificate.trusted, str(posterior.certificate)
    assert abs(float(gap.mean()) - 1) < 5 / math.sqrt(4000)
    assert abs(float(gap.std()) - 1) < 5 * math.sqrt(2 / 4000)  # kurtosis 9


@pytest.mark.parametrize("story", [shifted, pareto, uniform])
def test_new_rows_beyond_the_edge_weigh_nothing(story):
    """Under the prior some draws allow a value, and none allows one that is far beyond."""
    weighed = prior(story, draws=200, seed=0).log_prob({"x": torch.tensor([-1e3])})
    assert float(weighed) == -math.inf


def test_data_sets_beyond_the_bounds_of_one_prior_run_are_taken():
    data = [{"x": scale * rows()} for scale in (0.2, 1.0, 25.0)]
    stacked = stack(uniform, data)
    value, _ = stacked.value_and_grad(torch.full((3, 1, 1), 2.5, dtype=torch.float64))  # an end of 12
    assert torch.isfinite(value[:, 0]).tolist() == [bool(d["x"].max() < math.exp(2.5)) for d in data]


def test_data_beyond_a_fixed_bound_are_refused():
    def story(n):
        rate = pyro.sample("rate", dist.Exponential(1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Gamma(rate, 1.0))

    with pytest.raises(ValueError, match="expected values in the support of"):
        fit(story, {"x": torch.tensor([1.0, -1.0])}, seed=0)


def test_only_distributions_without_an_edge_are_copied():
    normal, log_normal = dist.Normal(0.0, 1.0), dist.LogNormal(0.0, 1.0)
    twice = dist.TransformedDistribution(
        dist.TransformedDistribution(normal, SHIFT(1.0, 2.0)), SHIFT(0.0, 3.0)
    )
    for fn in (normal, log_normal, twice, dist.Uniform(0.0, 1.0), normal.expand([3]).to_event(1)):
        assert edged(fn) is fn
    gamma = dist.TransformedDistribution(dist.Gamma(2.0, torch.ones(3)), SHIFT(-1.0, 1.0))
    masked = gamma.mask(torch.tensor([True, True, False])).to_event(1)
    values = torch.tensor([0.0, 1.0, -5.0])
    assert type(edged(gamma)) is not type(gamma) and isinstance(edged(gamma), type(gamma))
    assert inside(gamma, values).tolist() == [True, True, False]
    with pyro.validation_enabled(False):
        assert torch.isfinite(edged(masked).log_prob(values)) and bool(inside(masked, values))
        torch.testing.assert_close(edged(gamma).log_prob(values)[:2], gamma.log_prob(values)[:2])
        assert edged(gamma).log_prob(values)[2] == -math.inf


def test_components_of_a_mixture_end_where_they_do():
    start = torch.tensor([0.0, 2.0])
    parts = dist.TransformedDistribution(dist.Exponential(torch.ones(2)), SHIFT(start, 1.0))
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.5, 0.5])), parts)
    with pyro.validation_enabled(False):
        found = edged(mixture).log_prob(torch.tensor([-1.0, 1.0, 3.0])).exp()
    true = torch.tensor([0.0, 0.5 * math.exp(-1.0), 0.5 * (math.exp(-3.0) + math.exp(-1.0))])
    torch.testing.assert_close(found, true)
