"""Every likelihood through exp, softplus and sigmoid, where they over- and underflow: the tape is plain Pyro.

Values must be Pyro's own in float64, infinite and NaN ones included. Gradients must be autograd's, where it
has a number, and elsewhere the limit, where the value is finite: the differences of plain Pyro's values.
"""

import pyro.distributions as dist
import pytest
import torch
from torch import tensor
from torch.nn.functional import softplus

from inference.compiler.batched_function import simplified
from inference.compiler.recording import record
from inference.runtime.isolation import isolated

POSITIVE = {"exp": torch.exp, "softplus": softplus, "sigmoid": torch.sigmoid}
SHARE = {"sigmoid": torch.sigmoid}
REAL = {"itself": torch.clone, "exp": torch.exp}
EVERYWHERE = (-800.0, -100.0, -40.0, 0.0, 0.7, 40.0, 100.0, 800.0)
STEP = 1e-6


def numbers(*values):
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).expand(()) for v in values])


def diagonal(r):
    return torch.diag_embed(numbers(r, 1.0))


def mixture(probs, scales):
    return dist.MixtureSameFamily(dist.Categorical(probs), dist.Normal(numbers(0.0, 1.0), scales))


ONE, TWO = torch.ones((), dtype=torch.float64), torch.full((), 2.0, dtype=torch.float64)
HALF, FEW, SIMPLEX = [0.5], [0.0, 3.0], [[0.2, 0.3, 0.5]]
# name: (how the parameter is made, the distribution of it, values that are seen)
LIKELIHOODS = {
    "poisson": (POSITIVE, lambda r: dist.Poisson(r), FEW),
    "exponential": (POSITIVE, lambda r: dist.Exponential(r), HALF),
    "gamma shape": (POSITIVE, lambda r: dist.Gamma(r, TWO), HALF),
    "gamma rate": (POSITIVE, lambda r: dist.Gamma(TWO, r), HALF),
    "inverse gamma shape": (POSITIVE, lambda r: dist.InverseGamma(r, TWO), HALF),
    "inverse gamma rate": (POSITIVE, lambda r: dist.InverseGamma(TWO, r), HALF),
    "beta, first": (POSITIVE, lambda r: dist.Beta(r, TWO), HALF),
    "beta, second": (POSITIVE, lambda r: dist.Beta(TWO, r), HALF),
    "beta mean": (SHARE, lambda p: dist.Beta(5 * p, 5 * (1 - p)), [0.3]),
    "chi2": (POSITIVE, lambda r: dist.Chi2(r), HALF),
    "dirichlet": (POSITIVE, lambda r: dist.Dirichlet(numbers(r, 2.0, 1.0)), SIMPLEX),
    "normal mean": (POSITIVE, lambda r: dist.Normal(r, ONE), HALF),
    "normal": (POSITIVE, lambda r: dist.Normal(0 * ONE, r), [0.5, 0.0]),
    "lognormal": (POSITIVE, lambda r: dist.LogNormal(0 * ONE, r), HALF),
    "half-normal": (POSITIVE, lambda r: dist.HalfNormal(r), [0.5, 0.0]),
    "half-cauchy": (POSITIVE, lambda r: dist.HalfCauchy(r), [0.5, 0.0]),
    "cauchy": (POSITIVE, lambda r: dist.Cauchy(0 * ONE, r), [0.5, 0.0]),
    "laplace": (POSITIVE, lambda r: dist.Laplace(0 * ONE, r), [0.5, 0.0]),
    "asymmetric laplace": (POSITIVE, lambda r: dist.AsymmetricLaplace(0 * ONE, r, ONE), HALF),
    "soft laplace": (POSITIVE, lambda r: dist.SoftLaplace(0 * ONE, r), HALF),
    "gumbel": (POSITIVE, lambda r: dist.Gumbel(0 * ONE, r), HALF),
    "logistic": (POSITIVE, lambda r: dist.Logistic(0 * ONE, r), HALF),
    "skew logistic": (POSITIVE, lambda r: dist.SkewLogistic(0 * ONE, r, ONE), HALF),
    "student scale": (POSITIVE, lambda r: dist.StudentT(3 * ONE, 0 * ONE, r), HALF),
    "student df": (POSITIVE, lambda r: dist.StudentT(r, 0 * ONE, ONE), HALF),
    "weibull scale": (POSITIVE, lambda r: dist.Weibull(r, TWO), HALF),
    "weibull shape": (POSITIVE, lambda r: dist.Weibull(ONE, r), HALF),
    "pareto scale": (POSITIVE, lambda r: dist.Pareto(r, ONE), HALF),
    "pareto shape": (POSITIVE, lambda r: dist.Pareto(0.2 * ONE, r), HALF),
    "kumaraswamy, first": (POSITIVE, lambda r: dist.Kumaraswamy(r, TWO), HALF),
    "kumaraswamy, second": (POSITIVE, lambda r: dist.Kumaraswamy(TWO, r), HALF),
    "fisher-snedecor, first": (POSITIVE, lambda r: dist.FisherSnedecor(r, 3 * ONE), HALF),
    "fisher-snedecor, second": (POSITIVE, lambda r: dist.FisherSnedecor(3 * ONE, r), HALF),
    "von mises": (POSITIVE, lambda r: dist.VonMises(0 * ONE, r), HALF),
    "von mises 3d": (POSITIVE, lambda r: dist.VonMises3D(numbers(r, 0.0, 0.0)), [[1.0, 0.0, 0.0]]),
    "projected normal": (POSITIVE, lambda r: dist.ProjectedNormal(numbers(r, 0.0)), [[1.0, 0.0]]),
    "uniform": (POSITIVE, lambda r: dist.Uniform(0 * ONE, r), HALF),
    "gamma-poisson shape": (POSITIVE, lambda r: dist.GammaPoisson(r, TWO), FEW),
    "gamma-poisson rate": (POSITIVE, lambda r: dist.GammaPoisson(TWO, r), FEW),
    "beta-binomial, first": (POSITIVE, lambda r: dist.BetaBinomial(r, TWO, 5), [0.0, 3.0, 5.0]),
    "beta-binomial, second": (POSITIVE, lambda r: dist.BetaBinomial(TWO, r, 5), [0.0, 3.0, 5.0]),
    "dirichlet-multinomial": (
        POSITIVE,
        lambda r: dist.DirichletMultinomial(numbers(r, 2.0), 5),
        [[0.0, 5.0], [2.0, 3.0], [5.0, 0.0]],
    ),
    "negative binomial total": (POSITIVE, lambda r: dist.NegativeBinomial(r, 0.3 * ONE), FEW),
    "negative binomial": (SHARE, lambda p: dist.NegativeBinomial(3 * ONE, p), FEW),
    "negative binomial logits": (REAL, lambda z: dist.NegativeBinomial(3 * ONE, logits=z), FEW),
    "inflated poisson rate": (POSITIVE, lambda r: dist.ZeroInflatedPoisson(r, gate=0.3 * ONE), FEW),
    "inflated poisson gate": (SHARE, lambda p: dist.ZeroInflatedPoisson(TWO, gate=p), FEW),
    "inflated poisson gate logits": (REAL, lambda z: dist.ZeroInflatedPoisson(TWO, gate_logits=z), FEW),
    "inflated negative binomial": (
        POSITIVE,
        lambda r: dist.ZeroInflatedNegativeBinomial(r, probs=0.3 * ONE, gate=0.3 * ONE),
        FEW,
    ),
    "bernoulli": (SHARE, lambda p: dist.Bernoulli(p), [0.0, 1.0]),
    "bernoulli logits": (REAL, lambda z: dist.Bernoulli(logits=z), [0.0, 1.0]),
    "binomial": (SHARE, lambda p: dist.Binomial(5, p), [0.0, 2.0, 5.0]),
    "binomial logits": (REAL, lambda z: dist.Binomial(5, logits=z), [0.0, 2.0, 5.0]),
    "geometric": (SHARE, lambda p: dist.Geometric(p), [0.0, 2.0]),
    "geometric logits": (REAL, lambda z: dist.Geometric(logits=z), [0.0, 2.0]),
    "categorical": (SHARE, lambda p: dist.Categorical(numbers(p, 1 - p)), [0, 1]),
    "categorical weights": (POSITIVE, lambda r: dist.Categorical(numbers(r, 1.0, 0.0)), [0, 1]),
    "categorical logits": (REAL, lambda z: dist.Categorical(logits=numbers(z, 1.0)), [0, 1]),
    "one-hot": (SHARE, lambda p: dist.OneHotCategorical(numbers(p, 1 - p)), [[1.0, 0.0], [0.0, 1.0]]),
    "one-hot logits": (REAL, lambda z: dist.OneHotCategorical(logits=numbers(z, 1.0)), [[1.0, 0.0]]),
    "multinomial": (SHARE, lambda p: dist.Multinomial(5, numbers(p, 1 - p)), [[5.0, 0.0], [2.0, 3.0]]),
    "multinomial logits": (REAL, lambda z: dist.Multinomial(5, logits=numbers(z, 1.0)), [[5.0, 0.0]]),
    "continuous bernoulli": (SHARE, lambda p: dist.ContinuousBernoulli(p), [0.3]),
    "continuous bernoulli logits": (REAL, lambda z: dist.ContinuousBernoulli(logits=z), [0.3]),
    "relaxed bernoulli": (REAL, lambda z: dist.RelaxedBernoulli(ONE, logits=z), [0.3]),
    "ordered logistic": (REAL, lambda z: dist.OrderedLogistic(z, tensor([-1.0, 0.0, 1.0])), [0, 1, 3]),
    "mixture weights": (SHARE, lambda p: mixture(numbers(p, 1 - p), numbers(1.0, 2.0)), [0.3]),
    "mixture scale": (POSITIVE, lambda r: mixture(numbers(0.5, 0.5), numbers(r, 1.0)), [0.3]),
    "multivariate normal": (
        POSITIVE,
        lambda r: dist.MultivariateNormal(numbers(0.0, 1.0), scale_tril=diagonal(r)),
        [[0.3, 0.4]],
    ),
    "low-rank normal": (
        POSITIVE,
        lambda r: dist.LowRankMultivariateNormal(numbers(0.0, 1.0), torch.ones(2, 1).double(), numbers(r, 1)),
        [[0.3, 0.4]],
    ),
    "lkj": (POSITIVE, lambda r: dist.LKJCholesky(2, r), [[[1.0, 0.0], [0.6, 0.8]]]),
    "wishart": (POSITIVE, lambda r: dist.Wishart(r + 2, torch.eye(2).double()), [[[1.0, 0.3], [0.3, 2.0]]]),
}
# Where Pyro's formula cancels terms of 1e17 and more against one another, what is left of them is noise.
NOISE = {
    "student df": (-800.0, 10.0),
    "fisher-snedecor, first": (-800.0, 10.0),
    "fisher-snedecor, second": (-800.0, 10.0),
    "dirichlet-multinomial": (-800.0, 10.0),
    "low-rank normal": (0.0, 800.0),
    "projected normal": (-800.0, 10.0),
    "lkj": (0.0, 10.0),  # it adds 1/2 and takes it off again, which leaves nothing of a small number
    "weibull shape": (-800.0, 100.0),  # 0.5 ** 800, whose reciprocal overflows when it is differentiated
}
# Where Pyro's value is NaN (infinite logits) and the tape has the limit instead.
LIMITS = {"bernoulli logits": {0.0: -torch.inf, 1.0: 0.0}}
CASES = [(name, made) for name, (transforms, *_) in LIKELIHOODS.items() for made in transforms]


def by_pyro(function, z, x):
    """Value and gradient; where autograd has none of a finite value, the differences' limit."""
    z = z.clone().requires_grad_()
    value = function(z, x)
    (grad,) = torch.autograd.grad(value, z)
    if value.isfinite() and not grad.isfinite():
        grad = (function(z + STEP, x) - function(z - STEP, x)).detach()[None] / (2 * STEP)
    return value.detach(), grad[0]


@pytest.mark.parametrize(("name", "made"), CASES)
def test_the_tape_is_pyro_where_numbers_overflow(name, made):
    transforms, likelihood, seen = LIKELIHOODS[name]
    low, high = NOISE.get(name, (EVERYWHERE[0], EVERYWHERE[-1]))
    z = torch.tensor([[v] for v in EVERYWHERE if low <= v <= high], dtype=torch.float64)

    def log_density(point, x):
        return likelihood(transforms[made](point[0])).log_prob(x)

    with isolated(0):
        data = [torch.as_tensor(x, dtype=None if isinstance(x, int) else torch.float64) for x in seen]
        function = simplified(record(log_density, torch.tensor([0.1]), data[0]).tape, density=True)
        for x in data:
            bound = function.bind([x])
            value, (again, grad) = bound.value(z)[0], bound.gradient(z)
            expected, slope = map(torch.stack, zip(*(by_pyro(log_density, p, x) for p in z), strict=True))
            limit = LIMITS.get(name, {}).get(float(x)) if x.dim() == 0 else None
            expected = expected if limit is None else expected.nan_to_num(limit, torch.inf, -torch.inf)
            torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9, equal_nan=True)
            torch.testing.assert_close(again, expected, rtol=1e-9, atol=1e-9, equal_nan=True)
            known = expected.isfinite() & (slope.isfinite() | torch.tensor(limit is None))
            torch.testing.assert_close(grad[known, 0], slope[known], rtol=1e-6, atol=1e-6)
