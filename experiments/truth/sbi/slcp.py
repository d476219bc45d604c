"""SLCP, simple likelihood and complex posterior: a Gaussian in the plane whose parameters enter squared.

Story
    Four points are drawn from a normal law in the plane. Its mean is two of the parameters; its standard
    deviations are squares of two others, whose signs therefore nobody can tell: four modes.

Joint
    prod_j p(theta_j) prod_i p(x_i | theta), with

    - theta_j ~ Uniform(-3, 3)
    - x_i ~ Normal((theta_1, theta_2), S), with standard deviations theta_3^2 and theta_4^2 and correlation
      tanh(theta_5), and 1e-6 on the diagonal

Shapes
    theta (5,), x (4, 2).

Priors
    As in the benchmark.

Answers
    p(theta | x): learn

Source
    Lueckmann et al. (2021), T.3, after Papamakarios, Sterratt and Murray (2019), and sbibm's ``slcp``.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.benchmark_task import BenchmarkTask, accepted

BOUND, ROWS, JITTER = 3.0, 4, 1e-6
CELLS = 120  # along each of the three parameters of S
TRIES = 8  # candidates that one draw within the cells is chosen from


def covariance(spread: Tensor, slant: Tensor) -> Tensor:
    """S (..., 2, 2) from theta_3, theta_4 (..., 2), of any sign, and theta_5 (...)."""
    first, second = spread.square().unbind(-1)
    both = slant.tanh() * first * second
    rows = [
        torch.stack([first.square() + JITTER, both], -1),
        torch.stack([both, second.square() + JITTER], -1),
    ]
    return torch.stack(rows, -2)


def story() -> Tensor:
    """Tell the story; returns x."""
    theta = pyro.sample("theta", dist.Uniform(-BOUND, BOUND).expand([5]).to_event(1))
    law = dist.MultivariateNormal(theta[..., :2], covariance(theta[..., 2:4], theta[..., 4]))
    with pyro.plate("row", ROWS, dim=-1):
        return pyro.sample("x", law)


def observation(seed: int) -> Tensor:
    """Draw theta from the prior and x (4, 2) from the simulator."""
    generator = torch.Generator().manual_seed(seed)
    theta = BOUND * (2 * torch.rand(5, generator=generator, dtype=torch.float64) - 1)
    noise = torch.randn(ROWS, 2, generator=generator, dtype=torch.float64)
    return theta[:2] + noise @ torch.linalg.cholesky(covariance(theta[2:4], theta[4])).T


def log_marginal(shape: Tensor, x: Tensor) -> Tensor:
    """Of theta_3, theta_4, theta_5 (..., 3), the mean integrated out over the whole plane; no constants."""
    s = covariance(shape[..., :2], shape[..., 2])
    scatter = (x - x.mean(0)).T @ (x - x.mean(0))
    determinant = s[..., 0, 0] * s[..., 1, 1] - s[..., 0, 1].square()
    traced = s[..., 1, 1] * scatter[0, 0] + s[..., 0, 0] * scatter[1, 1] - 2 * s[..., 0, 1] * scatter[0, 1]
    return -0.5 * ((ROWS - 1) * determinant.log() + traced / determinant)


def shapes(x: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw |theta_3|, |theta_4|, theta_5 (number, 3): cells by their middles, then points in them."""
    middles = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
    low = torch.tensor([0.0, 0.0, -BOUND], dtype=torch.float64)
    width = torch.tensor([BOUND, BOUND, 2 * BOUND], dtype=torch.float64)
    cells = low + width * torch.cartesian_prod(middles, middles, middles)
    log_cell = log_marginal(cells, x)
    share = (log_cell - log_cell.logsumexp(0)).exp().cumsum(0)
    place = torch.searchsorted(share, torch.rand(TRIES * number, generator=generator, dtype=torch.float64))
    place = place.clamp_max(len(share) - 1)
    move = torch.rand(len(place), 3, generator=generator, dtype=torch.float64) - 0.5
    points = cells[place] + move * width / CELLS
    weight = (log_marginal(points, x) - log_cell[place]).exp()
    return points[weight.multinomial(number, replacement=False, generator=generator)]


def reference(x: Tensor, number: int, seed: int) -> Tensor:
    """Draw theta (number, 5): S on a grid, its mean given S, cut at the bounds; signs even."""
    generator = torch.Generator().manual_seed(seed)

    def propose(rows: int) -> tuple[Tensor, Tensor]:
        shape = shapes(x, 2 * rows, generator)
        factor = torch.linalg.cholesky(covariance(shape[:, :2], shape[:, 2]) / ROWS)
        noise = torch.randn(len(shape), 2, 1, generator=generator, dtype=torch.float64)
        mean = x.mean(0) + (factor @ noise)[..., 0]
        signs = 2.0 * torch.randint(2, (len(shape), 2), generator=generator) - 1
        theta = torch.cat([mean, signs * shape[:, :2], shape[:, 2:]], -1)
        return theta, (mean.abs() < BOUND).all(-1)

    return accepted(propose, number)


def task(seed: int) -> BenchmarkTask:
    """Pose the observation of a seed."""
    x = observation(seed)
    return BenchmarkTask(
        story, (), {"x": x}, lambda number, seed: reference(x, number, seed),
        f"grid of {CELLS}^3 for S, closed form for the mean", {"SNPE": 0.578, "NPE": 0.831},
    )  # fmt: skip
