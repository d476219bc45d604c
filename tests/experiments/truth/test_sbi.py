"""The benchmark's tasks: reference draws follow the story's own density; constants are the benchmark's."""

import math

import pyro.poutine as poutine
import pytest
import torch

from experiments.truth import sbi
from experiments.truth.benchmark_task import accepted
from experiments.truth.sbi import bernoulli_glm, slcp, two_moons

ERRORS = 4
SEED = 7
ROWS = 4_000


def story_log_prob(task, theta):
    """Log p(theta, data) of the story as it is told, at one point; discrete sites summed out by hand."""
    values = {"theta": theta, **task.data}
    traced = poutine.trace(poutine.condition(task.story, values)).get_trace(*task.args)
    traced.compute_log_prob()
    return sum(float(site["log_prob_sum"]) for site in traced.nodes.values() if site["type"] == "sample")


def test_every_task_poses_data_and_draws_that_repeat():
    for name in sbi.names():
        one, again = sbi.task(name, SEED), sbi.task(name, SEED)
        assert all(torch.equal(one.data[site], again.data[site]) for site in one.data)
        if name not in ("bernoulli_glm", "slcp_folded"):  # chains; the same as slcp
            draws = one.reference(50, 1)
            assert len(draws) == 50 and torch.equal(draws, again.reference(50, 1))


def test_unknown_task_lists_those_there_are():
    with pytest.raises(ValueError, match="two_moons"):
        sbi.task("three_moons", 0)


@pytest.mark.parametrize("name", ["gaussian_linear", "gaussian_linear_uniform", "two_moons", "slcp"])
def test_reference_draws_obey_the_score_identity(name):
    """E[f(theta) score + grad f] = 0 under the posterior for f that vanishes at the bounds (Stein)."""
    task = sbi.task(name, SEED)
    theta = task.reference(ROWS if name != "two_moons" else 20_000, 3).requires_grad_()
    log_p = DENSITY[name](task, theta)
    (score,) = torch.autograd.grad(log_p.sum(), theta)
    bound = BOUNDS[name]
    f = (1 - (theta / bound) ** 2) if bound else torch.ones_like(theta)
    slope = (-2 * theta / bound**2) if bound else torch.zeros_like(theta)
    terms = (f * score + slope).detach()
    z = terms.mean(0) / (terms.std(0) / math.sqrt(len(terms)))
    assert float(z.abs().max()) < ERRORS


def _normal(task, theta):
    return -0.5 * (theta - task.data["x"]).square().sum(-1) / 0.1


def _slcp(task, theta):
    law = torch.distributions.MultivariateNormal(
        theta[:, None, :2], slcp.covariance(theta[:, 2:4], theta[:, 4])[:, None]
    )
    return law.log_prob(task.data["x"]).sum(-1)


DENSITY = {
    "gaussian_linear": lambda task, theta: _normal(task, theta) - 0.5 * theta.square().sum(-1) / 0.1,
    "gaussian_linear_uniform": _normal,
    "two_moons": lambda task, theta: two_moons.Crescent(two_moons.centre(theta)).log_prob(task.data["x"]),
    "slcp": _slcp,
}
BOUNDS = {"gaussian_linear": None, "gaussian_linear_uniform": 1.0, "two_moons": 1.0, "slcp": 3.0}


@pytest.mark.parametrize("name", ["gaussian_linear", "slcp", "two_moons"])
def test_the_story_tells_that_density(name):
    """Differences of log p(theta, data) between two reference draws, told by the story and written out."""
    task = sbi.task(name, SEED)
    first, second = task.reference(2, 5)
    told = story_log_prob(task, first) - story_log_prob(task, second)
    written = DENSITY[name](task, torch.stack([first, second]))
    assert told == pytest.approx(float(written[0] - written[1]), abs=1e-4)


def test_crescent_integrates_to_one_and_draws_lie_in_it():
    law = two_moons.Crescent(torch.zeros(2, dtype=torch.float64))
    axis = torch.linspace(-0.2, 0.2, 1601, dtype=torch.float64)
    cells = torch.cartesian_prod(axis, axis)
    total = law.log_prob(cells).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=5e-3)  # the edge at u = 0 cuts a row of cells in half
    torch.manual_seed(0)
    drawn = law.sample((2_000,))
    radius = drawn.square().sum(-1).sqrt()
    assert bool((drawn[:, 0] > 0).all()) and abs(float(radius.mean()) - 0.1) < ERRORS * 0.01 / math.sqrt(
        2_000
    )


def test_bernoulli_glm_has_the_benchmarks_design_and_prior():
    covariates, prior = bernoulli_glm.design(), bernoulli_glm.precision()
    assert covariates.shape == (100, 10) and bool((covariates[:, 0] == 1).all())
    # The first normal number of NumPy's legacy generator with seed 42.
    assert float(covariates[0, 1]) == pytest.approx(0.49671415, abs=1e-6)
    assert torch.equal(covariates[1:, 2], covariates[:-1, 1]) and float(covariates[0, 2]) == 0
    assert float(prior[0, 0]) == 0.5 and not prior[0, 1:].any()
    # (F'F)_99 is the last diagonal element of F squared: F_99 = 1 + sqrt(8/9).
    assert float(prior[9, 9]) == pytest.approx((1 + math.sqrt(8 / 9)) ** 2)


def test_rejection_refuses_what_is_never_accepted():
    with pytest.raises(ValueError, match="propose: expected"):
        accepted(lambda n: (torch.zeros(n, 1), torch.zeros(n, dtype=torch.bool)), 2_000)
