"""Fitted posteriors beside exact ones: means, standard deviations, log evidence."""

import math

import pytest
import torch
from pyro import poutine

from inference import fit
from inference.runtime.isolation import isolated
from ppl_models import binomial_pixels, gaussian_classes, linear_regression


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def regression():
    covariates = 2.0 + 3.0 * normal(40, 3, seed=1)
    y = covariates @ torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64) + 2.0 * normal(40, seed=2)
    return linear_regression, (covariates, 2.0, 3.0), {"y": y}


def clouds():
    """Three well-filled classes, so that the posterior is close to Gaussian in unconstrained space."""
    y = torch.arange(3).repeat_interleave(40)
    centre = torch.tensor([[-4.0, 3.0], [5.0, 2.0], [2.0, -6.0]], dtype=torch.float64)
    x = centre[y] + normal(120, 2, seed=3) @ torch.tensor([[2.0, 0.9], [0.0, 1.5]], dtype=torch.float64)
    return gaussian_classes, (120, 3, 2, 2.0, 3.0, 0.2), {"x": x, "y": y}


def pixels():
    args, data = binomial_pixels.EXAMPLE
    return binomial_pixels, args, data


@pytest.fixture(params=[regression, clouds, pixels], ids=lambda make: make.__name__, scope="module")
def case(request):
    module, args, data = request.param()
    story = getattr(module, module.__name__.rpartition(".")[2])
    return module, args, data, fit(story, data, args, seed=0)


def log_evidence(module, args, data):
    """Bayes' rule at one point: log p(data, theta) - log p(theta | data), in nats."""
    theta, log_q = {}, 0.0
    with isolated(0):
        for name in module.exact(data, *args):
            conditional = module.exact(data, *args, given=theta)[name]
            theta[name] = conditional.sample()
            log_q = log_q + conditional.log_prob(theta[name]).sum()
        story = getattr(module, module.__name__.rpartition(".")[2])
        known = poutine.condition(story, {**data, **theta})
        return float(poutine.trace(known).get_trace(*args).log_prob_sum() - log_q)


def test_it_is_trusted(case):
    _, _, _, posterior = case
    assert posterior.certificate.trusted, str(posterior.certificate)
    assert posterior.certificate.khat < 0.7 and posterior.certificate.rhat < 1.02


def test_means_and_standard_deviations_are_exact(case):
    """Means within .02 sd + 4 Monte Carlo errors; sds within 2 % + 4, allowing for the kurtosis."""
    module, args, data, posterior = case
    with isolated():
        exact = module.exact(data, *args)
    assert posterior.draws.keys() == exact.keys()
    for name, q in exact.items():
        draws = posterior.draws[name].flatten(0, 1)
        sd, z = q.variance.sqrt(), (draws - q.mean) / q.variance.sqrt()
        assert ((draws.mean(0) - q.mean).abs() <= (0.02 + 4 / math.sqrt(len(draws))) * sd + 1e-12).all(), name
        kurtosis = ((z - z.mean(0)) ** 4).mean(0) / z.var(0) ** 2
        error = ((kurtosis - 1) / (4 * len(draws))).sqrt()
        assert ((draws.std(0) / sd - 1).abs() <= 0.02 + 4 * error).all(), name


def test_the_log_evidence_is_exact(case):
    module, args, data, posterior = case
    certificate = posterior.certificate
    gap = certificate.log_evidence - log_evidence(module, args, data)
    assert 0 < certificate.log_evidence_stderr < 0.1
    assert abs(gap) <= 4 * certificate.log_evidence_stderr
    assert certificate.elbo <= certificate.log_evidence + 4 * certificate.log_evidence_stderr


def test_draws_are_distinct_and_unordered(case):
    """Resampling is without replacement (1 % may repeat) and in random order: ArviZ's ESS is not fooled."""
    *_, posterior = case
    name = next(iter(posterior.draws))
    draws = (
        posterior.draws[name].flatten(2)[..., 0] if posterior.draws[name].dim() > 2 else posterior.draws[name]
    )
    for chain in draws:
        assert len(chain.unique()) >= 0.98 * len(chain)
        centred = chain - chain.mean()
        lag_one = (centred[1:] * centred[:-1]).mean() / centred.square().mean()
        assert abs(lag_one) < 4 / math.sqrt(len(chain))


def test_the_history_climbs_to_the_elbo(case):
    *_, posterior = case
    last = [elbo for rung, step, elbo in posterior.history if rung == posterior.certificate.guide]
    assert max(last) == pytest.approx(posterior.certificate.elbo)
    assert posterior.history[0][1] == 0
