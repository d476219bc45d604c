"""Hierarchical means, centred: groups whose true means come from one population, each seen with error.

Story
    The same treatment is tried in several groups (schools, hospitals, laboratories). Each group has a
    true effect ``theta`` of its own, drawn from a population with unknown mean ``mu`` and spread ``tau``,
    and reports one estimate ``y`` with a known standard error. What is learned about one group shrinks
    the others towards the common mean, the more so the smaller tau is. ``hierarchical_means`` tells the
    same story in other unknowns; this one suits precise reports, that one vague ones.

Joint
    p(mu) p(tau) prod_i p(theta_i | mu, tau) p(y_i | theta_i)

    - mu ~ Normal(location, spread^2)
    - tau ~ HalfCauchy(between)
    - theta_i ~ Normal(mu, tau^2)
    - y_i ~ Normal(theta_i, stddev_i^2)

Shapes
    stddev (n,), mu (), tau (), theta (n,), y (n,), all in units of y. A row is a group.

Priors
    All three scales are arguments, in the units of the data; ``between`` is tau's median.

Answers
    p(y | stddev): generate
    p(mu, tau, theta | y): learn
    p(y) of new groups with given standard errors: weigh
    p(theta | y) of new groups: generate
    not p(stddev): the standard errors are arguments.

Source
    Gelman et al. (2013), Bayesian Data Analysis, section 5.4; Gelman (2006), "Prior distributions for
    variance parameters in hierarchical models", Bayesian Analysis 1. The data of the example are the eight
    schools of Rubin (1981), "Estimation in parallel randomized experiments", Journal of Educational
    Statistics 6, before rounding. Of the models by that name this is posteriordb's, mu ~ Normal(0, 5^2)
    and tau ~ HalfCauchy(5) (the defaults), which Pyro's examples share; the book and Stan's first example
    have flat priors, TensorFlow Probability's has mu ~ Normal(0, 10^2), log tau ~ Normal(5, 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

GIVEN = ("tau",)


def hierarchical_means_centred(
    stddev: Tensor, location: float = 0.0, spread: float = 5.0, between: float = 5.0
) -> Tensor:
    """Tell the story of one report per entry of ``stddev``; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     hierarchical_means_centred(torch.tensor([3.0, 5.0, 2.0])).shape
        torch.Size([3])
    """
    mu = pyro.sample("mu", dist.Normal(location, spread))
    tau = pyro.sample("tau", dist.HalfCauchy(between))
    with pyro.plate("row", len(stddev), dim=-1):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
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
    """Return the posterior of the population mean and the group means given ``tau``, in closed form.

    Args:
        data: ``y`` (n,).
        stddev, location, spread, between: as the story was called.
        given: values of latent sites to condition on; ``tau`` must be among them.

    Returns:
        ``mu`` (Normal) and ``theta``, each given the sites in ``given``: independent normals given ``mu``,
        otherwise one multivariate normal. Empty without ``tau``: then there is no closed form.
    """
    given = given or {}
    if "tau" not in given:
        return {}
    y, error = data["y"].double(), stddev.double() ** 2
    tau2 = given["tau"] ** 2
    if "theta" in given:
        reports, variance = given["theta"], tau2.expand(len(y))
    else:
        reports, variance = y, tau2 + error
    precision = spread**-2 + (1 / variance).sum(-1)
    centre = (location / spread**2 + (reports / variance).sum(-1)) / precision
    posterior: dict[str, Distribution] = {"mu": dist.Normal(centre, precision**-0.5)}
    if "mu" in given:
        precision = 1 / tau2 + 1 / error
        centre = (given["mu"] / tau2 + y / error) / precision
        posterior["theta"] = dist.Normal(centre, precision**-0.5).to_event(1)
    else:
        prior = torch.eye(len(y), dtype=torch.float64) * tau2 + spread**2
        gain = torch.linalg.solve(prior + torch.diag(error), prior).mT  # prior (prior + error)^-1
        covariance = prior - gain @ prior
        mean = location + gain @ (y - location)
        posterior["theta"] = dist.MultivariateNormal(mean, (covariance + covariance.mT) / 2)
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
