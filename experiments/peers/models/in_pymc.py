"""The eight posteriors in PyMC. Variables bear the names of the Stan programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.peers.models import REGRESSIONS
from experiments.truth.posteriordb.columns import regression

__all__ = ["model"]

Array = Any
Model = Any


def model(stan: str, data: Mapping[str, Any]) -> Model:
    """Return the posterior as a ``pymc.Model``.

    Parameters
    ----------
    stan
        Name of the Stan program, one of the eight.
    data
        Its variables, as Stan gets them.

    Raises
    ------
    ValueError
        If the program is none of the eight.
    """
    if stan in REGRESSIONS:
        covariates, response = regression(stan, data)
        half_cauchy = stan == "kidscore_interaction"
        return linear_regression(covariates.numpy(), response.numpy(), half_cauchy)
    others: dict[str, Callable[..., Model]] = {
        "eight_schools_noncentered": eight_schools,
        "arma11": arma,
        "gp_pois_regr": gaussian_process,
        "blr": normal_regression,
    }
    if stan not in others:
        raise ValueError(f"stan: expected one of {', '.join([*others, *REGRESSIONS])}, got {stan!r}")
    return others[stan]({key: np.asarray(value) for key, value in data.items()})


def eight_schools(data: Mapping[str, Array]) -> Model:
    """theta[j] = mu + tau theta_trans[j], y[j] ~ Normal(theta[j], sigma[j])."""
    import pymc as pm

    with pm.Model() as found:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        theta_trans = pm.Normal("theta_trans", 0.0, 1.0, shape=len(data["y"]))
        theta = pm.Deterministic("theta", mu + tau * theta_trans)
        pm.Normal("y", theta, data["sigma"].astype(float), observed=data["y"].astype(float))
    return found


def linear_regression(x: Array, y: Array, half_cauchy: bool) -> Model:
    """Regression: y ~ Normal(x beta, sigma), beta flat, sigma ~ HalfCauchy(2.5) or flat, positive."""
    import pymc as pm

    with pm.Model() as found:
        beta = pm.Flat("beta", shape=x.shape[1])
        sigma = pm.HalfCauchy("sigma", 2.5) if half_cauchy else pm.HalfFlat("sigma")
        pm.Normal("y", x @ beta, sigma, observed=y)
    return found


def normal_regression(data: Mapping[str, Array]) -> Model:
    """Regression: y ~ Normal(x beta, sigma), beta ~ Normal(0, 10), sigma ~ HalfNormal(10)."""
    import pymc as pm

    x = data["X"].astype(float)
    with pm.Model() as found:
        beta = pm.Normal("beta", 0.0, 10.0, shape=x.shape[1])
        sigma = pm.HalfNormal("sigma", 10.0)
        pm.Normal("y", x @ beta, sigma, observed=data["y"].astype(float))
    return found


def arma(data: Mapping[str, Array]) -> Model:
    """err[t] = y[t] - mu - phi y[t-1] - theta err[t-1] ~ Normal(0, sigma), with y[0] = mu, err[0] = 0."""
    import pymc as pm
    import pytensor.tensor as pt

    y = data["y"].astype(float)
    with pm.Model() as found:
        mu = pm.Normal("mu", 0.0, 10.0)
        phi = pm.Normal("phi", 0.0, 2.0)
        theta = pm.Normal("theta", 0.0, 2.0)
        sigma = pm.HalfCauchy("sigma", 2.5)
        err = y - mu - phi * pt.concatenate([mu[None], pt.as_tensor(y[:-1])])
        # (I + theta S)^-1 = prod_k (I + (-theta S)^(2^k)), S the shift by one: no loop over time.
        power, lag = -theta, 1
        while lag < len(y):
            err = err + power * pt.concatenate([pt.zeros(lag), err[:-lag]])
            power, lag = power**2, 2 * lag
        pm.Potential("y", pm.logp(pm.Normal.dist(0.0, sigma), err).sum())
    return found


def gaussian_process(data: Mapping[str, Array]) -> Model:
    """Counts: k ~ Poisson(exp f), f a Gaussian process of squared exponential covariance at x."""
    import pymc as pm
    import pytensor.tensor as pt

    x = data["x"].astype(float)
    squares = (x[:, None] - x) ** 2
    with pm.Model() as found:
        rho = pm.Gamma("rho", alpha=25.0, beta=4.0)
        alpha = pm.HalfNormal("alpha", 2.0)
        f_tilde = pm.Normal("f_tilde", 0.0, 1.0, shape=len(x))
        covariance = alpha**2 * pt.exp(-0.5 * squares / rho**2) + 1e-10 * np.eye(len(x))
        f = pm.Deterministic("f", pt.linalg.cholesky(covariance) @ f_tilde)
        pm.Poisson("k", pt.exp(f), observed=data["k"])
    return found
