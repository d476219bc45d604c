"""Deep stories without hidden causes: flow, autoregressive network, energy; densities that are densities."""

import math

import pyro
import pytest
import torch
from pyro import poutine

from ppl_models.autoregressive import autoregressive
from ppl_models.distributions.causal_mixture import CausalMixture
from ppl_models.distributions.gibbs import Energy, Gibbs
from ppl_models.energy_based import energy_based
from ppl_models.networks.annealing import anneal, langevin, noise
from ppl_models.networks.masked import MaskedNetwork
from ppl_models.networks.spline import rational_quadratic
from ppl_models.normalizing_flow import normalizing_flow


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(), pyro.settings.context(module_local_params=True):
        torch.manual_seed(20)
        yield


def roughened(story, by=0.3):
    """The story with its parameters moved at random, as after training: nothing holds by symmetry."""
    with torch.no_grad():
        for parameter in story.parameters():
            if parameter.dim() > 1 or parameter.numel() > 4:
                parameter += by * torch.randn_like(parameter)
    return story.double().eval()


def law(story, y=None):
    """The law of x given labels y: that of the story's site, for as many rows."""
    known = {} if y is None else {"y": y}
    with torch.no_grad():
        trace = poutine.trace(poutine.condition(story, known)).get_trace(1 if y is None else len(y))
    found = trace.nodes["x"]["fn"]
    return found if y is not None else found.expand(())


def grid(half=9.0, cells=300):
    side = 2 * half / cells
    line = -half + side * (torch.arange(cells).double() + 0.5)
    return torch.cartesian_prod(line, line), side * side


POINTS = {
    "flow": lambda **k: roughened(normalizing_flow(hidden=16, spread=1.4, location=0.3, **k)),
    "autoregressive": lambda **k: roughened(autoregressive(hidden=16, components=3, spread=1.4, **k), 0.2),
    "energy": lambda **k: roughened(energy_based(hidden=16, spread=1.4, waves=4, particles=2048, **k)),
}


@pytest.mark.parametrize("make", POINTS.values(), ids=POINTS)
def test_a_density_in_the_plane_integrates_to_one(make):
    """By a midpoint rule, exact but for the corners of splines and, for the energy, the error of log Z."""
    story = make()
    x, area = grid()
    with torch.no_grad():
        total = (law(story).log_prob(x).exp().sum() * area).item()
    error = story.energy.weigh()[1].item() * 4 if isinstance(story, energy_based) else 0.0
    assert abs(total - 1) < 2e-3 + error
    assert error < 0.01


@pytest.mark.parametrize("make", POINTS.values(), ids=POINTS)
def test_draws_agree_with_the_density(make):
    """Means of a few functions over 20,000 draws against their integrals: four standard errors."""
    one = law(make())
    x, area = grid()
    with torch.no_grad():
        weight = one.log_prob(x).exp() * area
        draws = one.sample((20_000,))
    functions = [lambda x: x[:, 0].tanh(), lambda x: x[:, 1].tanh(), lambda x: (2 * x[:, 0] + x[:, 1]).sin(),
                 lambda x: (x[:, 0] * x[:, 1]).tanh(), lambda x: (x.norm(dim=-1) < 1).double()]  # fmt: skip
    for f in functions:
        values = f(draws)
        expected = (weight * f(x)).sum()
        assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(len(draws)) + 3e-3


@pytest.mark.parametrize("make", POINTS.values(), ids=POINTS)
def test_the_label_changes_the_law_and_only_of_its_own_row(make):
    story = make(classes=3)
    x = torch.randn(4, 2, dtype=torch.float64)
    with torch.no_grad():
        one, other = law(story, torch.tensor([0, 1, 2, 0])), law(story, torch.tensor([0, 2, 2, 0]))
        before, after = one.log_prob(x), other.log_prob(x)
        assert torch.equal(before == after, torch.tensor([True, False, True, True]))
        table = law(story, torch.arange(3)).expand((3,)).log_prob(x[:, None])  # every row, every label
    torch.testing.assert_close(table[[0, 1, 2, 3], [0, 1, 2, 0]], before)
    assert one.sample((5,)).shape == (5, 4, 2)


@pytest.mark.parametrize("make", POINTS.values(), ids=POINTS)
def test_a_label_that_is_summed_out_by_pyro_is_summed_out(make):
    story = make(classes=3)
    x = torch.randn(6, 2, dtype=torch.float64)
    seen = poutine.condition(story, {"x": x})
    elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    with torch.no_grad():
        total = -elbo.loss(pyro.infer.config_enumerate(seen), lambda n: None, 6)
        table = torch.stack([law(story, torch.full((6,), c)).log_prob(x) for c in range(3)])
    assert total == pytest.approx((table - math.log(3)).logsumexp(0).sum().item(), abs=1e-9)


def test_spline_derivative_inverse_and_tails():
    x = torch.linspace(-7, 7, 701, dtype=torch.float64, requires_grad=True)
    shape = [2.0 * torch.randn(701, k, dtype=torch.float64) for k in (6, 6, 5)]
    shape = [one[:1].expand(701, -1) for one in shape]
    y, log_slope = rational_quadratic(x, *shape, 3.0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope.exp(), slope, rtol=1e-9, atol=1e-12)
    back, log_back = rational_quadratic(y, *shape, 3.0, inverse=True)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(log_back, -log_slope)
    outside = x.detach().abs() >= 3
    assert torch.equal(y[outside], x[outside])
    assert not log_slope[outside].any()
    assert (y.diff() > 0).all()


@pytest.mark.parametrize("features", [2, 5])
def test_flow_is_invertible_and_its_log_determinant_is_that_of_the_jacobian(features):
    story = roughened(normalizing_flow(features, classes=2, hidden=8, spread=1.7), 0.5)
    x = 2 * torch.randn(7, features, dtype=torch.float64)
    context = torch.eye(2, dtype=torch.float64)[torch.tensor([0, 1, 0, 1, 1, 0, 0])]
    z, log_det = story.map.to_noise(x, context)
    torch.testing.assert_close(story.map.to_data(z, context), x)
    for row, label, expected in zip(x, context, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda u, c=label: story.map.to_noise(u, c)[0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, expected)


def test_flow_in_float32_comes_back_within_a_thousandth_and_has_finite_gradients_far_outside():
    story = normalizing_flow(spread=2.0)
    with torch.no_grad():
        for parameter in story.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x = torch.cat([2 * torch.randn(500, 2), torch.tensor([[1e4, -1e4], [0.0, 50.0]])])
    z, log_det = story.map.to_noise(x, None)
    with torch.no_grad():
        back = story.map.to_data(z, None)
    assert (back - x).abs().max() / 1e4 < 1e-3
    assert (back - x)[:500].abs().max() < 1e-2
    (log_det.sum() - z.square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in story.parameters())


def test_a_flow_of_one_feature_is_refused():
    with pytest.raises(ValueError, match="features: expected at least 2"):
        normalizing_flow(features=1)


@pytest.mark.parametrize("context", [0, 3])
def test_masks_let_a_feature_see_those_before_it_and_nothing_else(context):
    features = 6
    network = MaskedNetwork(features, context, outputs=4, hidden=40, layers=3).double()
    label = torch.randn(context, dtype=torch.float64) if context else None
    x = torch.randn(features, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda u: network(u, label), x).abs().sum(1)
    assert torch.equal(jacobian > 0, torch.ones(features, features).tril(-1) > 0)
    if label is not None:
        by_label = torch.autograd.functional.jacobian(lambda c: network(x, c), label).abs().sum(1)
        assert (by_label > 0).all()


def test_probabilities_of_all_small_images_sum_to_one():
    story = roughened(autoregressive(features=16, levels=2, components=2, hidden=32), 0.2)
    images = ((torch.arange(65536)[:, None] >> torch.arange(16)) & 1).double()
    with torch.no_grad():
        p = law(story).log_prob(images).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-9)
    assert p.max() > 3 / 65536  # not the uniform law


def test_grey_levels_sum_to_one_and_draws_follow_them():
    story = roughened(autoregressive(features=2, levels=17, components=3, hidden=16), 0.2)
    images = torch.cartesian_prod(torch.arange(17), torch.arange(17)).double()
    one = law(story)
    with torch.no_grad():
        p = one.log_prob(images).exp()
        draws = one.sample((20_000,))
    assert p.sum().item() == pytest.approx(1, abs=1e-9)
    place = (17 * draws[:, 0] + draws[:, 1]).long()
    counts = place.bincount(minlength=289).double()
    common = p * 20_000 > 10
    chi2 = ((counts - 20_000 * p).square() / (20_000 * p))[common].sum()
    assert abs(chi2 - common.sum()) < 4 * math.sqrt(2 * common.sum())
    with pytest.raises(ValueError, match="support"):
        CausalMixture(story.network, 2, 17, None, story.location, story.spread, True).log_prob(images + 0.5)


def test_noise_is_standard_normal_and_even():
    u = noise(4096, 2, torch.Generator().manual_seed(1), torch.zeros((), dtype=torch.float64))
    inside = (u.norm(dim=-1) < 1).double().mean()
    assert abs(inside - (1 - math.exp(-0.5))) < 0.003  # plain draws: standard error .0076
    assert torch.isfinite(u).all()
    wide = noise(64, 40, torch.Generator().manual_seed(1), torch.zeros(()))
    assert wide.shape == (64, 40)


def quartic(u):
    """An energy whose constant has no simple formula in many dimensions, but factorizes."""
    return (u**4 / 4).sum(-1)


def exact_log_z(features):
    line = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    one = torch.exp(-(line**4) / 4 - line**2 / 2) / math.sqrt(2 * math.pi)
    return features * torch.trapezoid(one, line).log().item()


def test_annealing_finds_the_constant_of_an_energy_in_ten_dimensions():
    generator = torch.Generator().manual_seed(2)
    u = torch.randn(4000, 10, generator=generator, dtype=torch.float64)
    particles, log_weights = anneal(u, quartic, 30, generator)
    weights = (log_weights - log_weights.max()).exp()
    log_z = log_weights.logsumexp(0) - math.log(4000)
    error = (weights.std() / weights.mean() / math.sqrt(4000)).item()
    assert abs(log_z - exact_log_z(10)) < 4 * error
    assert error < 0.05
    assert particles.shape == (4000, 10)


def test_langevin_steps_leave_the_law_as_it_is():
    """Started from exact draws of exp(-u^4/4 - u^2/2), by rejection; thirty steps on they still are."""
    generator = torch.Generator().manual_seed(3)
    u = torch.randn(40_000, 1, generator=generator, dtype=torch.float64)
    u = u[torch.rand(len(u), generator=generator).log() < -quartic(u)]
    before = u.square()
    for _ in range(30):
        u, share = langevin(u, quartic, 1.0, 1.2, generator)
    after = u.square()
    assert 0.3 < share < 0.95
    error = math.hypot(before.std().item(), after.std().item()) / math.sqrt(len(u))
    assert abs(after.mean() - before.mean()) < 4 * error


def test_log_z_in_many_dimensions_has_an_error_that_covers_it():
    """An energy that is a known quadratic: exp(-a u^2/2) N(0, I) has log Z = -d/2 log(1 + a)."""
    energy = Energy(8, 0, 4, 1, 0.0, 1.0, 200, 20, waves=0).double().eval()
    energy.forward = lambda u, context: 1.5 * u.square().sum(-1) / 2
    value, stderr = energy.weigh(repeats=8)
    assert abs(value.item() + 4 * math.log(2.5)) < 4 * stderr.item() + 0.01
    assert stderr.item() < 0.05
    x = torch.randn(5, 8, dtype=torch.float64)
    expected = torch.distributions.Normal(0.0, 1 / math.sqrt(2.5)).log_prob(x).sum(-1)
    assert (Gibbs(energy, None).log_prob(x) - expected).abs().max() < 0.2
    draws = Gibbs(energy, None).sample((3000,))
    assert abs(draws.square().mean() - 0.4) < 4 * 0.4 * math.sqrt(2 / (8 * 3000)) + 0.01


def test_draws_are_chosen_by_the_weights_of_their_own_label():
    """Without a Langevin step after the choice: exp(-a u^2/2) N(0, I) has variance 1 / (1 + a)."""
    energy = Energy(2, 2, 4, 1, 0.0, 2.0, 4000, 1, waves=0).double()
    steep = torch.tensor([0.5, 3.0], dtype=torch.float64)
    energy.forward = lambda u, context: (context @ steep) * u.square().sum(-1) / 2
    y = torch.arange(4000) % 2
    draws = Gibbs(energy, y, moves=0).sample()
    for label, a in enumerate(steep.tolist()):
        variance, expected = draws[y == label].square().mean(), 4 / (1 + a)
        # Squares of 4,000 normal numbers; a pool of 16,000 weighted particles adds half of that, at most.
        assert abs(variance - expected) < 4 * expected * math.sqrt(1.5 * 2 / 4000)


def test_a_low_energy_where_the_base_is_thin_is_seen():
    """A spot four standard deviations out: log Z by quadrature, within an error that is small."""
    energy = Energy(2, 0, 4, 1, 0.0, 1.0, 1024, 1, waves=0).double().eval()
    centre = torch.tensor([3.2, 2.4], dtype=torch.float64)
    energy.forward = lambda u, context: -11 * (-(u - centre).square().sum(-1) / 1.28).exp()
    u, area = grid()
    base = -0.5 * u.square().sum(-1) - math.log(2 * math.pi)
    expected = ((base - energy.forward(u, None)).logsumexp(0) + math.log(area)).item()
    value, stderr = energy.weigh()
    assert expected > 0.3  # the spot matters
    assert stderr.item() < 0.03
    assert abs(value.item() - expected) < 4 * stderr.item() + 1e-3


def test_an_energy_learns_from_fresh_particles_and_answers_with_the_same():
    one = law(energy_based(hidden=8, particles=64))
    x = torch.randn(3, 2)
    assert not torch.equal(one.log_prob(x), one.log_prob(x))
    one.energy.eval()
    state = torch.get_rng_state()
    assert torch.equal(one.log_prob(x), one.log_prob(x))
    assert torch.equal(state, torch.get_rng_state())


def test_the_gradient_of_the_energys_log_likelihood_is_right():
    """Against the gradient by quadrature on a grid, in evaluation mode."""
    story = roughened(energy_based(hidden=8, layers=1, spread=1.4, waves=0, particles=4096))
    x = torch.randn(50, 2, dtype=torch.float64)
    parameter = story.energy.network[0].weight
    (ours,) = torch.autograd.grad(Gibbs(story.energy, None).log_prob(x).sum(), parameter)
    u, area = grid()
    base = -0.5 * u.square().sum(-1) - math.log(2 * math.pi)
    log_z = (base - story.energy(u, None)).logsumexp(0) + math.log(area)
    (exact,) = torch.autograd.grad((-story.energy(x / 1.4, None) - log_z).sum(), parameter)
    assert (ours - exact).norm() < 0.02 * exact.norm()
