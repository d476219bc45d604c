"""The eight schools' posterior, exact: one quadrature over tau, everything else in closed form.

Given tau, the common mean mu is normal, and given both, so is every school's mean theta_i. What is left is
p(tau | y), on an even grid of log tau.

Source: Rubin (1981), Estimation in parallel randomized experiments, Journal of Educational Statistics 6;
Gelman et al. (2013), Bayesian Data Analysis, section 5.4. Priors: mu ~ Normal(0, 5^2), tau ~ HalfCauchy(5),
those of posteriordb's ``eight_schools_centered`` and ``eight_schools_noncentered``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import HalfCauchy, Normal

from experiments.compare.right import Moments
from experiments.truth.known_posterior import Values
from experiments.truth.quadrature import even, expected_moments, grid_moments, jittered, normal_powers

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
STDDEV = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)
SPREAD, BETWEEN = 5.0, 5.0
# The density of log tau falls like tau to the left and like tau^-9 to the right.
LOW, HIGH, POINTS = math.log(1e-11), math.log(1e3), 2_000


def mu_given(tau: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of mu given tau and the reports, each of tau's shape."""
    weight = 1 / (STDDEV**2 + tau[..., None] ** 2)
    precision = SPREAD**-2 + weight.sum(-1)
    return (weight * Y).sum(-1) / precision, 1 / precision


def theta_given(tau: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances of the schools' means given tau and mu, (*shape, 8)."""
    own, between = STDDEV**2, tau[..., None] ** 2
    return (between * Y + own * mu[..., None]) / (own + between), own * between / (own + between)


def log_joint(tau: Tensor) -> Tensor:
    """Log p(tau, y), all else integrated out, in nats."""
    mean, variance = mu_given(tau)
    alone = Normal(0.0, (STDDEV**2 + tau[..., None] ** 2).sqrt()).log_prob(Y).sum(-1)
    log_prior = HalfCauchy(BETWEEN).log_prob(tau)
    return log_prior + alone + 0.5 * (variance / SPREAD**2).log() + 0.5 * mean**2 / variance


def weights(points: int = POINTS) -> tuple[Tensor, Tensor, float]:
    """Grid of log tau, the probability of each point, and log p(y), in nats."""
    grid = even(LOW, HIGH, points)
    log_density = log_joint(grid.exp()) + grid
    log_evidence = float(log_density.logsumexp(0)) + math.log(float(grid[1] - grid[0]))
    return grid, log_density.softmax(0), log_evidence


def moments(points: int = POINTS) -> tuple[dict[str, Moments], float]:
    """Moments of mu, tau, log tau, theta and eta = (theta - mu) / tau, and the log evidence."""
    grid, chance, log_evidence = weights(points)
    tau = grid.exp()
    mean, variance = mu_given(tau)
    own, between = STDDEV**2, tau[:, None] ** 2
    slope = own / (own + between)  # theta's mean moves by it with mu
    theta_mean, theta_variance = theta_given(tau, mean)
    theta_variance = theta_variance + slope**2 * variance[:, None]
    # eta given mu and tau is normal with precision 1 + tau^2 / own; its mean moves with mu.
    eta_slope = tau[:, None] / (own + between)
    eta_variance = slope + eta_slope**2 * variance[:, None]
    found = {
        "mu": expected_moments(chance, normal_powers(mean, variance)),
        "tau": grid_moments(chance, tau),
        "log tau": grid_moments(chance, grid),
        "theta": expected_moments(chance, normal_powers(theta_mean, theta_variance)),
        "eta": expected_moments(chance, normal_powers(eta_slope * (Y - mean[:, None]), eta_variance)),
    }
    return found, log_evidence


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draws of mu, tau, theta and eta."""
    generator = torch.Generator().manual_seed(seed)
    grid, chance, _ = weights()
    tau = jittered(chance, grid, num_samples, generator).exp()
    noise = torch.randn(num_samples, 1 + len(Y), generator=generator, dtype=torch.float64)
    mean, variance = mu_given(tau)
    mu = mean + variance.sqrt() * noise[:, 0]
    theta_mean, theta_variance = theta_given(tau, mu)
    theta = theta_mean + theta_variance.sqrt() * noise[:, 1:]
    return {"mu": mu, "tau": tau, "theta": theta, "eta": (theta - mu[:, None]) / tau[:, None]}


def log_prob(values: Values) -> Tensor:
    """Density of mu, tau and theta, in nats."""
    mu, tau, theta = values["mu"], values["tau"], values["theta"]
    mean, variance = mu_given(tau)
    theta_mean, theta_variance = theta_given(tau, mu)
    log_theta = Normal(theta_mean, theta_variance.sqrt()).log_prob(theta).sum(-1)
    return log_joint(tau) - weights()[2] + Normal(mean, variance.sqrt()).log_prob(mu) + log_theta
