"""Joints of stories, written out once more by scipy.stats and plain loops from their docstrings."""

import importlib
import inspect

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import stats

from inference.runtime.isolation import isolated
from inference.story.call import Call


def told(name, seed):
    """One run of a story on its example's arguments: arguments, values and log joint density."""
    module = importlib.import_module(f"ppl_models.{name}")
    call = Call.bind(getattr(module, name), module.EXAMPLE[0])
    with isolated(seed):
        trace = poutine.trace(call).get_trace()
        total = float(trace.log_prob_sum())
    values = {n: s["value"].numpy() for n, s in trace.nodes.items() if s["type"] == "sample" and n != "row"}
    bound = inspect.signature(call.story).bind(*call.args)
    bound.apply_defaults()
    args = {n: a.numpy() if torch.is_tensor(a) else a for n, a in bound.arguments.items()}
    return args, values, total


def normal(x, mean, stddev):
    return stats.norm.logpdf(x, mean, stddev).sum()


def halfcauchy(x, median):
    return stats.halfcauchy.logpdf(x, scale=median).sum()


def poisson_regression(a, v):
    rate = np.exp(a["covariates"] @ v["weights"])
    return normal(v["weights"], 0, a["spread"]) + stats.poisson.logpmf(v["y"], rate).sum()


def robust_regression(a, v):
    line = a["covariates"] @ v["weights"]
    return (
        normal(v["weights"], 0, a["spread"])
        + stats.halfnorm.logpdf(v["sigma"], scale=a["noise"])
        + stats.gamma.logpdf(v["nu"], 2, scale=10)
        + stats.t.logpdf(v["y"], v["nu"], line, v["sigma"]).sum()
    )


def horseshoe_regression(a, v):
    np.testing.assert_allclose(v["weights"], v["eta"] * v["lam"] * v["tau"] * v["sigma"], rtol=1e-12)
    return (
        stats.halfnorm.logpdf(v["sigma"], scale=a["noise"])
        + halfcauchy(v["tau"], a["sparsity"])
        + halfcauchy(v["lam"], 1)
        + normal(v["eta"], 0, 1)
        + normal(v["y"], a["covariates"] @ v["weights"], v["sigma"])
    )


def regularized_horseshoe(a, v):
    variance = 1 / (1 / (v["lam"] * v["tau"] * v["sigma"]) ** 2 + 1 / v["slab"])
    np.testing.assert_allclose(v["weights"], v["eta"] * variance**0.5, rtol=1e-12)
    half = a["freedom"] / 2
    return (
        stats.halfnorm.logpdf(v["sigma"], scale=a["noise"])
        + halfcauchy(v["tau"], a["sparsity"])
        + stats.invgamma.logpdf(v["slab"], half, scale=half * a["largest"] ** 2)
        + halfcauchy(v["lam"], 1)
        + normal(v["eta"], 0, 1)
        + normal(v["y"], a["covariates"] @ v["weights"], v["sigma"])
    )


def hierarchical_means_centred(a, v):
    top = normal(v["mu"], a["location"], a["spread"]) + halfcauchy(v["tau"], a["between"])
    return top + normal(v["theta"], v["mu"], v["tau"]) + normal(v["y"], v["theta"], a["stddev"])


def hierarchical_means(a, v):
    top = normal(v["mu"], a["location"], a["spread"]) + halfcauchy(v["tau"], a["between"])
    np.testing.assert_allclose(v["theta"], v["mu"] + v["tau"] * v["eta"], rtol=1e-12)
    return top + normal(v["eta"], 0, 1) + normal(v["y"], v["mu"] + v["tau"] * v["eta"], a["stddev"])


def hidden_markov(a, v):
    two = np.full(a["states"], 2.0)
    total = stats.dirichlet.logpdf(v["initial"], two)
    total += sum(stats.dirichlet.logpdf(row, two) for row in v["transition"])
    assert (np.diff(v["mean"]) > 0).all()
    total += normal(v["mean"], a["location"], a["spread"]) + np.log(2)  # 2! orders of two levels
    total += stats.halfnorm.logpdf(v["sigma"], scale=a["noise"])
    for row, states in zip(v["x"], v["z"], strict=True):  # the states and what they emit, step by step
        chances = [v["initial"][states[0]], *v["transition"][states[:-1], states[1:]]]
        total += np.log(chances).sum() + normal(row, v["mean"][states], v["sigma"])
    return total


def autoregression(a, v):
    stddev = v["variance"] ** 0.5
    total = stats.invgamma.logpdf(v["variance"], 2, scale=a["noise"] ** 2)
    total += normal(v["phi"], 0, a["spread"] * stddev)
    for first, row in zip(a["first"], v["x"], strict=True):
        past = list(first)
        for x in row:
            mean = v["phi"][0] + sum(c * p for c, p in zip(v["phi"][1:], past[::-1], strict=False))
            total += normal(x, mean, stddev)
            past.append(x)
    return total


def gaussian_process(a, v):
    def kernel(s, t):
        return v["amplitude"] ** 2 * np.exp(-((s - t.T) ** 2) / 2 / v["lengthscale"] ** 2)

    x, at = a["inputs"], a["at"]
    inverse = np.linalg.inv(kernel(x, x) + v["noise"] ** 2 * np.eye(len(x)))
    gain = kernel(at, x) @ inverse
    left = kernel(at, at) - gain @ kernel(x, at)
    total = stats.lognorm.logpdf(v["amplitude"], 1, scale=a["spread"])
    total += stats.lognorm.logpdf(v["lengthscale"], 0.5, scale=a["reach"])
    total += stats.lognorm.logpdf(v["noise"], 1, scale=a["error"])
    for y, f in zip(v["y"], v["f"], strict=True):
        total += stats.multivariate_normal.logpdf(y, np.zeros(len(x)), np.linalg.inv(inverse))
        total += stats.multivariate_normal.logpdf(f, gain @ y, left)
    return total


def change_point(a, v):
    rate = [v["early"] if t < v["change"] else v["late"] for t in range(a["n"])]
    rates = np.array([v["early"], v["late"]])
    prior = stats.gamma.logpdf(rates, a["shape"], scale=1 / a["rate"]).sum() - np.log(a["n"])
    return prior + stats.poisson.logpmf(v["y"], rate).sum()


def garch(a, v):
    level, shock, memory = v["weights"]
    total = normal(v["mu"], 0, a["spread"])
    total += stats.invgamma.logpdf(v["variance"], 2, scale=a["spread"] ** 2)
    total += stats.dirichlet.logpdf(v["weights"], [1, 1, 3])
    for row in v["x"]:
        variance = v["variance"]
        for x in row:
            total += normal(x, v["mu"], variance**0.5)
            variance = level * v["variance"] + shock * (x - v["mu"]) ** 2 + memory * variance
    return total


def stochastic_volatility(a, v):
    total = normal(v["mu"], 2 * np.log(a["spread"]), 1) + stats.beta.logpdf(v["phi"], 8, 1.3)
    total += stats.halfnorm.logpdf(v["sigma"], scale=0.5) + normal(v["shock"], 0, 1)
    for row, shocks, path in zip(v["x"], v["shock"], v["h"], strict=True):
        h = v["mu"] + v["sigma"] * shocks[0] / (1 - v["phi"] ** 2) ** 0.5
        for t in range(len(row)):
            if t > 0:
                h = v["mu"] + v["phi"] * (h - v["mu"]) + v["sigma"] * shocks[t]
            assert abs(h - path[t]) < 1e-10
            total += normal(row[t], 0, np.exp(h / 2))
    return total


WRITTEN = [
    poisson_regression,
    robust_regression,
    horseshoe_regression,
    regularized_horseshoe,
    hierarchical_means,
    hierarchical_means_centred,
    hidden_markov,
    autoregression,
    gaussian_process,
    change_point,
    garch,
    stochastic_volatility,
]


@pytest.mark.parametrize("written", WRITTEN, ids=[f.__name__ for f in WRITTEN])
@pytest.mark.parametrize("seed", [1, 2])
def test_joint(written, seed):
    """To 1e-7 relative for the Gaussian process, whose matrices are near singular, else to 1e-10."""
    args, values, total = told(written.__name__, seed)
    rtol = 1e-7 if written is gaussian_process else 1e-10
    np.testing.assert_allclose(total, written(args, values), rtol=rtol)
