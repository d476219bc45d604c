"""The eight posteriors in NumPyro. Sites bear the names of the Stan programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.peers.models import REGRESSIONS
from experiments.truth.posteriordb.columns import regression

__all__ = ["problem"]

Array = Any
Model = Callable[..., None]


def problem(stan: str, data: Mapping[str, Any]) -> tuple[Model, tuple[Array, ...]]:
    """Return a model and what it is called with.

    Data are arguments and not constants of the model, so that a compiled model serves other data of the
    same shape.

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
    regressions: dict[str, Model] = dict.fromkeys(REGRESSIONS, flat_regression)
    regressions["kidscore_interaction"] = regression_with_half_cauchy
    if stan in regressions:
        covariates, response = regression(stan, data)
        return regressions[stan], (covariates.numpy(), response.numpy())
    others: dict[str, tuple[Model, tuple[str, ...]]] = {
        "eight_schools_noncentered": (eight_schools, ("sigma", "y")),
        "arma11": (arma, ("y",)),
        "gp_pois_regr": (gaussian_process, ("x", "k")),
        "blr": (normal_regression, ("X", "y")),
    }
    if stan not in others:
        raise ValueError(f"stan: expected one of {', '.join([*others, *REGRESSIONS])}, got {stan!r}")
    model, keys = others[stan]
    # Counts, k, stay whole: a Poisson law of floats is refused.
    return model, tuple(np.asarray(data[key], dtype=int if key == "k" else float) for key in keys)


def eight_schools(sigma: Array, y: Array) -> None:
    """theta[j] = mu + tau theta_trans[j], y[j] ~ Normal(theta[j], sigma[j])."""
    import numpyro
    import numpyro.distributions as dist

    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(y)):
        theta_trans = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * theta_trans)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def flat_regression(x: Array, y: Array) -> None:
    """Regression: y ~ Normal(x beta, sigma), beta flat, sigma flat on the positive numbers."""
    import numpyro
    import numpyro.distributions as dist

    beta = numpyro.sample("beta", dist.ImproperUniform(dist.constraints.real_vector, (), (x.shape[1],)))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def regression_with_half_cauchy(x: Array, y: Array) -> None:
    """Regression: y ~ Normal(x beta, sigma), beta flat, sigma ~ HalfCauchy(2.5)."""
    import numpyro
    import numpyro.distributions as dist

    beta = numpyro.sample("beta", dist.ImproperUniform(dist.constraints.real_vector, (), (x.shape[1],)))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def normal_regression(x: Array, y: Array) -> None:
    """Regression: y ~ Normal(x beta, sigma), beta ~ Normal(0, 10), sigma ~ HalfNormal(10)."""
    import numpyro
    import numpyro.distributions as dist

    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def arma(y: Array) -> None:
    """err[t] = y[t] - mu - phi y[t-1] - theta err[t-1] ~ Normal(0, sigma), with y[0] = mu, err[0] = 0."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax import lax

    mu = numpyro.sample("mu", dist.Normal(0.0, 10.0))
    phi = numpyro.sample("phi", dist.Normal(0.0, 2.0))
    theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    before = jnp.concatenate([mu[None], y[:-1]])

    def step(err: Array, innovation: Array) -> tuple[Array, Array]:
        err = innovation - theta * err
        return err, err

    _, err = lax.scan(step, jnp.zeros_like(mu), y - mu - phi * before)
    # An improper observation: the density of err given y has Jacobian one.
    numpyro.factor("y", dist.Normal(0.0, sigma).log_prob(err).sum())


def gaussian_process(x: Array, k: Array) -> None:
    """Counts: k ~ Poisson(exp f), f a Gaussian process of squared exponential covariance at x."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    f_tilde = numpyro.sample("f_tilde", dist.Normal(0.0, 1.0).expand([len(x)]).to_event(1))
    distance = (x[:, None] - x) / rho
    covariance = alpha**2 * jnp.exp(-0.5 * distance**2) + 1e-10 * jnp.eye(len(x))
    f = numpyro.deterministic("f", jnp.linalg.cholesky(covariance) @ f_tilde)
    numpyro.sample("k", dist.Poisson(jnp.exp(f)), obs=k)
