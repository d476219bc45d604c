"""The best Gaussian for a law in one dimension, by quadrature: what ``which_loss`` lays its fits beside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from experiments.compare.kinds import js, kl, reverse_kl
from experiments.truth.quadrature import even

GRID = even(-16.0, 16.0, 6_401)
SPACING = float(GRID[1] - GRID[0])
Loss = Callable[[Distribution, Distribution], float]


class Best(NamedTuple):
    """A Gaussian, and its loss: nats; in the unit of x for ``wasserstein``."""

    mean: float
    stddev: float
    loss: float


def divergence(kind: Any) -> Loss:
    """Turn a kind of ``experiments.compare.kinds`` into an integral over the grid."""

    def loss(p: Distribution, q: Distribution) -> float:
        log_p, log_q = p.log_prob(GRID), q.log_prob(GRID)
        ratio, total = log_p - log_q, 0.0
        for name, log_density in (("from_p", log_p), ("from_q", log_q)):
            if hasattr(kind, name):
                total += float((log_density.exp() * getattr(kind, name)(ratio)).sum()) * SPACING
        return total

    return loss


def wasserstein(p: Distribution, q: Distribution) -> float:
    """The area between the distribution functions: |x - x'| under the best pairing.

    Where they cross within a cell, the two triangles of a straight line are added: without that the optimum
    would move by a thousandth from grid to grid.
    """
    apart = p.cdf(GRID) - q.cdf(GRID)
    a, b = apart[:-1], apart[1:]
    size = a.abs() + b.abs()
    cells = torch.where(a * b < 0, (a**2 + b**2) / size.clamp_min(1e-300), size)
    return float(cells.sum()) * SPACING / 2


LOSSES: dict[str, Loss] = {
    "forward KL": divergence(kl),
    "reverse KL": divergence(reverse_kl),
    "Jensen-Shannon": divergence(js),
    "Wasserstein-1": wasserstein,
}


def best(p: Distribution, loss: Loss, start: tuple[float, float]) -> Best:
    """Minimise a loss over Gaussians, by simplices from a mean and a standard deviation."""
    return minimum(lambda mean, stddev: loss(p, gaussian(mean, stddev)), start)


def minimum(loss: Callable[[float, float], float], start: tuple[float, float]) -> Best:
    """Minimise a function of mean and standard deviation."""
    from scipy.optimize import minimize

    found = minimize(
        lambda at: loss(float(at[0]), math.exp(at[1])), (start[0], math.log(start[1])), method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-12},
    )  # fmt: skip
    return Best(float(found.x[0]), math.exp(found.x[1]), float(found.fun))


def gaussian(mean: float, stddev: float) -> Normal:
    """Return a normal law in float64."""
    return Normal(torch.tensor(mean).double(), torch.tensor(stddev).double())


def to_sample(x: Tensor) -> Callable[[float, float], float]:
    """Wasserstein-1 between rows (n,) and Normal(mean, stddev): sorted rows beside its quantiles."""
    rows = x.sort().values
    at = (torch.arange(len(x), dtype=torch.float64) + 0.5) / len(x)
    quantiles = Normal(0.0, 1.0).icdf(at)
    return lambda mean, stddev: float((rows - mean - stddev * quantiles).abs().mean())


class Smoothed(Distribution):
    """Rows (n,), each spread by Normal(0, width^2): a kernel estimate of their density, kept on the grid."""

    def __init__(self, x: Tensor, width: float) -> None:
        super().__init__(validate_args=False)
        # Rows are counted in cells first: a cell is a thirtieth of the width, or narrower.
        cells = ((x - GRID[0]) / SPACING).round().long().clamp(0, len(GRID) - 1)
        counts = torch.bincount(cells, minlength=len(GRID)).double()
        kernel = gaussian(0.0, width).log_prob(GRID - GRID[len(GRID) // 2]).exp()
        padded = torch.fft.irfft(
            torch.fft.rfft(counts, 2 * len(GRID)) * torch.fft.rfft(kernel, 2 * len(GRID))
        )
        middle = len(GRID) // 2
        self.on_grid = (padded[middle : middle + len(GRID)] / len(x)).clamp_min(1e-300).log()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density on the grid, the only place where it is known."""
        if value is not GRID:
            raise ValueError("value: expected the grid itself, where the estimate was made")
        return self.on_grid
