"""Diffusion: its two chains against loops and closed forms, and its bound against exact numbers."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.distributions import kl_divergence

from ppl_models.diffusion import diffusion, even, guide, linear
from ppl_models.distributions.denoising import Denoising
from ppl_models.distributions.noising import Noising

VARIANCE = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
STDDEV = torch.tensor([0.3, 0.5, 0.7, 0.6], dtype=torch.float64)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def bend(z, t):
    return torch.tanh(z) * 0.8 - t[..., None] / 10


def test_the_way_into_noise_is_a_chain():
    x, path = normal(3, 2), normal(3, 4, 2, seed=1)
    expected, before = torch.zeros(3, dtype=torch.float64), x
    for t, v in enumerate(VARIANCE):
        expected += dist.Normal((1 - v).sqrt() * before, v.sqrt()).log_prob(path[:, t]).sum(-1)
        before = path[:, t]
    torch.testing.assert_close(Noising(x, VARIANCE).log_prob(path), expected)


def test_the_way_back_is_a_chain():
    path = normal(3, 4, 2, seed=1)
    expected = dist.Normal(0.0, 1.0).log_prob(path[:, 3]).sum(-1)
    for t in (4, 3, 2):
        mean = bend(path[:, t - 1], torch.full((3,), t))
        expected += dist.Normal(mean, STDDEV[t - 1]).log_prob(path[:, t - 2]).sum(-1)
    torch.testing.assert_close(Denoising(bend, STDDEV, 2).log_prob(path), expected)


@pytest.mark.parametrize(
    "law",
    [Noising(torch.tensor([0.7], dtype=torch.float64), VARIANCE), Denoising(lambda z, t: z / 2, STDDEV, 1)],
    ids=["noising", "denoising"],
)
def test_draws_have_the_moments_of_the_density(law):
    """Both are Gaussian: the log density is a quadratic, whose Hessian and slope give mean and covariance."""
    at = torch.zeros(4, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda v: law.log_prob(v[:, None]), at)
    covariance = torch.linalg.inv(-hessian)
    mean = covariance @ torch.autograd.functional.jacobian(lambda v: law.log_prob(v[:, None]), at)
    n = 20_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = law.sample((n,))[..., 0]
    stddev = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean).abs() < 4 * stddev / math.sqrt(n)).all()
    # Var of a product of centred Gaussians: s_ii s_jj + s_ij^2
    error = ((stddev[:, None] * stddev) ** 2 + covariance**2).sqrt() / math.sqrt(n)
    assert ((draws.T.cov() - covariance).abs() < 4 * error).all()


@pytest.mark.parametrize("looks", [None, 2])
def test_the_divergence_has_the_mean_of_log_q_minus_log_p(looks):
    x, n = torch.tensor([0.7, -0.4], dtype=torch.float64), 20_000
    q, p = Noising(x, VARIANCE).expand([n]), Denoising(bend, STDDEV, 2, looks=looks).expand([n])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        path = q.sample()
        plain, ours = q.log_prob(path) - p.log_prob(path), kl_divergence(q, p)
    assert ours.shape == (n,)
    error = math.hypot(plain.std().item(), ours.std().item()) / math.sqrt(n)
    assert abs(plain.mean() - ours.mean()) < 4 * error
    if looks is None:
        assert ours.std() < 0.5 * plain.std()


class Exact(nn.Module):
    """The noise in z that is right for x ~ Normal(0, variance): linear in z."""

    def __init__(self, forward, variance):
        super().__init__()
        self.kept, self.variance = (1 - forward).cumprod(0), variance

    def forward(self, z, t):
        kept = self.kept[t - 1, None]
        return (1 - kept).sqrt() / (kept * self.variance + 1 - kept) * z


def exact_variance(forward, variance):
    """Variance of z_(t-1) given z_t, for x ~ Normal(0, variance)."""
    kept = (1 - forward).cumprod(0)
    marginal = kept * variance + 1 - kept
    before = torch.cat([torch.full((1,), variance, dtype=forward.dtype), marginal[:-1]])
    return 1 / (1 / before + (1 - forward) / forward)


def gap(steps, choice, variance=0.25):
    """Negative ELBO minus entropy on N(0, variance), exactly.

    log p(x, path) - log q(path | x) - log p(x) is a quadratic of the standard normal numbers that make x
    and its path. The mean of a quadratic f is f(0) + sum_i (f(e_i) + f(-e_i) - 2 f(0)) / 2.
    """
    forward = linear(steps).double()
    back = exact_variance(forward, variance) if choice == "exact" else choice
    story = diffusion(
        1, steps=steps, forward_variance=forward, variance=back, network=Exact(forward, variance)
    )
    story, own_guide = story.double(), guide(story).double()
    eye = torch.eye(steps + 1, dtype=torch.float64)
    u = torch.cat([torch.zeros_like(eye[:1]), eye, -eye])
    x = math.sqrt(variance) * u[:, :1]
    path, z = [], x
    for t in range(steps):
        z = (1 - forward[t]).sqrt() * z + forward[t].sqrt() * u[:, t + 1 : t + 2]
        path.append(z)
    values = {"x": x, "path": torch.stack(path, 1)}
    with pyro.get_param_store().scope(), torch.no_grad():
        p = poutine.trace(poutine.condition(story, values)).get_trace(len(x))
        q = poutine.trace(poutine.condition(own_guide, values)).get_trace(len(x), {"x": x})
        p.compute_log_prob(), q.compute_log_prob()
        log_p = p.nodes["x"]["log_prob"] + p.nodes["path"]["log_prob"]
        log_q = q.nodes["path"]["log_prob"]
    f = dist.Normal(0.0, math.sqrt(variance)).log_prob(x[:, 0]) - log_p + log_q
    plus, minus = f[1 : steps + 2], f[steps + 2 :]
    return float(f[0] + (plus + minus - 2 * f[0]).sum() / 2)


@pytest.mark.parametrize(("steps", "known"), [(10, 0.08274), (50, 0.02204), (100, 0.01096), (1000, 0.00109)])
def test_the_bound_on_a_gaussian_is_what_it_must_be(steps, known):
    """Variances known in closed form; the digits are those of the linear schedule scaled by 1000 / steps."""
    assert round(gap(steps, "forward"), 5) == known
    assert abs(gap(steps, "exact")) < 1e-8


def test_the_variance_of_a_single_row_is_worse_here_and_right_there():
    """ "posterior" is exact for rows that are all the same, "forward" for standard normal rows."""
    assert abs(gap(50, "forward", variance=1.0)) < 1e-8
    # The first step has no posterior variance (x is known), hence a small spread and all steps but it.
    forward = linear(50).double()
    back = diffusion(1, steps=50, forward_variance=forward, variance="posterior").stddev ** 2
    torch.testing.assert_close(back[1:], exact_variance(forward, 1e-12)[1:], rtol=1e-6, atol=0.0)
    assert gap(50, "posterior") > gap(50, "forward") > gap(50, "exact")


def test_schedules_end_in_noise():
    for variance in (linear(10), linear(50), even(50), even(200)):
        assert bool(((variance > 0) & (variance < 1)).all())
        assert (1 - variance).prod() < 0.01
    kept = (1 - even(30, 5.0, -4.0)).cumprod(0)
    torch.testing.assert_close(kept.logit(), torch.linspace(5.0, -4.0, 30), rtol=1e-3, atol=1e-3)


def test_with_classes_the_label_reaches_the_network():
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        torch.manual_seed(0)
        story = diffusion(classes=3, steps=5)
        nn.init.normal_(story.network.correction[-1].weight)
        z, t = torch.randn(4, 5, 2), torch.arange(1, 6)
        one, other = (story.step(z, t, torch.full((4,), y)) for y in (0, 2))
        every = story.step(z, t, torch.arange(3)[:, None])
        assert not torch.allclose(one, other)
        torch.testing.assert_close(every, torch.stack([one, every[1], other]))
        assert story(6).shape == (6, 2)


@pytest.mark.parametrize("variance", ["best", torch.ones(3)])
def test_a_variance_that_does_not_fit_is_an_error(variance):
    with pytest.raises(ValueError, match="variance: expected 'trained'.*got"):
        diffusion(steps=5, variance=variance)
