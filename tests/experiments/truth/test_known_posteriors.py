"""Known posteriors are what they say: normalized, the story's own, and resolved by their grids."""

import math

import pytest
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from experiments.compare.right import FEWEST, Moments, judge
from experiments.truth import schools
from experiments.truth.posteriors import (
    gaussian_100,
    horseshoe,
    label_switching,
    logistic_500,
    names,
    posterior,
)
from inference.runtime.isolation import isolated

DRAWS, SEED = 4000, 1


@pytest.fixture(scope="module", params=names())
def known(request):
    return request.param, posterior(request.param)


def log_joint(known, values):
    """Of the story at one draw of its sites, by plain Pyro; the labels of rows, where hidden, summed out."""

    def trace(**more):
        with isolated(0):
            conditioned = poutine.condition(known.story, {**known.data, **values, **more})
            found = poutine.trace(conditioned).get_trace(*known.args)
        found.compute_log_prob()
        return found

    one = trace()
    latent = [n for n in one.stochastic_nodes if not site_is_subsample(one.nodes[n])]
    hidden = [n for n in latent if n not in values]
    if not hidden:
        return float(one.log_prob_sum())
    assert hidden == ["y"] and list(known.data) == ["x"]
    rows = len(known.data["x"])
    labels = [trace(y=torch.full((rows,), label)) for label in (0, 1)]
    each = torch.stack([t.nodes["y"]["log_prob"] + t.nodes["x"]["log_prob"] for t in labels])
    rest = one.log_prob_sum() - (one.nodes["y"]["log_prob"] + one.nodes["x"]["log_prob"]).sum()
    return float(rest + each.logsumexp(0).sum())


def test_the_density_is_the_storys(known):
    """Bayes' rule at exact draws: log p(data, theta) - log p(theta | data) is log p(data) everywhere."""
    _, truth = known
    draws = truth.sample(200, SEED)
    positive = torch.stack(
        [(v > 0).flatten(1).all(1) for n, v in draws.items() if n == "weights"] or [torch.ones(200).bool()]
    )
    keep = positive.all(0).nonzero()[:12, 0]  # a weight of 1e-320 underflows, and its density is infinite
    densities = truth.log_prob({n: v[keep] for n, v in draws.items()})
    for index, log_q in zip(keep, densities, strict=True):
        found = log_joint(truth, {n: v[index] for n, v in draws.items()}) - float(log_q)
        # Some distributions round their constants in float32; a wrong story is off by .1 and more.
        assert found == pytest.approx(truth.log_evidence, abs=1e-5 * (1 + abs(float(log_q))))


def test_exact_draws_are_right_and_faulty_ones_are_not(known):
    _, truth = known
    exact = truth.quantities(truth.exact_draws(DRAWS, SEED))
    assert judge(exact, truth.moments).right
    largest = max(
        truth.moments, key=lambda n: truth.moments[n].mean.numel() / float(truth.moments[n].kurtosis.max())
    )
    true = truth.moments[largest]
    narrow = true.mean + 0.8 * (exact[largest] - true.mean)
    assert not judge({**exact, largest: narrow}, truth.moments).right
    moved = exact[largest] + 0.25 * true.stddev
    assert not judge({**exact, largest: moved}, truth.moments).right
    assert not judge({n: v for n, v in exact.items() if n != largest}, truth.moments).right
    assert not judge({**exact, largest: torch.full_like(narrow, math.nan)}, truth.moments).right


def close(found, expected):
    """To one in 10,000, a hundredth of a Monte Carlo error; the kink in a minimum costs some digits."""
    for name, moments in found.items():
        for one, other in zip(moments, expected[name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("moments", "points"),
    [
        (schools.moments, 2 * schools.POINTS),
        (horseshoe.moments, tuple(math.ceil(1.4 * n) for n in horseshoe.POINTS)),
        (label_switching.moments, tuple(2 * n for n in label_switching.POINTS)),
    ],
    ids=["schools", "horseshoe", "label_switching"],
)
def test_a_finer_grid_says_the_same(moments, points):
    found, log_evidence = moments()
    expected, finer = moments(points)
    assert log_evidence == pytest.approx(finer, abs=1e-6)
    close(found, expected)


def test_a_finer_grid_says_the_same_of_the_regression():
    close(logistic_500.moments(), logistic_500.moments(2 * logistic_500.POINTS))


@pytest.mark.parametrize("reach", [0.8, 1.2])
def test_the_grids_reach_far_enough(reach, monkeypatch):
    """Shorter or longer by a fifth, at the same spacing, they say the same."""
    found = schools.moments()[0]
    monkeypatch.setattr(schools, "LOW", schools.LOW * reach)
    close(schools.moments(math.ceil(schools.POINTS * reach))[0], found)


def test_the_schools_are_those_of_the_literature():
    """Posteriordb's reference means and standard deviations of mu and tau, 10,000 draws, two digits."""
    found = schools.moments()[0]
    assert [round(float(x), 1) for x in (found["mu"].mean, found["mu"].stddev)] == [4.4, 3.3]
    assert [round(float(x), 1) for x in (found["tau"].mean, found["tau"].stddev)] == [3.6, 3.2]


def test_the_condition_number():
    values = torch.linalg.eigvalsh(
        (gaussian_100.DIRECTIONS * gaussian_100.STDDEVS**2) @ gaussian_100.DIRECTIONS.T
    )
    assert float(values[-1] / values[0]) == pytest.approx(1e6, rel=1e-6)


def test_the_divergence_of_a_gaussian():
    """Against torch, far from the optimum, where its own digits suffice."""
    generator = torch.Generator().manual_seed(0)
    mean = gaussian_100.CENTRE + torch.randn(100, generator=generator, dtype=torch.float64)
    factor = torch.eye(100, dtype=torch.float64) * 2.0
    normal = torch.distributions.MultivariateNormal
    true = normal(gaussian_100.CENTRE, scale_tril=torch.linalg.cholesky(
        (gaussian_100.DIRECTIONS * gaussian_100.STDDEVS**2) @ gaussian_100.DIRECTIONS.T
    ))  # fmt: skip
    expected = torch.distributions.kl_divergence(normal(mean, scale_tril=factor), true)
    assert gaussian_100.divergence_from(mean, factor) == pytest.approx(float(expected), rel=1e-8)


def test_the_rule_counts_effective_draws_but_never_fewer_than_four_hundred():
    one = torch.ones((), dtype=torch.float64)
    true = {"x": Moments(0 * one, one, 3 * one)}
    draws = {"x": torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(2000) + 0.15}
    assert not judge(draws, true).right  # .05 + 4 / sqrt(4000) = .113
    assert judge(draws, true, ess=1000).right  # .05 + 4 / sqrt(1000) = .176
    far = {"x": draws["x"] + 0.2}
    assert 0.35 > 0.05 + 4 / math.sqrt(FEWEST)
    assert not judge(far, true, ess=3.0).right
