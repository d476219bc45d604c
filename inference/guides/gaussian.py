"""The Gaussian and Student t families in unconstrained space, with dense or diagonal scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian (``df=None``) or a multivariate Student t of the same location and scale.

    Attributes:
        loc: (size,).
        scale: (size, size) lower-triangular factor of the covariance, or (size,) standard deviations.
        df: degrees of freedom of the Student t.
    """

    loc: Tensor
    scale: Tensor
    df: float | None = None

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.loc.shape[0]

    @property
    def log_det(self) -> Tensor:
        """Log determinant of the scale."""
        diagonal = self.scale.diagonal() if self.scale.dim() == 2 else self.scale
        return diagonal.log().sum()

    def scaled(self, e: Tensor) -> Tensor:
        """Map standardized rows (draws, size) to unconstrained ones."""
        return self.loc + (e @ self.scale.T if self.scale.dim() == 2 else e * self.scale)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw (count, size) unconstrained vectors."""
        e = torch.randn(count, self.size, generator=generator, dtype=torch.float64)
        if self.df is not None:
            e = e * _chi_scale(self.df, count, generator)[:, None]
        return self.scaled(e)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density at unconstrained rows (draws, size) -> (draws,), in nats."""
        centred = z - self.loc
        if self.scale.dim() == 2:
            e = torch.linalg.solve_triangular(self.scale, centred.T, upper=False).T
        else:
            e = centred / self.scale
        square, d = e.square().sum(-1), self.size
        if self.df is None:
            return -0.5 * square - 0.5 * d * math.log(2 * math.pi) - self.log_det
        v = self.df
        constant = math.lgamma((v + d) / 2) - math.lgamma(v / 2) - d / 2 * math.log(v * math.pi)
        return constant - self.log_det - (v + d) / 2 * torch.log1p(square / v)

    def with_tails(self) -> Gaussian:
        """The Student t of the same location and scale: 5 degrees of freedom, 10 beyond 15 unknowns.

        A Gaussian proposal's k-hat gives false alarms where the target's tails are a little heavier;
        a Student t covers them.
        """
        return Gaussian(self.loc, self.scale, 5.0 if self.size <= 15 else 10.0)

    def entropy(self) -> float:
        """Differential entropy of the Gaussian, in nats."""
        return float(self.log_det) + 0.5 * self.size * (1 + math.log(2 * math.pi))


def _chi_scale(df: float, count: int, generator: torch.Generator) -> Tensor:
    """sqrt(df / chi2_df), from normals, since torch's gamma takes no generator."""
    normals = torch.randn(count, int(df), generator=generator, dtype=torch.float64)
    return (df / normals.square().sum(-1)).sqrt()


def standard_draws(count: int, size: int, generator: torch.Generator, *, dense: bool) -> Tensor:
    """Fixed antithetic standard normals with mean 0 and, by whitening, unit covariance.

    Args:
        count: even; at least ``2 * size`` when ``dense``.
        dense: whiten the whole covariance, else each coordinate's variance alone.
    """
    half = torch.randn(count // 2, size, generator=generator, dtype=torch.float64)
    e = torch.cat([half, -half])
    if not dense:
        return e / e.square().mean(0).sqrt()
    factor = torch.linalg.cholesky(e.T @ e / len(e))
    return torch.linalg.solve_triangular(factor, e.T, upper=False).T
