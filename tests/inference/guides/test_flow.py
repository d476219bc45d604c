"""The flow: exact as a map and as a density, and right where a Gaussian is wrong."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive

from inference import fit, load
from inference.checks.psis import effective_size, pareto_smooth
from inference.guides import rungs
from inference.guides.flow import Flow
from inference.guides.flow_training import train_flow
from inference.guides.gaussian import Gaussian

F64 = torch.float64


def generators(count, seed=0):
    return [torch.Generator().manual_seed(1000 * seed + i) for i in range(count)]


def gaussians(count, size, seed=0):
    g = torch.Generator().manual_seed(seed)
    factor = torch.tril(torch.randn(count, size, size, generator=g, dtype=F64), -1)
    factor = 0.3 * factor + torch.diag_embed(0.5 + torch.rand(count, size, generator=g, dtype=F64))
    return Gaussian(torch.randn(count, size, generator=g, dtype=F64), factor)


def bent_flow(count, size, seed=0):
    """A flow far from the identity."""
    start = Flow.identity(gaussians(count, size, seed), generators(count, seed))
    g = torch.Generator().manual_seed(seed)
    weights = []
    for layer, held in zip(start.layers, start.weights, strict=True):
        moved = {n: w + 0.05 * torch.randn(w.shape, generator=g, dtype=F64) for n, w in held.items()}
        weights.append({n: w * layer.masks[n] for n, w in moved.items()})
    return Flow(start.gaussian, start.layers, tuple(weights))


def rows(count, draws, size, seed=5):
    return torch.randn(count, draws, size, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.fixture(params=[(1, 1), (3, 5), (2, 14)], ids=lambda p: f"{p[0]}x{p[1]}")
def flow(request):
    return bent_flow(*request.param)


def test_the_inverse_is_exact(flow):
    e = 1.5 * rows(flow.count, 50, flow.size)
    z, log_det = flow.forward(e)
    back, same = flow.inverse(z)
    torch.testing.assert_close(back, e, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(same, log_det, atol=1e-9, rtol=1e-9)
    assert not torch.allclose(z, flow.gaussian.scaled(e), atol=0.1)


def test_log_prob_is_the_base_density_over_the_jacobian(flow):
    e = rows(flow.count, 3, flow.size)
    z = flow.scaled(e)
    for p in range(flow.count):
        jacobians = [
            torch.autograd.functional.jacobian(lambda r, p=p: flow[p].scaled(r[None])[0], r) for r in e[p]
        ]
        volume = torch.linalg.slogdet(torch.stack(jacobians))[1]
        base = torch.distributions.Normal(0.0, 1.0).log_prob(e[p]).sum(-1)
        torch.testing.assert_close(flow.log_prob(z)[p], base - volume, atol=1e-9, rtol=1e-9)


def test_tails_mix_a_student_t_into_the_base():
    """Their density is the mixture's, and half of the draws are the t's: their squares say so."""
    flow = bent_flow(1, 3).with_tails()
    e = flow.base_draws(40_000, generators(1))[0]
    square = e.square().sum(-1)
    zero = torch.zeros((), dtype=F64)
    t5, normal = torch.distributions.StudentT(zero + 5), torch.distributions.Normal(zero, zero + 1)
    assert square[::2].mean() == pytest.approx(3.0, abs=4 * math.sqrt(6 / 20_000))
    within = (e[1::2, 0].abs() < 1).double().mean()
    share = 0.63678  # P(|t| < 1) with 5 degrees of freedom
    assert float(within) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 20_000))
    one = bent_flow(1, 1).with_tails()
    grid = torch.linspace(-60, 60, 200_001, dtype=F64)[None, :, None]
    density = one.base_log_prob(grid).exp()
    expected = (normal.log_prob(grid).exp() + t5.log_prob(grid).exp())[..., 0] / 2
    torch.testing.assert_close(density, expected, atol=1e-12, rtol=1e-9)
    z, log_det = one.forward(grid[:, ::1000])
    torch.testing.assert_close(one.log_prob(z), one.base_log_prob(grid[:, ::1000]) - log_det)


def test_the_density_pulled_back_and_its_gradient(flow):
    def target(z):
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            value = -(z.square().sum(-1) + 1).log() - z.cosh().log().sum(-1)
            (grad,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), grad

    e = rows(flow.count, 4, flow.size)
    value, grad = flow.pulled_back(target)(e)
    free = e.clone().requires_grad_()
    z, log_det = flow.forward(free)
    expected = -(z.square().sum(-1) + 1).log() - z.cosh().log().sum(-1) + log_det
    torch.testing.assert_close(value, expected.detach(), atol=1e-9, rtol=1e-9)
    (by_autograd,) = torch.autograd.grad(expected.sum(), free)
    torch.testing.assert_close(grad, by_autograd, atol=1e-9, rtol=1e-9)
    one = flow[0].pulled_back(target)(e[0])
    torch.testing.assert_close(one[1], grad[0])


def through_layers(flow, e):
    """(size, draws) columns of the base -> columns before the Gaussian, and the log determinant."""
    x, total = e[None], 0.0
    for layer, weights in zip(flow.layers, flow.weights, strict=True):
        x, log_det, _ = layer.forward(weights, x)
        total = total + log_det[0]
    return x[0], total


def test_the_score_pushed_forward_is_the_gradient_of_log_prob(flow):
    """What the sticking-the-landing gradient takes off: J^-T (-e - grad log det)."""
    e = rows(flow.count, 3, flow.size).mT
    x, score = e, -e
    for layer, weights in zip(flow.layers, flow.weights, strict=True):
        x, _, seen = layer.forward(weights, x)
        score = layer.push(seen, score)
    for p in range(flow.count):
        for i in range(3):
            point = e[p, :, i]
            jacobian = torch.autograd.functional.jacobian(
                lambda v, p=p: through_layers(flow[p], v[:, None])[0][:, 0], point
            )
            slope = torch.autograd.functional.jacobian(
                lambda v, p=p: through_layers(flow[p], v[:, None])[1].sum(), point
            )
            expected = torch.linalg.solve(jacobian.T, -point - slope)
            torch.testing.assert_close(score[p, :, i], expected, atol=1e-8, rtol=1e-8)


def test_the_gradient_of_the_parameters(flow):
    """The products written by hand against automatic differentiation, layer by layer."""
    x = rows(flow.count, 6, flow.size).mT
    cotangent = rows(flow.count, 6, flow.size, seed=8).mT
    for layer, held in zip(flow.layers, flow.weights, strict=True):
        weights = {n: w.clone().requires_grad_() for n, w in held.items()}
        y, _, _ = layer.forward(weights, x)
        expected = torch.autograd.grad((y * cotangent).sum(), list(weights.values()))
        _, _, seen = layer.forward(held, x)
        _, found = layer.pull(seen, cotangent)
        for name, value in zip(weights, expected, strict=True):
            mask = layer.masks[name]
            torch.testing.assert_close(found[name] * mask, value * mask, atol=1e-9, rtol=1e-9)


def test_training_starts_at_the_gaussian():
    flow = Flow.identity(gaussians(2, 6), generators(2))
    e = rows(2, 9, 6)
    z, log_det = flow.forward(e)
    torch.testing.assert_close(z, flow.gaussian.scaled(e), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(log_det, flow.gaussian.log_det[:, None].expand(2, 9), atol=1e-12, rtol=0)


def test_rows_of_another_number_of_problems_are_refused():
    with pytest.raises(ValueError, match=r"expected \(2, draws, 3\).*flow\[i\]"):
        bent_flow(2, 3).forward(torch.zeros(4, 3, dtype=F64))


def gradients_of(log_prob):
    def function(z):
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            value = log_prob(z)
            (grad,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), grad

    return function


def funnel(z):
    """Neal's funnel in 10 dimensions: a normal of standard deviation 3 sets the log variance of the rest."""
    first, rest = z[..., 0], z[..., 1:]
    scale = (first / 2).exp()[..., None]
    return torch.distributions.Normal(0.0, 3.0).log_prob(first) + (
        -0.5 * (rest / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
    ).sum(-1)


def banana(z):
    """z0 ~ N(0, 2^2), z1 ~ N((z0^2 - 4) / 2, 1), two more standard normal."""
    normal = torch.distributions.Normal(0.0, 1.0)
    first = torch.distributions.Normal(0.0, 2.0).log_prob(z[..., 0])
    return (
        first
        + normal.log_prob(z[..., 1] - (z[..., 0].square() - 4) / 2)
        + normal.log_prob(z[..., 2:]).sum(-1)
    )


def weighed(flow, log_prob, count, seed):
    """Draws of a flow with tails, their normalized weights, and what these say."""
    wide = flow.with_tails()
    e = wide.base_draws(count, generators(flow.count, seed))
    z, log_det = wide.forward(e)
    log_w = log_prob(z) - wide.base_log_prob(e) + log_det
    return [
        (
            z[p],
            *pareto_smooth(log_w[p]),
            effective_size(log_w[p]) / count,
            float(log_w[p].logsumexp(0)) - math.log(count),
        )
        for p in range(flow.count)
    ]


def test_a_banana_is_learned():
    """Started at a crude Gaussian; moments known in closed form: var z1 = 1 + Var(z0^2) / 4 = 9."""
    count = 2
    scale = torch.diag(torch.tensor([1.0, 2.0, 1.0, 1.0], dtype=F64)).expand(count, 4, 4)
    start = Gaussian(torch.zeros(count, 4, dtype=F64), scale)
    seen = []
    trained = train_flow(
        gradients_of(banana), start, generators(count), lambda *row: seen.append(row), steps=500, draws=128
    )
    assert trained.steps == 500 and [step for _, step, _ in seen] == [0, 250, 500]
    assert trained.elbo.min() > -0.1 and trained.elbo.max() < 0.03
    for z, log_w, khat, ess, log_z in weighed(trained.guide, banana, 8000, 9):
        weight = log_w.exp()
        mean = weight @ z
        variance = weight @ (z - mean).square()
        exact = torch.tensor([4.0, 9.0, 1.0, 1.0], dtype=F64)
        # Var z^2 = 2 sd^4 for a normal; of z1, a quarter of a squared normal's, the fourth moment is 15 sd^4
        error = (exact * torch.tensor([2.0, 14.0, 2.0, 2.0], dtype=F64).sqrt()) / math.sqrt(8000 * ess)
        # k-hat has no say here: it is scale-free, and weights this equal have a tail of tiny differences.
        assert khat < 1 and ess > 0.5
        assert ((mean).abs() < 4 * (exact / (8000 * ess)).sqrt()).all()
        assert ((variance - exact).abs() < 4 * error).all()
        assert abs(log_z) < 4 * math.sqrt((1 / ess - 1) / 8000)


def test_training_stops_by_itself_and_by_the_hook():
    """On a Gaussian target there is nothing to gain; and a problem that passes keeps what it passed with."""
    target = gradients_of(lambda z: -0.5 * z.square().sum(-1) - math.log(2 * math.pi))
    start = Gaussian(torch.zeros(2, 2, dtype=F64), torch.eye(2, dtype=F64).expand(2, 2, 2))
    done = train_flow(target, start, generators(2), lambda *row: None, draws=16)
    assert done.steps <= 1000 and bool(done.converged.all())
    assert done.elbo.abs().max() < 0.01
    asked = []

    def certify(flows):
        asked.append(flows.count)
        return [True, len(asked) > 1]

    passed = train_flow(target, start, generators(2), lambda *row: None, certify=certify, draws=16)
    assert passed.steps == 500 and asked == [2, 2] and bool(passed.converged.all())


def test_draws_without_a_finite_density_are_left_out_and_counted():
    def target(z):
        value, grad = gradients_of(lambda z: -0.5 * z.square().sum(-1))(z)
        wrong = z[..., 0] > 1.0
        return value.masked_fill(wrong, -math.inf), grad.masked_fill(wrong[..., None], math.nan)

    start = Gaussian(torch.zeros(1, 2, dtype=F64), 0.5 * torch.eye(2, dtype=F64)[None])
    trained = train_flow(target, start, generators(1), lambda *row: None, steps=20, draws=32)
    assert int(trained.skipped) > 0
    assert all(bool(torch.isfinite(w).all()) for layer in trained.guide.weights for w in layer.values())


def test_equal_seeds_give_equal_flows_whatever_the_global_state():
    start = Gaussian(torch.zeros(1, 3, dtype=F64), torch.eye(3, dtype=F64)[None])

    def once():
        target = gradients_of(lambda z: -z.cosh().log().sum(-1))
        return train_flow(target, start, generators(1, 4), lambda *row: None, steps=20, draws=32).guide

    state = torch.random.get_rng_state()
    first = once()
    assert bool((torch.random.get_rng_state() == state).all()) and torch.get_default_dtype() == torch.float32
    torch.set_default_dtype(F64)
    try:
        second = once()
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(first.weights, second.weights, strict=True):
        for name in a:
            assert a[name].dtype == F64 and bool((a[name] == b[name]).all())


def story(n, rate):
    log_scale = pyro.sample("log_scale", dist.Normal(1.0, 2.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(rate, log_scale.exp()))


def test_it_is_a_guide_by_name_that_serves_and_is_saved(tmp_path):
    assert "flow" in rungs()
    data = {"x": torch.tensor([3.0, 5.0, 4.5])}
    posterior = fit(story, data, (3, 2.5), guide="flow", restarts=2, draws=200, steps=30, seed=0)
    assert posterior.certificate.guide == "flow"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = Predictive(story, guide=posterior.guide, num_samples=400)(3, 2.5)["x"]
    # The posterior of log_scale is narrow enough for this: x has mean 2.5 and about the data's spread.
    assert drawn.shape == (400, 3) and float(drawn.median()) == pytest.approx(2.5, abs=0.5)
    posterior.save(tmp_path / "flow")
    again = load(tmp_path / "flow", story)
    z = posterior.guide.family.sample(5, generators(1))
    assert bool((again.guide.family.sample(5, generators(1)) == z).all())
    assert bool((again.guide.family.log_prob(z) == posterior.guide.family.log_prob(z)).all())


@pytest.mark.slow
def test_funnel_in_ten_dimensions():
    """Log evidence within .02, k-hat below .7, and the known law of the log scale and of what it scales."""
    count = 2
    scale = torch.diag(torch.tensor([1.0, *[0.5] * 9], dtype=F64)).expand(count, 10, 10)
    start = Gaussian(torch.zeros(count, 10, dtype=F64), scale)
    trained = train_flow(gradients_of(funnel), start, generators(count), lambda *row: None, steps=1000)
    assert trained.elbo.min() > -0.03
    for z, log_w, khat, ess, log_z in weighed(trained.guide, funnel, 40_000, 3):
        weight = log_w.exp()
        assert khat < 0.7 and ess > 0.5 and abs(log_z) < 0.02
        # The rest's standard deviation cannot be told by draws (kurtosis 3 e^9); divided by its scale it can.
        ratio = z[:, 1:] / (z[:, :1] / 2).exp()
        for value, stddev in [(z[:, :1], 3.0), (ratio, 1.0)]:
            mean = weight @ value
            spread = (weight @ (value - mean).square()).sqrt()
            assert (mean.abs() < 0.05 * stddev).all()
            assert ((spread / stddev - 1).abs() < 0.05).all()
