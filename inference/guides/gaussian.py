"""The Gaussian family in unconstrained space, with dense or diagonal scale, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ValueAndGrad = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian, or a batch of them (leading dimensions).

    Attributes:
        loc: (..., size).
        scale: (..., size, size) lower-triangular factors of the covariances, or (..., size) standard
            deviations where ``diagonal``.
        diagonal: whether the family is diagonal.
    """

    loc: Tensor
    scale: Tensor

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.loc.shape[-1]

    @property
    def diagonal(self) -> bool:
        """Whether ``scale`` holds standard deviations instead of factors."""
        return self.scale.dim() == self.loc.dim()

    @property
    def log_det(self) -> Tensor:
        """Log determinant of the scale (...)."""
        diagonal = self.scale if self.diagonal else self.scale.diagonal(dim1=-2, dim2=-1)
        return diagonal.log().sum(-1)

    def __getitem__(self, index: object) -> Gaussian:
        """Some of a batch."""
        return Gaussian(self.loc[index], self.scale[index])  # type: ignore[index]

    @staticmethod
    def stack(parts: list[Gaussian]) -> Gaussian:
        """A batch with one more leading dimension."""
        return Gaussian(torch.stack([p.loc for p in parts]), torch.stack([p.scale for p in parts]))

    def scaled(self, e: Tensor) -> Tensor:
        """Map standardized rows (..., draws, size) to unconstrained ones."""
        moved = e * self.scale[..., None, :] if self.diagonal else e @ self.scale.mT
        return self.loc[..., None, :] + moved

    def standardized(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`scaled`."""
        centred = z - self.loc[..., None, :]
        if self.diagonal:
            return centred / self.scale[..., None, :]
        return torch.linalg.solve_triangular(self.scale, centred.mT, upper=False).mT

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density at unconstrained rows (..., draws, size) -> (..., draws), in nats."""
        square = self.standardized(z).square().sum(-1)
        return standard_log_prob(square, self.size) - self.log_det[..., None]

    def pulled_back(self, value_and_grad: ValueAndGrad) -> ValueAndGrad:
        """A target and its gradient as functions of standardized rows, up to a constant; for one Gaussian."""

        def function(e: Tensor) -> tuple[Tensor, Tensor]:
            value, grad = value_and_grad(self.scaled(e))
            return value, grad * self.scale if self.diagonal else grad @ self.scale

        return function

    def entropy(self) -> Tensor:
        """Differential entropy (...), in nats."""
        return self.log_det + 0.5 * self.size * (1 + math.log(2 * math.pi))


def standard_log_prob(square: Tensor, size: int, df: float | None = None) -> Tensor:
    """Log density of a standard Gaussian, or Student t, at points of squared length ``square``."""
    if df is None:
        return -0.5 * square - 0.5 * size * math.log(2 * math.pi)
    constant = math.lgamma((df + size) / 2) - math.lgamma(df / 2) - size / 2 * math.log(df * math.pi)
    return constant - (df + size) / 2 * torch.log1p(square / df)


def tail_df(size: int) -> float:
    """Degrees of freedom of the Student t that stands beside a Gaussian: 5, and 10 beyond 15 unknowns.

    A Gaussian proposal's k-hat gives false alarms where the target's tails are a little heavier; a
    Student t covers them.
    """
    return 5.0 if size <= 15 else 10.0


def student_factor(df: float, count: int, generator: torch.Generator) -> Tensor:
    """sqrt(df / chi2_df) (count, 1), from normals, since torch's gamma takes no generator."""
    normals = torch.randn(count, int(df), generator=generator, dtype=torch.float64)
    return (df / normals.square().sum(-1, keepdim=True)).sqrt()


def standard_draws(count: int, size: int, generators: list[torch.Generator], *, dense: bool) -> Tensor:
    """Fixed antithetic standard normals with mean 0 and, by whitening, unit covariance.

    Args:
        count: even; at least ``2 * size`` when ``dense``.
        size: of a vector.
        generators: one for each problem.
        dense: whiten the whole covariance, else each coordinate's variance alone.

    Returns:
        (problems, count, size).
    """
    half = torch.stack([torch.randn(count // 2, size, generator=g, dtype=torch.float64) for g in generators])
    e = torch.cat([half, -half], 1)
    if not dense:
        return e / e.square().mean(1, keepdim=True).sqrt()
    factor = torch.linalg.cholesky(e.mT @ e / count)
    return torch.linalg.solve_triangular(factor, e.mT, upper=False).mT
