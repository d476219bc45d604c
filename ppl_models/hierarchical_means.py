"""Hierarchical means, non-centred: groups that differ from a common mean by standardized effects.

Story
    The same treatment is tried in several groups (schools, hospitals, laboratories). Each group deviates
    from a common mean ``mu`` by a standardized effect ``eta`` times the population's spread ``tau``, and
    reports one estimate ``y`` with a known standard error. It is the story of
    ``hierarchical_means_centred``, told in ``eta`` in place of the group's mean ``theta``: a priori eta
    does not depend on tau, so vague reports leave no funnel between the two.

Joint
    p(mu) p(tau) prod_i p(eta_i) p(y_i | mu, tau, eta_i)

    - mu ~ Normal(location, spread^2)
    - tau ~ HalfCauchy(between)
    - eta_i ~ Normal(0, 1), theta_i = mu + tau eta_i
    - y_i ~ Normal(theta_i, stddev_i^2)

Shapes
    stddev (n,), mu (), tau (), eta (n,), theta (n,), deterministic, y (n,), all but eta in units of y. A
    row is a group.

Priors
    All three scales are arguments, in the units of the data; ``between`` is tau's median.

Answers
    p(y | stddev): generate
    p(mu, tau, eta, theta | y): learn
    p(y) of new groups with given standard errors: weigh
    p(theta | y) of new groups: generate
    not p(stddev): the standard errors are arguments.

Source
    Gelman et al. (2013), Bayesian Data Analysis, section 5.4; the parametrization: Papaspiliopoulos,
    Roberts and Skold (2007), "A general framework for the parametrization of hierarchical models",
    Statistical Science 22. The data of the example are the eight schools of Rubin (1981), "Estimation in
    parallel randomized experiments", Journal of Educational Statistics 6, before rounding. Of the models
    by that name this is posteriordb's ``eight_schools_noncentered``, mu ~ Normal(0, 5^2) and tau ~
    HalfCauchy(5) (the defaults); the book and Stan's first example have flat priors, TensorFlow
    Probability's has mu ~ Normal(0, 10^2), log tau ~ Normal(5, 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

GIVEN = ("tau",)


def hierarchical_means(
    stddev: Tensor, location: float = 0.0, spread: float = 5.0, between: float = 5.0
) -> Tensor:
    """Tell the story of one report per entry of ``stddev``; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     hierarchical_means(torch.tensor([3.0, 5.0, 2.0])).shape
        torch.Size([3])
    """
    mu = pyro.sample("mu", dist.Normal(location, spread))
    tau = pyro.sample("tau", dist.HalfCauchy(between))
    with pyro.plate("row", len(stddev), dim=-1):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        return pyro.sample("y", dist.Normal(theta, stddev))


def exact(
    data: Mapping[str, Tensor],
    stddev: Tensor,
    location: float = 0.0,
    spread: float = 5.0,
    between: float = 5.0,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the common mean and the standardized effects given ``tau``.

    Args:
        data: ``y`` (n,).
        stddev, location, spread, between: as the story was called.
        given: values of latent sites to condition on; ``tau`` must be among them.

    Returns:
        ``mu`` (Normal) and ``eta``, each given the sites in ``given``: independent normals given ``mu``,
        otherwise one multivariate normal. Empty without ``tau``: then there is no closed form.
    """
    given = given or {}
    if "tau" not in given:
        return {}
    y, error, tau = data["y"].double(), stddev.double() ** 2, given["tau"]
    reports, variance = (y - tau * given["eta"], error) if "eta" in given else (y, tau**2 + error)
    precision = spread**-2 + (1 / variance).sum(-1)
    centre = (location / spread**2 + (reports / variance).sum(-1)) / precision
    posterior: dict[str, Distribution] = {"mu": dist.Normal(centre, precision**-0.5)}
    if "mu" in given:
        precision = 1 + tau**2 / error
        shift = tau * (y - given["mu"]) / error
        posterior["eta"] = dist.Normal(shift / precision, precision**-0.5).to_event(1)
    else:
        inverse = torch.linalg.inv(torch.diag(error) + spread**2)  # of y's covariance given eta and tau
        precision = torch.eye(len(y), dtype=torch.float64) + tau**2 * inverse
        mean = torch.linalg.solve(precision, tau * inverse @ (y - location))
        posterior["eta"] = dist.MultivariateNormal(mean, precision_matrix=precision)
    return {name: q for name, q in posterior.items() if name not in given}


EXAMPLE = (
    (
        torch.tensor([14.9, 10.2, 16.3, 11.0, 9.4, 11.4, 10.4, 17.6], dtype=torch.float64),
        2.0,
        6.0,
        5.0,
    ),
    {"y": torch.tensor([28.39, 7.94, -2.75, 6.82, -0.64, 0.63, 18.01, 12.16], dtype=torch.float64)},
)
