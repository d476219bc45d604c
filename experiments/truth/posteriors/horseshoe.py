"""A horseshoe regression: most weights are shrunk to nothing, a few are left alone, and which is unsure.

The story is ``ppl_models.horseshoe_regression``. Its columns are orthogonal and equally long, so that given
the noise sigma and the common scale tau the weights separate: each is a quadrature over its own scale lam,
and p(sigma, tau | y) is a second one in the plane. Judged are all sites; those with tails like Cauchy's by
their logarithms.

Source: Carvalho, Polson and Scott (2010), The horseshoe estimator for sparse signals, Biometrika 97; numbers
of our own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import HalfCauchy, HalfNormal, Normal

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior, Values
from experiments.truth.quadrature import even, expected_moments, grid_moments, normal_powers
from ppl_models.horseshoe_regression import horseshoe_regression

ROWS, NOISE, SPARSITY, SEED = 24, 1.0, 0.2, 20_240_503
WEIGHTS = torch.tensor([2.0, -1.0, 0.5, 0.2, 0.0, 0.0], dtype=torch.float64)
FEATURES = len(WEIGHTS)
# Reach of the grids of log sigma, log tau and log lam, and their points.
SIGMA, TAU, LAM = (math.log(0.3), math.log(4.0)), (math.log(1e-7), math.log(1e3)), (-18.0, 24.0)
POINTS = (40, 110, 160)


def design() -> tuple[Tensor, Tensor]:
    """Covariates (24, 6), X'X = 24 I, and responses (24,)."""
    generator = torch.Generator().manual_seed(SEED)
    columns = torch.linalg.qr(torch.randn(ROWS, FEATURES, generator=generator, dtype=torch.float64))[0]
    x = columns * math.sqrt(ROWS)
    return x, x @ WEIGHTS + torch.randn(ROWS, generator=generator, dtype=torch.float64)


X, Y = design()
LEAST = X.T @ Y / ROWS  # least squares, (6,)
RESIDUAL = float((Y - X @ LEAST).square().sum())


def log_scale_joint(sigma: Tensor, tau: Tensor, lam: Tensor) -> Tensor:
    """Log p(lam_j) N(least_j; 0, sigma^2 (tau^2 lam_j^2 + 1 / n)): tensors that broadcast over (..., 6)."""
    variance = sigma**2 * ((tau * lam) ** 2 + 1 / ROWS)
    return HalfCauchy(1.0).log_prob(lam) + Normal(0.0, variance.sqrt()).log_prob(LEAST)


def log_rest(sigma: Tensor, tau: Tensor) -> Tensor:
    """Log p(sigma) p(tau) p(y | least), up to what the scales of the weights say."""
    log_y = -RESIDUAL / (2 * sigma**2) - (ROWS - FEATURES) * sigma.log()
    # p(y | w) = p(y | least) N(least; w, sigma^2 / n): the constants of both.
    constant = -0.5 * (ROWS - FEATURES) * math.log(2 * math.pi) - 0.5 * FEATURES * math.log(ROWS)
    return HalfNormal(NOISE).log_prob(sigma) + HalfCauchy(SPARSITY).log_prob(tau) + log_y + constant


class Grid(NamedTuple):
    """Grids of log sigma, log tau and log lam, and the log density of the first two with y."""

    sigma: Tensor
    tau: Tensor
    lam: Tensor
    log_plane: Tensor
    log_lams: Tensor  # (sigma, tau, 6), integrated over lam

    @property
    def log_evidence(self) -> float:
        """Log p(y), in nats."""
        cell = float((self.sigma[1] - self.sigma[0]) * (self.tau[1] - self.tau[0]))
        return float(self.log_plane.logsumexp((0, 1))) + math.log(cell)

    def scales(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sigma, tau and lam, shaped to broadcast over (sigma, tau, lam)."""
        return self.sigma.exp()[:, None, None], self.tau.exp()[None, :, None], self.lam.exp()


def log_lams(sigma: Tensor, tau: Tensor, grid: Tensor) -> Tensor:
    """Log of the integral over lam_j, (*shape of sigma and tau, 6)."""
    joint = log_scale_joint(sigma[..., None, None], tau[..., None, None], grid.exp()[:, None])
    return (joint + grid[:, None]).logsumexp(-2) + (grid[1] - grid[0]).log()


def plane(points: tuple[int, int, int] = POINTS) -> Grid:
    """Lay the grids."""
    sigma, tau, lam = (even(*reach, n) for reach, n in zip((SIGMA, TAU, LAM), points, strict=True))
    s, t = torch.meshgrid(sigma.exp(), tau.exp(), indexing="ij")
    each = torch.stack([log_lams(row_s, row_t, lam) for row_s, row_t in zip(s, t, strict=True)])
    return Grid(sigma, tau, lam, log_rest(s, t) + each.sum(-1) + s.log() + t.log(), each)


def moments(points: tuple[int, int, int] = POINTS) -> tuple[dict[str, Moments], float]:
    """Moments of all sites, and the log evidence."""
    grid = plane(points)
    chance = grid.log_plane.flatten().softmax(0).reshape(grid.log_plane.shape)
    each = [_feature(grid, chance, j) for j in range(FEATURES)]
    found = {n: Moments(*(torch.stack(p) for p in zip(*(e[n] for e in each), strict=True))) for n in each[0]}
    found["log sigma"] = grid_moments(chance.sum(1), grid.sigma)
    found["log tau"] = grid_moments(chance.sum(0), grid.tau)
    return found, grid.log_evidence


def _feature(grid: Grid, chance: Tensor, j: int) -> dict[str, Moments]:
    """Moments of one weight, its standardized effect and its log scale."""
    sigma, tau, lam = grid.scales()
    variance = sigma**2 * ((tau * lam) ** 2 + 1 / ROWS)
    log_joint = HalfCauchy(1.0).log_prob(lam) + Normal(0.0, variance.sqrt()).log_prob(LEAST[j]) + grid.lam
    weight = log_joint.softmax(-1) * chance[..., None]
    flat = weight.flatten()
    mean, spread, size, _ = torch.broadcast_tensors(
        *weight_given(sigma, tau, lam, LEAST[j]), sigma * tau * lam, weight
    )
    mean, spread, size = mean.flatten(), spread.flatten(), size.flatten()
    return {
        "weights": expected_moments(flat, normal_powers(mean, spread**2)),
        "eta": expected_moments(flat, normal_powers(mean / size, (spread / size) ** 2)),
        "log lam": grid_moments(weight.sum((0, 1)), grid.lam),
    }


def weight_given(sigma: Tensor, tau: Tensor, lam: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a weight, given the scales."""
    prior = (tau * lam) ** 2
    keep = prior / (prior + 1 / ROWS)
    return keep * least, sigma * (keep / ROWS).sqrt()


def posterior() -> KnownPosterior:
    """Return the regression."""
    found, log_evidence = moments()
    return KnownPosterior(
        horseshoe_regression,
        (X, NOISE, SPARSITY),
        {"y": Y},
        moments=found,
        sample=sample,
        log_prob=lambda values: log_prob(values, log_evidence),
        log_evidence=log_evidence,
        quantities=lambda draws: {
            "weights": draws["weights"],
            "eta": draws["eta"],
            **{f"log {name}": draws[name].log() for name in ("lam", "sigma", "tau")},
        },
        deterministic=with_weights,
    )


def with_weights(draws: Values) -> Values:
    """Add the weights."""
    common = (draws["sigma"] * draws["tau"])[..., None]
    return {**draws, "weights": common * draws["lam"] * draws["eta"]}


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly but for a cell of the grids, in which draws are spread evenly."""
    generator = torch.Generator().manual_seed(seed)
    grid = plane()
    index = grid.log_plane.flatten().softmax(0).multinomial(num_samples, True, generator=generator)
    cells = (index // len(grid.tau), index % len(grid.tau))
    moved = []
    for axis, cell in zip((grid.sigma, grid.tau), cells, strict=True):
        move = torch.rand(num_samples, generator=generator, dtype=torch.float64) - 0.5
        moved.append((axis[cell] + move * (axis[1] - axis[0])).exp())
    sigma, tau = moved
    lam = _lam(sigma, tau, grid.lam, generator)
    mean, spread = weight_given(sigma[:, None], tau[:, None], lam, LEAST)
    noise = torch.randn(num_samples, FEATURES, generator=generator, dtype=torch.float64)
    eta = (mean + spread * noise) / (sigma * tau)[:, None] / lam
    return {"sigma": sigma, "tau": tau, "lam": lam, "eta": eta}


def _lam(sigma: Tensor, tau: Tensor, grid: Tensor, generator: torch.Generator) -> Tensor:
    """Scales of the weights given sigma and tau, both (draws,): (draws, 6)."""
    joint = log_scale_joint(sigma[:, None, None], tau[:, None, None], grid.exp()[:, None]) + grid[:, None]
    chance = joint.softmax(1).transpose(1, 2).flatten(0, 1)
    index = chance.multinomial(1, generator=generator)[:, 0]
    move = torch.rand(len(index), generator=generator, dtype=torch.float64) - 0.5
    return (grid[index] + move * (grid[1] - grid[0])).exp().reshape(-1, FEATURES)


def log_prob(values: Values, log_evidence: float) -> Tensor:
    """Density of sigma, tau, lam and eta, in nats."""
    sigma, tau, lam, eta = (values[name] for name in ("sigma", "tau", "lam", "eta"))
    s, t = sigma[:, None], tau[:, None]
    mean, spread = weight_given(s, t, lam, LEAST)
    size = s * t * lam
    log_eta = Normal(mean / size, spread / size).log_prob(eta)
    log_plane_and_lam = log_rest(sigma, tau) + log_scale_joint(s, t, lam).sum(-1)
    return log_plane_and_lam - log_evidence + log_eta.sum(-1)
