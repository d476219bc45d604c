"""Fits that must not be believed are not; those that are believed are right."""

import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, prior
from inference.checks.psis import khat_threshold, pareto_smooth
from inference.guides.gaussian import Gaussian
from inference.guides.mixture import Mixture
from inference.hmc.convergence import rank_normalized_rhat, rhat_limit
from inference.ladder import mixture_elbos
from inference.runtime.isolation import isolated


def heights(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 2.0))


X = torch.tensor([3.0, 5.0, 4.0, 8.0])


def two_modes(weight, distance, stddev=0.3):
    def story():
        mu = pyro.sample("mu", dist.Normal(0.0, 20.0))
        modes = dist.Normal(torch.tensor([-distance, distance]), stddev).log_prob(mu[..., None])
        pyro.factor("target", (modes + torch.tensor([weight, 1 - weight]).log()).logsumexp(-1))

    return story


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("weight", "distance"), [(0.5, 1.5), (0.5, 6.0), (0.2, 4.0)])
def test_two_modes_are_never_passed_over_in_silence(weight, distance, seed):
    """Trusted only if every restart holds both modes in their right shares."""
    posterior = fit(two_modes(weight, distance), {}, draws=200, restarts=2, seed=seed)
    lower = (posterior.draws["mu"] < 0).double().mean(-1)
    error = math.sqrt(weight * (1 - weight) / 200)
    right = bool(((lower - weight).abs() < 4 * error + 0.05).all())
    assert right or not posterior.certificate.trusted
    assert posterior.certificate.trusted or posterior.certificate.reasons


def test_a_heavy_tail_is_seen():
    """A Student t posterior with 1.2 degrees of freedom: the Gaussian's tails are hopeless."""

    def story():
        mu = pyro.sample("mu", dist.StudentT(1.2, 2.0, 3.0))
        pyro.sample("x", dist.Normal(mu, 1e6))

    posterior = fit(story, {"x": 5.0}, draws=1000, seed=0)
    draws = (posterior.draws["mu"].flatten() - 2.0) / 3.0
    beyond = float((draws.abs() > 12.0).double().mean())
    # P(|t| > 12) for 1.2 degrees of freedom, by the quadrature of its density
    grid = torch.linspace(-12, 12, 200_001).double()
    expected = 1 - float(dist.StudentT(1.2).log_prob(grid).exp().sum() * (grid[1] - grid[0]))
    error = math.sqrt(expected / 4000)
    assert not posterior.certificate.trusted or abs(beyond - expected) < 4 * error


def test_a_gaussian_on_a_funnel_is_refused():
    """Neal (2003): log scale v ~ N(0, 3), nine z ~ N(0, e^(v/2)); no Gaussian comes near it.

    The whole ladder manages: `test_hard_posteriors.py`.
    """

    def story():
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        pyro.sample("z", dist.Normal(0.0, (v / 2).exp()).expand([9]).to_event(1))
        pyro.factor("seen", torch.tensor(0.0))

    certificate = fit(story, {}, guide="full_rank", draws=200, restarts=2, seed=0).certificate
    assert not certificate.trusted and certificate.khat > 0.7
    assert any("k-hat" in reason for reason in certificate.reasons)
    assert certificate.method == "svi"


def test_a_single_restart_is_not_trusted():
    certificate = fit(heights, {"x": X}, restarts=1, draws=100).certificate
    assert not certificate.trusted and certificate.rhat is None
    assert any("restarts=2" in reason for reason in certificate.reasons)
    few = fit(heights, {"x": X}, restarts=2, draws=3).certificate
    assert not few.trusted and any("draws=4" in reason for reason in few.reasons)


def test_a_loop_that_is_cut_short_is_not_trusted():
    def story(n):
        with pyro.plate("class", 6, dim=-2):
            mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        tau = pyro.sample("tau", dist.HalfNormal(2.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Poisson((mu.sum() * tau).exp() + 0.1))

    certificate = fit(story, {"x": X}, guide="full_rank", restarts=2, draws=100, steps=1).certificate
    assert not certificate.trusted
    assert any("stopped before convergence" in reason for reason in certificate.reasons)


def test_the_words_of_a_certificate():
    good = fit(heights, {"x": X}, restarts=2, draws=200).certificate
    assert good.trusted and good.reasons == () and good.method == "svi+psis" and good.guide == "full_rank"
    text = str(good)
    assert text.startswith("TRUSTED: svi+psis, guide full_rank, ")
    for word in ("k-hat", "ESS", "R-hat", "ELBO (nats)", "log evidence (nats)", "standard error"):
        assert word in text
    assert good.gradient_calls > 0 and 0 < good.seconds < 60 and good.ess > 100
    bad = fit(heights, {"x": X}, restarts=1, draws=100).certificate
    assert str(bad).startswith("NOT TRUSTED") and f"- {bad.reasons[0]}" in str(bad)
    assert json.loads(json.dumps(good.as_dict()))["trusted"] is True


def test_other_certificates():
    assert prior(heights, (3,), draws=10).certificate.method == "prior"

    def coin():
        fair = pyro.sample("fair", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(3.0 * fair, 2.0))

    exact = fit(coin, {"x": 2.5}).certificate
    like = dist.Normal(torch.tensor([0.0, 3.0]), 2.0).log_prob(torch.tensor(2.5)).exp()
    assert exact.trusted and exact.method == "exact" and exact.log_evidence_stderr == 0
    assert exact.log_evidence == pytest.approx(float((torch.tensor([0.7, 0.3]) @ like).log()))
    assert exact.log_evidence == exact.elbo


def correlated():
    """A Gaussian of correlation .9 in four dimensions."""
    covariance = 0.9 + 0.1 * torch.eye(4)
    z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(4), covariance))
    pyro.sample("x", dist.Normal(z.sum(), 1e3))


def test_the_khat_of_a_guide_is_that_of_its_weights():
    """Mean field on a correlated target: its own draws, weighed again, say the same."""
    posterior = fit(correlated, {"x": 3.0}, guide="mean_field", restarts=2, draws=2000, seed=0)
    certificate, stats = posterior.certificate, posterior._fit.stats
    assert certificate.method == "svi" and not certificate.trusted and certificate.guide == "mean_field"
    khats = [pareto_smooth(weights)[1] for weights in stats["lp"] - stats["log_q"]]
    # standard error of k-hat: (1 + k) / sqrt(tail of 3 sqrt(2000) values)
    assert certificate.khat >= khat_threshold(4096)
    assert abs(max(khats) - certificate.khat) < 4 * (1 + certificate.khat) / math.sqrt(134)


def test_mean_field_understates_and_says_so():
    """The optimal diagonal Gaussian has variances 1 / precision_ii (Bishop 2006, section 10.1.2).

    Within 4 errors: of 4,000 draws, and of the 64 fixed draws of each of the two fits, whose precisions
    err by the off-diagonal share, sqrt(sum_j (P_ij / P_ii)^2 / 64).
    """
    posterior = fit(correlated, {"x": 3.0}, guide="mean_field", restarts=2, draws=2000, seed=0)
    precision = torch.linalg.inv(0.9 + 0.1 * torch.eye(4).double())
    expected = precision.diagonal().rsqrt()
    share = float((precision[0, 1:] / precision[0, 0]).square().sum())
    error = math.sqrt(1 / 8000 + share / 64 / 4 / 2)
    torch.testing.assert_close(posterior.draws["z"].flatten(0, 1).std(0), expected, rtol=4 * error, atol=0)
    assert not posterior.certificate.trusted


def test_laplace_is_the_curvature_at_the_mode():
    posterior = fit(heights, {"x": X}, guide="laplace", restarts=2, draws=200)
    precision = 1 / 100 + 4 / 4
    assert posterior.certificate.guide == "laplace"
    with isolated(0):
        draws = torch.stack([posterior.guide(4)["mu"] for _ in range(400)])
    assert abs(draws.mean() - 5.0 / precision) < 4 / math.sqrt(400 * precision)
    assert abs(draws.std() * math.sqrt(precision) - 1) < 4 / math.sqrt(800)


def test_many_unknowns_take_the_diagonal():
    def story(n):
        with pyro.plate("row", n, dim=-1):
            mu = pyro.sample("mu", dist.Normal(2.0, 3.0))
            pyro.sample("x", dist.Normal(mu, 1.5))

    x = 3.0 * torch.randn(1001, generator=torch.Generator().manual_seed(1))
    posterior = fit(story, {"x": x}, restarts=2, draws=400)
    variance = 1 / (1 / 9 + 1 / 2.25)
    assert posterior.certificate.guide == "mean_field" and posterior.certificate.trusted
    mean = posterior.draws["mu"].flatten(0, 1).mean(0)
    score = (mean - variance * (2.0 / 9 + x / 2.25)) / math.sqrt(variance / 800)
    assert score.abs().max() < 4.5
    with pytest.raises(ValueError, match="guide: 'full_rank' holds a dense covariance of 1001 unknowns"):
        fit(story, {"x": x}, guide="full_rank")


def test_rhat_of_chains_that_agree_and_of_chains_that_do_not():
    draws = torch.randn(4, 1000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert rank_normalized_rhat(draws).max() < rhat_limit(8, 500, 3)
    apart = draws.clone()
    apart[0, :, 0] += 1.0  # another location, and another scale: the folded one sees it
    apart[1, :, 1] *= 3.0
    rhat = rank_normalized_rhat(apart)
    assert rhat[0] > 1.05 and rhat[1] > 1.05 and rhat[2] < rhat_limit(8, 500, 3)


def test_rhat_is_arvizs():
    import arviz as az

    draws = torch.randn(4, 200, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64).cumsum(1)
    theirs = float(az.rhat({"mu": draws[..., 0].numpy()})["mu"])
    assert float(rank_normalized_rhat(draws)) == pytest.approx(theirs, rel=1e-3)


def test_the_limit_of_rhat_has_its_level():
    """Identical chains exceed it with chance 1e-3: of 2,000 sets of 8 chains of 50, at most 8 do (4.2 sd)."""
    draws = torch.randn(8, 50, 2000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    between = 50 * draws.mean(1).var(0)
    within = draws.var(1).mean(0)
    rhat = ((49 / 50 * within + between / 50) / within).sqrt()
    assert int((rhat > rhat_limit(8, 50, 1)).sum()) <= 8


def test_overlapping_components_do_not_count_their_mass_twice():
    """Two equal Gaussians are one, and have the ELBO of either; far apart, the log-sum-exp of both."""
    loc = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [90.0, 0.0]]], dtype=torch.float64)
    parts = Gaussian(loc, torch.eye(2, dtype=torch.float64).expand(2, 2, 2, 2))
    mixture = Mixture.of_parts(parts, torch.full((2, 2), math.log(0.5), dtype=torch.float64))
    found = mixture_elbos(torch.tensor([-3.0, -3.0], dtype=torch.float64), mixture)
    assert found.tolist() == pytest.approx([-3.0, -3.0 + math.log(2)], rel=1e-12)


def test_full_rank_by_its_name_is_one_gaussian():
    """The best one on Neal's funnel is 1.8629 nats away (closed form)."""

    def story():
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        pyro.sample("z", dist.Normal(0.0, (v / 2).exp()).expand([9]).to_event(1))
        pyro.factor("seen", torch.tensor(0.0))

    posterior = fit(story, {}, guide="full_rank", draws=200, restarts=2, seed=0)
    best = math.log(3) + math.log(1 / 9 + 9 / 2) / 2
    assert isinstance(posterior.guide.family, Gaussian)
    assert posterior.certificate.elbo < -best + 0.05
