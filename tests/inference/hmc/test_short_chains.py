"""Many short chains: right on what is known, and refused where they are stuck, misled or diverging."""

import math
from dataclasses import replace

import arviz as az
import pytest
import torch

from inference.hmc.adaptation import Sampler, warm_up
from inference.hmc.chain_record import Record
from inference.hmc.hamiltonian import Chains, Metric, transition
from inference.hmc.short_chains import begin, polish

RESTARTS, CHAINS, DRAWS = 4, 64, 1000


def normal(mean, stddev):
    mean, stddev = (torch.as_tensor(v, dtype=torch.float64) for v in (mean, stddev))

    def target(e):
        white = (e - mean) / stddev
        return -0.5 * white.square().sum(-1), -white / stddev

    return target


def dense_normal(covariance):
    precision = torch.linalg.inv(covariance)

    def target(e):
        force = -e @ precision
        return 0.5 * (e * force).sum(-1), force

    return target


def two_modes(e):
    """Weights .3 and .7, ten standard deviations apart in the first coordinate."""
    other = e - torch.tensor([10.0] + [0.0] * (e.shape[-1] - 1), dtype=e.dtype)
    parts = torch.stack([math.log(0.3) - 0.5 * x.square().sum(-1) for x in (e, other)])
    parts[1] += math.log(0.7 / 0.3)
    share = parts.softmax(0)[..., None]
    return parts.logsumexp(0), -(share[0] * e + share[1] * other)


def funnel(e):
    """Neal's funnel: log scale N(0, 3), the others N(0, exp(log scale / 2))."""
    v, x = e[:, :1], e[:, 1:]
    square = x.square().sum(-1, keepdim=True) * (-v).exp()
    size = x.shape[-1]
    value = -(v.square()) / 18 - 0.5 * size * v - 0.5 * square
    return value[:, 0], torch.cat([-v / 9 - 0.5 * size + 0.5 * square, -x * (-v).exp()], 1)


def start(size, generator, stddev=1.0, restarts=RESTARTS, chains=CHAINS):
    return stddev * torch.randn(restarts, chains, size, generator=generator, dtype=torch.float64)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def assert_moments(polished, mean, stddev, errors=5.0):
    """Means and standard deviations within their Monte Carlo error, from the smallest effective size.

    Five standard errors, over at most 50 coordinates: a false alarm has a chance below 1e-4.
    """
    draws = polished.draws.flatten(0, 1)
    size = min(polished.ess_bulk, polished.ess_tail, len(draws))
    assert ((draws.mean(0) - mean).abs() < errors * stddev / math.sqrt(size)).all()
    assert ((draws.std(0) / stddev - 1).abs() < errors / math.sqrt(2 * size)).all()


@pytest.mark.parametrize("width", [0.7, 1.0, 2.0])
def test_polish_reaches_a_gaussian_from_a_guide_that_is_too_narrow_or_too_wide(width):
    """In fewer than 300 batched gradients from a good guide, as the efficiency that is promised."""
    g = generator(1)
    polished = polish(normal(0.0, 1.0), start(50, g, width), DRAWS, g)
    assert polished.converged and not polished.reasons
    assert polished.gradient_calls < 300
    assert polished.draws.shape == (RESTARTS, DRAWS, 50)
    assert polished.log_p.shape == (RESTARTS, DRAWS)
    assert polished.divergences == 0 and 0.85 < polished.acceptance < 0.99
    assert_moments(polished, torch.zeros(50), torch.ones(50))
    torch.testing.assert_close(polished.log_p, -0.5 * polished.draws.square().sum(-1))


def test_metric_is_found_for_a_correlated_gaussian():
    """Correlations that the guide missed, with a condition number of 1e4, and a shifted mean."""
    g = generator(2)
    basis, _ = torch.linalg.qr(torch.randn(20, 20, generator=g, dtype=torch.float64))
    covariance = basis @ torch.logspace(-2, 2, 20, dtype=torch.float64).diag() @ basis.T
    polished = polish(dense_normal(covariance), start(20, g), DRAWS, g)
    assert polished.converged
    assert_moments(polished, torch.zeros(20), covariance.diagonal().sqrt())


def test_variances_are_found_where_there_are_many_unknowns():
    """Above 200 unknowns the metric is diagonal."""
    g = generator(3)
    stddev = torch.logspace(-1, 1, 210, dtype=torch.float64)
    polished = polish(normal(1.0, stddev), start(210, g, restarts=2), 200, g)
    assert polished.converged
    assert_moments(polished, torch.ones(210), stddev, errors=5.5)


def test_arviz_sees_how_independent_the_draws_are():
    """Its effective size, restart by restart, is near that of all chains, also where draws stay correlated.

    Walks of short steps on a Gaussian: an autocorrelation of .8 from one transition to the next.
    """
    g = generator(4)
    target = normal(0.0, torch.ones(2))
    sampler = begin(target, start(2, g), g)
    sampler.step, sampler.length = 0.7, 0.64  # cos(.64) is .8
    record = Record(RESTARTS)
    for _ in range(60):
        record.add(sampler.advance())
    e, _ = record.thinned(60 * CHAINS)
    true = 60 * RESTARTS * CHAINS * (1 - 0.8) / (1 + 0.8)
    assert e.shape == (RESTARTS, 60 * CHAINS, 2)
    for k in range(2):
        assert 0.7 * true < float(az.ess(e[..., k].numpy(), method="bulk")) < 1.4 * true


def test_thinned_draws_are_distinct_and_come_from_all_chains():
    """A number of draws that the chains do not divide: each draw once, each chain's in its order."""
    g = generator(18)
    sampler = begin(normal(0.0, 1.0), start(1, g, chains=5), g)
    record, marks = Record(RESTARTS), []
    for t in range(9):
        made = sampler.advance()
        position = torch.arange(RESTARTS * 5, dtype=torch.float64)[:, None] + 100 * t
        record.add(replace(made, chains=replace(made.chains, e=position)))
        marks.append(position)
    e, log_p = record.thinned(17)
    assert e.shape == (RESTARTS, 17, 1) and log_p.shape == (RESTARTS, 17)
    for restart, drawn in enumerate(e[..., 0].long()):
        assert len(drawn.unique()) == 17
        chain, time = drawn % 100, drawn // 100
        assert chain.unique().tolist() == list(range(5 * restart, 5 * restart + 5))
        assert all((time[chain == c].diff() > 0).all() for c in chain.unique())
        assert int(time.max()) == 8


def test_chains_stuck_in_two_modes_are_refused():
    """The guide's weights are .5 and .5 in every restart, the truth's .3 and .7: restarts agree, wrongly."""
    g = generator(5)
    e = start(3, g)
    e[..., 0] += 10.0 * (torch.rand(RESTARTS, CHAINS, generator=g) < 0.5)
    polished = polish(two_modes, e, DRAWS, g, budget=2000)
    assert not polished.converged
    assert any("have not forgotten where they started" in r for r in polished.reasons)
    assert any("budget of 2000" in r for r in polished.reasons)


def test_restarts_in_different_modes_are_refused():
    g = generator(6)
    e = start(3, g)
    e[0, :, 0] += 10.0
    polished = polish(two_modes, e, DRAWS, g, budget=1000)
    assert not polished.converged
    assert any("restarts' chains disagree" in r for r in polished.reasons)


def test_a_guide_that_is_wrong_in_a_direction_that_barely_moves_is_refused():
    """Restarts that share a guide agree on its error; that the chains still know their starts tells."""
    g = generator(7)

    def barrier(e):
        """A Gaussian in polar form: nothing drives the angle out of the half plane where it starts."""
        value, grad = normal(0.0, 1.0)(e)
        wall = 1e4 * (-e[:, 0].square() / 2e-3).exp()
        grad[:, 0] += wall * e[:, 0] / 1e-3
        return value - wall, grad

    e = start(2, g)
    e[..., 0] = torch.where(torch.rand(RESTARTS, CHAINS, generator=g) < 0.8, 1.0, -1.0) * (
        0.5 + e[..., 0].abs()
    )
    polished = polish(barrier, e, DRAWS, g, budget=4000)
    assert not polished.converged


def test_funnel_is_refused_or_right():
    g = generator(8)
    polished = polish(funnel, start(10, g), 250, g, budget=4000)
    if polished.converged:
        assert_moments(polished, *(torch.tensor(v) for v in (0.0, 3.0)))
    else:
        assert polished.reasons


def test_divergences_are_a_reason():
    """Below a cliff no trajectory can enter: it is seen, and it is said."""
    g = generator(9)

    def cliff(e):
        value, grad = normal(0.0, 1.0)(e)
        deep = e[:, 0] < -1.5
        grad[:, 0] += torch.where(deep, 1e9, 0.0)
        return value, grad

    polished = polish(cliff, start(2, g), 200, g, budget=3000)
    assert not polished.converged and polished.divergence_share > 0.001
    assert any("diverged" in r and "Reparametrize" in r for r in polished.reasons)


def test_values_that_are_not_finite_reject():
    """A half space is impossible: the chains sample the other half, |N(0, 1)|, and never see the first."""
    g = generator(10)

    def half(e):
        value, grad = normal(0.0, 1.0)(e)
        out = e[:, 0] < 0
        assert not e.isnan().any()
        return torch.where(out, torch.nan, value), torch.where(out[:, None], torch.inf, grad)

    sampler = begin(half, start(1, g, chains=128), g)
    assert (sampler.chains.e >= 0).all()
    sampler.step = 0.3
    draws = []
    for _ in range(400):
        made = sampler.advance()
        draws.append(made.chains.e)
        assert made.chains.e.min() >= 0 and torch.isfinite(made.chains.log_p).all()
    e = torch.stack(draws[50:])
    # Mean sqrt(2 / pi); chains of 350 draws with an autocorrelation time below 20 transitions.
    error = 0.603 / math.sqrt(e.shape[1] * 350 / 20)
    assert abs(float(e.mean()) - math.sqrt(2 / math.pi)) < 4 * error


def test_chains_without_a_finite_start_take_that_of_another_of_their_restart():
    g = generator(11)
    e = start(2, g, chains=4)
    e[1, 2:] = math.nan
    sampler = begin(normal(0.0, 1.0), e, g)
    grouped = sampler.chains.e.unflatten(0, (RESTARTS, 4))
    assert torch.equal(grouped[1, 2:], e[1, :2])
    assert torch.equal(grouped[0], e[0])


def test_starts_are_checked():
    g = generator(12)
    target = normal(0.0, 1.0)
    with pytest.raises(ValueError, match=r"start: .*float64 .*got torch.float32"):
        polish(target, start(2, g).float(), 10, g)
    with pytest.raises(ValueError, match="start: .*at least 4 chains"):
        polish(target, start(2, g, restarts=1, chains=2), 10, g)
    with pytest.raises(ValueError, match="draws: expected a positive number, got 0"):
        polish(target, start(2, g), 0, g)
    e = start(2, g)
    e[2] = math.inf
    with pytest.raises(ValueError, match=r"start: .*none in restart 2"):
        polish(target, e, 10, g)


def test_rows_keep_their_order_so_that_restarts_may_have_coordinates_of_their_own():
    """Each restart is shifted by its number; the same seed gives the same draws."""
    shift = torch.arange(RESTARTS, dtype=torch.float64).repeat_interleave(CHAINS)
    rows, reports = set(), []

    def target(e):
        rows.add(len(e))
        return normal(0.0, 1.0)(e + shift[:, None])

    def polished():
        g = generator(13)
        e = start(2, g) - shift.reshape(RESTARTS, CHAINS, 1)
        return polish(
            target, e, 100, g, lambda *r: reports.append(r), judged=lambda e: e + shift[:, None, None]
        )

    one, other = polished(), polished()
    assert one.converged and torch.equal(one.draws, other.draws)
    assert rows == {RESTARTS * CHAINS}
    assert reports and all(name == "hmc" and calls > 0 and elbo is None for name, calls, elbo in reports)
    means = one.draws.mean((1, 2)) + torch.arange(RESTARTS)
    assert (means.abs() < 5 / math.sqrt(200)).all()


def test_leapfrog_is_reversible_and_nearly_conserves_energy():
    """Back with the velocity turned round, to rounding; the error falls with the square of the step."""
    g = generator(14)
    e = start(3, g).flatten(0, 1)
    covariance = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.7]], dtype=torch.float64)
    metric = Metric.of_scale(torch.linalg.cholesky(covariance))
    target = normal(0.0, torch.tensor([1.0, 2.0, 0.5]))
    errors = []
    for step in (0.2, 0.1):
        made = transition(target, Chains(e, *target(e)), metric, 1.0, step, generator(15))
        end = Chains(made.proposed, *target(made.proposed))
        errors.append(float((made.velocity.square().sum(-1) / 2 - end.log_p - made.energy).abs().mean()))
        velocity = -metric.scaled(made.velocity)
        back = made.proposed.clone()
        grad = end.grad
        metric.kick(velocity, grad, step / 2)
        for k in range(made.steps):
            back += step * velocity
            metric.kick(velocity, target(back)[1], step / (2 if k == made.steps - 1 else 1))
        torch.testing.assert_close(back, e, rtol=0, atol=1e-12)
    assert 3.0 < errors[0] / errors[1] < 5.0


@pytest.mark.parametrize("dense", [False, True])
def test_transitions_leave_a_skewed_density_as_it_is(dense):
    """Exact draws of a log-gamma stay so, with steps so large that many proposals are rejected."""
    g = generator(16)
    shape = 3.0
    exact = torch.distributions.Gamma(torch.tensor(shape, dtype=torch.float64), 1.0)
    count = 40_000
    # A sum of three exponentials is gamma of shape 3; torch's own gamma takes no generator.
    e = -torch.rand(3, count, 2, generator=g, dtype=torch.float64).log().sum(0)
    assert abs(float(e.mean()) - float(exact.mean)) < 0.05
    e = e.log()

    def target(e):
        return (shape * e - e.exp()).sum(-1), shape - e.exp()

    scale = torch.tensor([[1.0, 0.0], [0.4, 0.8]]).double() if dense else torch.tensor([0.5, 1.0]).double()
    sampler = Sampler(target, Chains(e, *target(e)), 1, g, Metric.of_scale(scale), step=1.6)
    acceptance = [float(sampler.advance().acceptance.mean()) for _ in range(6)]
    assert max(acceptance) < 0.9
    after = sampler.chains.e.exp()
    # Moments of gamma(3): mean 3, variance 3; E log = digamma(3), variance trigamma(3).
    log = sampler.chains.e
    three = torch.tensor(shape, dtype=torch.float64)
    expected = torch.special.digamma(three), torch.special.polygamma(1, three)
    assert ((after.mean(0) - 3).abs() < 4.5 * math.sqrt(3 / count)).all()
    assert ((log.mean(0) - expected[0]).abs() < 4.5 * (expected[1] / count).sqrt()).all()
    # The fourth central moment of gamma(3) is 3 * 9 + 6 * 3 = 45.
    assert ((after.var(0) - 3).abs() < 4.5 * math.sqrt((45 - 9) / count)).all()


def test_a_budget_that_is_far_too_small_is_said():
    g = generator(19)
    polished = polish(funnel, start(10, g), 1000, g, budget=3)
    assert not polished.converged and any("budget of 3" in r for r in polished.reasons)
    assert polished.draws.shape[0] == RESTARTS and torch.isfinite(polished.draws).all()


def test_warm_up_gives_up_within_its_budget():
    g = generator(17)
    sampler = begin(funnel, start(10, g), g)
    assert not warm_up(sampler, budget=60)
    assert sampler.gradient_calls < 60 + 512
