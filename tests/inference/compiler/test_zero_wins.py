"""At the edge of parameters that enumeration, a mask or a choice can reach: 0 * infinity is no derivative.

Row 0 of everything here lies at the edge (a rate, a scale or a probability of exactly 0, or 1), row 1 inside.
Values must be plain Pyro's, gradients the differences of these values; autograd alone says NaN in most.
"""

import math

import pyro.distributions as dist
import pytest
import torch

from inference.compiler.batched_function import simplified
from inference.compiler.recording import record
from inference.compiler.zero_wins import ZeroWins
from inference.runtime.isolation import isolated

STEP = 1e-5
INSIDE = torch.tensor([False, True])
EDGE = torch.tensor([0.0, 1.0], dtype=torch.float64)
ONE = torch.ones((), dtype=torch.float64)
choose = torch.where


def numbers(values):
    return torch.tensor(values, dtype=torch.float64)


def masked(fn, values):
    return fn.mask(INSIDE).log_prob(numbers(values)).sum()


def summed_out(terms):
    """As sums over discrete sites are taken: with impossible terms made finite."""
    return torch.logsumexp(terms.clamp(min=-1e100), 0)


# from one number z to a log density
EDGES = {
    "poisson z*r": lambda z: dist.Poisson(EDGE * z.exp()).log_prob(numbers([0.0, 2.0])).sum(),
    "poisson lse": lambda z: summed_out(dist.Poisson(EDGE * z.exp()).log_prob(numbers([3.0]))),
    "poisson lse0": lambda z: summed_out(dist.Poisson(EDGE * z.exp()).log_prob(numbers([0.0]))),
    "poisson where": lambda z: dist.Poisson(choose(INSIDE, z.exp(), 0.0)).log_prob(numbers([0.0, 2.0])).sum(),
    "binomial p0": lambda z: dist.Binomial(5, EDGE * z.sigmoid()).log_prob(numbers([0.0, 2.0])).sum(),
    "binomial p1": lambda z: dist.Binomial(5, 1 - EDGE * z.sigmoid()).log_prob(numbers([5.0, 2.0])).sum(),
    "binomial n0": lambda z: (
        dist.Binomial(numbers([0.0, 5.0]), z.sigmoid()).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "bernoulli p0": lambda z: dist.Bernoulli(EDGE * z.sigmoid()).log_prob(numbers([0.0, 1.0])).sum(),
    "bernoulli p1": lambda z: dist.Bernoulli(1 - EDGE * z.sigmoid()).log_prob(numbers([1.0, 1.0])).sum(),
    "geometric p1": lambda z: dist.Geometric(1 - EDGE * z.sigmoid()).log_prob(numbers([0.0, 1.0])).sum(),
    "geometric p0 lse": lambda z: summed_out(dist.Geometric(EDGE * z.sigmoid()).log_prob(numbers(1.0))),
    "negbin n0": lambda z: (
        dist.NegativeBinomial(EDGE * z.exp(), 0.3 * ONE).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "negbin n0 lse": lambda z: summed_out(
        dist.NegativeBinomial(EDGE * z.exp(), 0.3 * ONE).log_prob(numbers(3.0))
    ),
    "negbin p0": lambda z: (
        dist.NegativeBinomial(3 * ONE, EDGE * z.sigmoid()).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "negbin p1 lse": lambda z: summed_out(
        dist.NegativeBinomial(3 * ONE, 1 - EDGE * z.sigmoid()).log_prob(numbers(2.0))
    ),
    "negbin logits lse": lambda z: summed_out(
        dist.NegativeBinomial(3 * ONE, logits=choose(INSIDE, z, -math.inf)).log_prob(numbers(2.0))
    ),
    "categorical 0": lambda z: dist.Categorical(torch.stack([z.sigmoid(), 1 - z.sigmoid(), 0 * z])).log_prob(
        numbers(1)
    ),
    "categorical logits -inf": lambda z: dist.Categorical(
        logits=torch.stack([z, 0 * z, 0 * z - math.inf])
    ).log_prob(numbers(1)),
    "categorical log p": lambda z: dist.Categorical(
        logits=torch.log(torch.stack([z.sigmoid(), 1 - z.sigmoid(), 0 * z]))
    ).log_prob(numbers(1)),
    "onehot 0": lambda z: dist.OneHotCategorical(torch.stack([z.sigmoid(), 1 - z.sigmoid(), 0 * z])).log_prob(
        numbers([0.0, 1, 0])
    ),
    "onehot logits -inf": lambda z: dist.OneHotCategorical(
        logits=torch.stack([z, 0 * z, 0 * z - math.inf])
    ).log_prob(numbers([0.0, 1, 0])),
    "multinomial 0": lambda z: dist.Multinomial(
        5, torch.stack([z.sigmoid(), 1 - z.sigmoid(), 0 * z])
    ).log_prob(numbers([2.0, 3, 0])),
    "multinomial logits -inf": lambda z: dist.Multinomial(
        5, logits=torch.stack([z, 0 * z, 0 * z - math.inf])
    ).log_prob(numbers([2.0, 3, 0])),
    "multinomial log": lambda z: dist.Multinomial(
        5, logits=torch.stack([z.exp(), ONE, 0 * z]).log()
    ).log_prob(numbers([2.0, 3, 0])),
    "zip gate0": lambda z: (
        dist.ZeroInflatedPoisson(z.exp(), gate=numbers([0.0, 0.3])).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "zip gate z0": lambda z: (
        dist.ZeroInflatedPoisson(2 * ONE, gate=EDGE * z.sigmoid()).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "zip gate z0b": lambda z: (
        dist.ZeroInflatedPoisson(2 * ONE, gate=EDGE * z.sigmoid()).log_prob(numbers([2.0, 0.0])).sum()
    ),
    "zip gate1": lambda z: (
        dist.ZeroInflatedPoisson(z.exp(), gate=numbers([1.0, 0.3])).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "zip rate0": lambda z: (
        dist.ZeroInflatedPoisson(EDGE * z.exp(), gate=0.3 * ONE).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "zinb n0": lambda z: (
        dist.ZeroInflatedNegativeBinomial(EDGE * z.exp(), probs=0.3 * ONE, gate=0.3 * ONE)
        .log_prob(numbers([0.0, 2.0]))
        .sum()
    ),
    "betabinomial n0": lambda z: (
        dist.BetaBinomial(z.exp(), 2 * ONE, numbers([0.0, 5.0])).log_prob(numbers([0.0, 2.0])).sum()
    ),
    "gammapoisson mask": lambda z: masked(dist.GammaPoisson(EDGE * z.exp(), 2 * ONE), [0.0, 2.0]),
    "gammapoisson r0 lse": lambda z: summed_out(
        dist.GammaPoisson(2 * ONE, EDGE * z.exp()).log_prob(numbers(1.0))
    ),
    "exponential r0 lse": lambda z: summed_out(dist.Exponential(EDGE * z.exp()).log_prob(numbers(1.0))),
    "gamma r0 lse": lambda z: summed_out(dist.Gamma(2 * ONE, EDGE * z.exp()).log_prob(numbers(1.0))),
    "gamma c0 lse": lambda z: summed_out(dist.Gamma(EDGE * z.exp(), 2 * ONE).log_prob(numbers(1.0))),
    "beta c0 lse": lambda z: summed_out(dist.Beta(EDGE * z.exp(), 2 * ONE).log_prob(numbers(0.4))),
    "mixture w0": lambda z: dist.MixtureSameFamily(
        dist.Categorical(numbers([0.0, 1.0])), dist.Normal(torch.stack([z, 2 * z]), numbers([1.0, 2.0]))
    ).log_prob(numbers(0.3)),
    "mixture w0 z": lambda z: dist.MixtureSameFamily(
        dist.Categorical(torch.stack([0 * z, z.exp()])),
        dist.Normal(torch.stack([z, 2 * z]), numbers([1.0, 2.0])),
    ).log_prob(numbers(0.3)),
    "mixture poisson 0": lambda z: (
        dist.MixtureSameFamily(
            dist.Categorical(torch.stack([z.sigmoid(), 1 - z.sigmoid()])), dist.Poisson(EDGE * z.exp())
        )
        .log_prob(numbers([0.0, 3.0]))
        .sum()
    ),
    "mixture logits -inf": lambda z: dist.MixtureSameFamily(
        dist.Categorical(logits=torch.stack([z, 0 * z - math.inf])),
        dist.Normal(torch.stack([z, 2 * z]), numbers([1.0, 2.0])),
    ).log_prob(numbers(0.3)),
    "mask normal s0": lambda z: masked(dist.Normal(0 * ONE, EDGE * z.exp()), [1.0, 2.0]),
    "mask normal inf": lambda z: masked(dist.Normal(z, ONE), [math.inf, 2.0]),
    "mask normal nan": lambda z: masked(dist.Normal(z, ONE), [math.nan, 2.0]),
    "mask gamma r0": lambda z: masked(dist.Gamma(2 * ONE, EDGE * z.exp()), [1.0, 2.0]),
    "mask expo r0": lambda z: masked(dist.Exponential(EDGE * z.exp()), [1.0, 2.0]),
    "mask poisson r0": lambda z: masked(dist.Poisson(EDGE * z.exp()), [3.0, 2.0]),
    "mask lognormal s0": lambda z: masked(dist.LogNormal(0 * ONE, EDGE * z.exp()), [1.0, 2.0]),
    "mask lognormal x0": lambda z: masked(dist.LogNormal(z, z.exp()), [0.0, 2.0]),
    "mask studentt s0": lambda z: masked(dist.StudentT(z.exp(), z, EDGE * z.exp()), [1.0, 2.0]),
    "mask weibull s0": lambda z: masked(dist.Weibull(EDGE * z.exp(), z.exp()), [1.0, 2.0]),
    "mask beta c0": lambda z: masked(dist.Beta(EDGE * z.exp(), 2 * ONE), [0.3, 0.4]),
    "mask beta x0": lambda z: masked(dist.Beta(z.exp(), 2 * ONE), [0.0, 0.4]),
    "mask betabinomial": lambda z: masked(dist.BetaBinomial(EDGE * z.exp(), 2 * ONE, 5), [0.0, 2.0]),
    "mask vonmises": lambda z: masked(dist.VonMises(0 * ONE, EDGE * z.exp()), [0.3, 2.0]),
    "mask mvn": lambda z: (
        dist.MultivariateNormal(
            torch.zeros(2, 2), scale_tril=torch.diag_embed(EDGE[:, None] * z.exp().expand(2))
        )
        .mask(INSIDE)
        .log_prob(torch.ones(2, 2))
        .sum()
    ),
    "mask dirichlet": lambda z: (
        dist.Dirichlet(EDGE[:, None] * z.exp() * torch.ones(2))
        .mask(INSIDE)
        .log_prob(numbers([[0.3, 0.7], [0.3, 0.7]]))
        .sum()
    ),
    "mask pareto": lambda z: masked(dist.Pareto(0.2 * ONE, EDGE * z.exp()), [1.0, 2.0]),
    "mask halfcauchy": lambda z: masked(dist.HalfCauchy(EDGE * z.exp()), [1.0, 2.0]),
    "mask logistic": lambda z: masked(dist.Logistic(0 * ONE, EDGE * z.exp()), [1.0, 2.0]),
    "mask gumbel": lambda z: masked(dist.Gumbel(0 * ONE, EDGE * z.exp()), [1.0, 2.0]),
    "where outer normal": lambda z: choose(
        INSIDE, dist.Normal(0 * ONE, EDGE * z.exp()).log_prob(numbers([1.0, 2.0])), 0.0
    ).sum(),
    "where log": lambda z: choose(INSIDE, (EDGE * z.exp()).log(), 0.0).sum(),
    "where sqrt": lambda z: choose(INSIDE, (EDGE * z.exp()).sqrt(), 0.0).sum(),
    "where div": lambda z: choose(INSIDE, 1 / (EDGE * z.exp()), 0.0).sum(),
    "where pow": lambda z: choose(INSIDE, (EDGE * z.exp()) ** 0.3, 0.0).sum(),
    "where powz": lambda z: choose(INSIDE, EDGE**z, 0.0).sum(),
    "where atan2": lambda z: choose(INSIDE, torch.atan2(EDGE * z, EDGE * z), 0.0).sum(),
    "where acos": lambda z: choose(INSIDE, torch.acos(choose(INSIDE, z.tanh(), 1.0)), 0.0).sum(),
    "where asin": lambda z: choose(INSIDE, torch.asin(choose(INSIDE, z.tanh(), 2.0)), 0.0).sum(),
    "where atanh": lambda z: choose(INSIDE, torch.atanh(choose(INSIDE, z.tanh(), 1.0 + 0 * z)), 0.0).sum(),
    "where acosh": lambda z: choose(INSIDE, torch.acosh(choose(INSIDE, 1 + z.exp(), 1.0 + 0 * z)), 0.0).sum(),
    "where lgamma": lambda z: choose(INSIDE, torch.lgamma(EDGE * z.exp()), 0.0).sum(),
    "where log1p": lambda z: choose(INSIDE, torch.log1p(choose(INSIDE, z.exp(), z * 0 - 1)), 0.0).sum(),
    "where norm": lambda z: choose(
        INSIDE, torch.linalg.vector_norm(EDGE[:, None] * z * torch.ones(2, 2), dim=-1), 0.0
    ).sum(),
    "where prod": lambda z: choose(INSIDE, (EDGE[:, None] * z * torch.ones(2, 2)).prod(-1).log(), 0.0).sum(),
    "where cumprod": lambda z: choose(
        INSIDE, (EDGE[:, None] * z.exp() * torch.ones(2, 2)).cumprod(-1)[:, 1].log(), 0.0
    ).sum(),
    "where erfinv": lambda z: choose(INSIDE, torch.erfinv(choose(INSIDE, z.tanh(), 1 + 0 * z)), 0.0).sum(),
    "where logit": lambda z: choose(INSIDE, torch.logit(choose(INSIDE, z.sigmoid(), 0 * z)), 0.0).sum(),
    "where rsqrt": lambda z: choose(INSIDE, torch.rsqrt(EDGE * z.exp()), 0.0).sum(),
    "where reciprocal": lambda z: choose(INSIDE, torch.reciprocal(EDGE * z.exp()), 0.0).sum(),
    "where logsumexp": lambda z: choose(
        INSIDE, torch.logsumexp((EDGE * z.exp()).log()[:, None] + torch.zeros(2, 2), -1), 0.0
    ).sum(),
    "where logsoftmax": lambda z: choose(
        INSIDE, torch.log_softmax((EDGE * z.exp()).log()[:, None] + torch.zeros(2, 2), -1)[:, 0], 0.0
    ).sum(),
    "where softmax": lambda z: choose(
        INSIDE, torch.softmax((EDGE * z.exp()).log()[:, None] + torch.zeros(2, 2), -1)[:, 0], 0.0
    ).sum(),
    "where logaddexp": lambda z: choose(
        INSIDE, torch.logaddexp((EDGE * z.exp()).log(), (EDGE * z.exp()).log()), 0.0
    ).sum(),
    "where std": lambda z: choose(INSIDE, (EDGE[:, None] * z * numbers([1.0, 2.0])).std(-1), 0.0).sum(),
    "where normal icdf": lambda z: choose(
        INSIDE, dist.Normal(0 * ONE, ONE).icdf(choose(INSIDE, z.sigmoid(), 0 * z)), 0.0
    ).sum(),
    "where logsigmoid": lambda z: choose(
        INSIDE, torch.nn.functional.logsigmoid((EDGE * z.exp()).log()), 0.0
    ).sum(),
    "where digamma": lambda z: choose(INSIDE, torch.digamma(EDGE * z.exp()), 0.0).sum(),
    "where xlog1py": lambda z: choose(
        INSIDE, torch.special.xlog1py(numbers([0.0, 2.0]), choose(INSIDE, z.exp(), 0 * z - 1)), 0.0
    ).sum(),
    "where cholesky solve": lambda z: choose(
        INSIDE,
        torch.linalg.solve_triangular(
            torch.diag_embed(EDGE[:, None] * z.exp() * torch.ones(2)), torch.ones(2, 2, 1), upper=False
        ).sum((-1, -2)),
        0.0,
    ).sum(),
    "sqrt underflow": lambda z: (z * 0 - 800).exp().sqrt() + (z - 800).exp().sqrt() + z,
}


@pytest.mark.parametrize("name", EDGES)
def test_the_gradient_at_the_edge_is_the_limit(name):
    def log_density(point):
        return EDGES[name](point[0])

    z = numbers([[-0.7], [0.4], [1.3]])
    with isolated(0):
        function = simplified(record(log_density, numbers([0.1])).tape, density=True).bind([])
        value, grad = function.gradient(z)
        (alone,) = function.value(z)
        expected = torch.stack([log_density(p) for p in z])
        slope = torch.stack([(log_density(p + STEP) - log_density(p - STEP)) / (2 * STEP) for p in z])
    assert expected.isfinite().all()
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(alone, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(grad[:, 0], slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_infinite_logits_are_certain_or_impossible(sign):
    """Pyro's own value is NaN for what is certain; the limit is that of any large logit."""
    seen = numbers([0.0, 1.0]) if sign > 0 else numbers([1.0, 0.0])

    def both(point):
        logits = sign * choose(INSIDE, point[0], -math.inf)
        return dist.Bernoulli(logits=logits).log_prob(seen).sum()

    def other(point):
        logits = sign * choose(INSIDE, point[0], -math.inf)
        return summed_out(dist.Bernoulli(logits=logits).log_prob(seen[1]))

    z = numbers([[-0.7], [0.4], [1.3]])
    expected, slope = torch.nn.functional.logsigmoid(z[:, 0]), torch.sigmoid(-z)
    with isolated(0):
        for log_density in (both, other):
            function = simplified(record(log_density, numbers([0.1])).tape, density=True).bind([])
            value, grad = function.gradient(z)
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(function.value(z)[0], expected, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(grad, slope, rtol=1e-12, atol=1e-12)


def test_some_points_of_a_batch_and_of_several_data_sets_are_mended_and_the_others_left():
    def log_density(point, x):
        return dist.Poisson(point[0].exp()).log_prob(x).sum()

    x = numbers([[0.0, 0.0], [0.0, 2.0]])
    z = numbers([[[-800.0], [0.3], [1.0]], [[0.2], [0.5], [-1.0]]])
    with isolated(0):
        function = simplified(record(log_density, numbers([0.1]), x[0]).tape, density=True)
        value, grad = function.bind([x], sets=True).gradient(z)
        single, slope = function.bind([x[0]]).gradient(z[0])
    rate = z.exp()
    exact = x[:, None] * z - rate - torch.lgamma(x + 1)[:, None]
    torch.testing.assert_close(value, exact.sum(-1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad[..., 0], x.sum(-1)[:, None] - 2 * rate[..., 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(single, value[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, grad[0], rtol=1e-12, atol=1e-12)


def test_what_is_no_number_stays_so():
    """Careful derivatives mend gradients of values that are there; they make up no values."""

    def log_density(point):
        return dist.Normal(point[0].relu() / point[0].relu(), 1.0).log_prob(ONE)

    with isolated(0):
        function = simplified(record(log_density, numbers([0.1])).tape, density=True).bind([])
        value, grad = function.gradient(numbers([[-1.0], [1.0]]))
    assert value[0].isnan() and value[1].isfinite()
    assert grad[1] == 0


def test_the_mode_changes_no_ordinary_product():
    a, b = torch.linspace(-2, 2, 9, dtype=torch.float64), torch.linspace(1, 3, 9, dtype=torch.float64)
    with ZeroWins():
        product, ratio = a * b, a / b
    assert torch.equal(product, a * b) and torch.equal(ratio, a / b)


def test_constants_of_the_careful_function_are_made_in_double_precision():
    """It is made when it is first needed, outside of any room where float64 is the default."""

    def log_density(point):
        unit = torch.eye(2)  # of the default dtype
        return (EDGE * point[0].exp()).sqrt().sum() + torch.linalg.solve(unit, EDGE[:, None]).sum()

    with isolated(0):
        function = simplified(record(log_density, numbers([0.1])).tape, density=True).bind([])
    value, grad = function.gradient(numbers([[-0.7], [0.4]]))
    root = (numbers([-0.7, 0.4]) / 2).exp()
    torch.testing.assert_close(value, root + 1, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad[:, 0], root / 2, rtol=1e-12, atol=1e-12)
