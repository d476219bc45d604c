"""Distributions and closed forms against independent packages; those that are not installed are skipped."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from ppl_models.distributions.autoregressive import Autoregressive
from ppl_models.distributions.garch import Garch
from ppl_models.distributions.hidden_markov import HiddenMarkov
from ppl_models.gaussian_process import exact, gaussian_process


def doubles(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def test_gaussian_process_is_scikit_learn_s():
    """Marginal likelihood and prediction with a squared exponential kernel at fixed parameters."""
    from pyro import poutine
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    rng = np.random.default_rng(1)
    inputs, at = rng.uniform(0, 6, (25, 2)), rng.uniform(0, 6, (7, 2))
    y = np.sin(inputs).sum(-1) + 0.3 * rng.standard_normal(25)
    kernel = ConstantKernel(1.7**2) * RBF(1.2)
    theirs = GaussianProcessRegressor(kernel, alpha=0.4**2, optimizer=None).fit(inputs, y)
    mean, covariance = theirs.predict(at, return_cov=True)
    names = ("amplitude", "lengthscale", "noise")
    given = dict(zip(names, doubles(1.7, 1.2, 0.4), strict=True))
    y, inputs, at = (torch.from_numpy(v) for v in (y[None], inputs, at))
    f = exact({"y": y}, 1, inputs, at=at, given=given)["f"]
    np.testing.assert_allclose(f.mean[0], mean, rtol=1e-8)
    np.testing.assert_allclose(f.covariance_matrix[0], covariance, rtol=1e-6, atol=1e-9)
    trace = poutine.trace(poutine.condition(gaussian_process, {**given, "y": y})).get_trace(1, inputs)
    trace.compute_log_prob()
    np.testing.assert_allclose(
        float(trace.nodes["y"]["log_prob_sum"]), theirs.log_marginal_likelihood_value_, rtol=1e-9
    )


def test_hidden_markov_is_hmmlearn_s():
    hmm = pytest.importorskip("hmmlearn.hmm", reason="hmmlearn is not installed")
    initial, transition, mean = doubles(
        [0.5, 0.3, 0.2], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]], [-2.0, 0.5, 3.0]
    )
    x = 2.5 * np.random.default_rng(2).standard_normal(150)
    theirs = hmm.GaussianHMM(3, covariance_type="spherical")
    theirs.startprob_, theirs.transmat_ = initial.numpy(), transition.numpy()
    theirs.means_, theirs.covars_ = mean.numpy()[:, None], np.full(3, 1.3**2)
    log_p, states = theirs.score_samples(x[:, None])
    ours = HiddenMarkov(initial, transition, dist.Normal(mean, 1.3), 150)
    np.testing.assert_allclose(ours.log_prob(torch.from_numpy(x)), log_p, rtol=1e-10)
    np.testing.assert_allclose(ours.state_probabilities(torch.from_numpy(x)), states, rtol=1e-8, atol=1e-12)


def test_garch_is_arch_s():
    volatility = pytest.importorskip("arch.univariate.volatility", reason="arch is not installed")
    x = 1.5 * np.random.default_rng(3).standard_normal(200)
    omega, alpha, beta, start = 0.3, 0.2, 0.7, 2.0
    backcast = (start - omega) / (alpha + beta)  # what it takes for the values before the series
    theirs = volatility.GARCH(1, 0, 1).compute_variance(
        np.array([omega, alpha, beta]), x - 0.1, np.empty(200), backcast, np.tile([1e-12, 1e12], (200, 1))
    )
    ours = Garch(*doubles(0.1, omega, alpha, beta, start), 200).variances(torch.from_numpy(x))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_autoregression_is_statsmodels():
    models = pytest.importorskip("statsmodels.tsa.ar_model", reason="statsmodels is not installed")
    x = np.cumsum(np.random.default_rng(4).standard_normal(120))
    theirs = models.AutoReg(x, lags=3).fit()
    constant, *phi = theirs.params
    values = doubles(x[:3], constant, phi, theirs.sigma2**0.5)
    ours = Autoregressive(*values, 117).log_prob(torch.from_numpy(x[3:]))
    np.testing.assert_allclose(ours, theirs.llf, rtol=1e-10)
