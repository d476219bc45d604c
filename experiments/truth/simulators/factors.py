"""Rows made by a few unknown factors through a known loading: x = mean + loading z + noise.

z ~ Normal(0, I) and independent noise make x exactly Gaussian, with covariance
loading loading' + diag(noise_variances), and z given x is Gaussian too. With one noise variance for
all coordinates this is probabilistic PCA, otherwise factor analysis.

Source: Tipping and Bishop (1999), Probabilistic principal component analysis; Bishop (2006), Pattern
Recognition and Machine Learning, section 12.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

# Two factors behind six coordinates; the columns are not orthogonal, so that nothing is aligned by luck.
MEAN = (0.5, -1.5, 2.0, 0.0, -0.5, 1.5)
LOADING = ((2.0, 0.3), (1.5, -0.8), (0.9, 1.2), (-0.6, 1.6), (0.4, -1.1), (-1.2, 0.5))
NOISE_VARIANCES = (0.3, 0.8, 0.5, 1.2, 0.2, 0.6)
NOISE_VARIANCE = 0.5


class FactorRows(NamedTuple):
    """Rows x, (rows, dimensions), and the factors behind them z, (rows, factors)."""

    x: Tensor
    z: Tensor


@dataclass(frozen=True)
class Factors:
    """A linear Gaussian law: mean (dimensions,), loading (dimensions, factors), noise (dimensions,).

    Examples
    --------
    >>> law = ppca().marginal()
    >>> x, z = ppca().sample(100, seed=0)
    >>> law.log_prob(x).shape, z.shape
    (torch.Size([100]), torch.Size([100, 2]))
    """

    mean: Tensor
    loading: Tensor
    noise_variances: Tensor

    def marginal(self) -> MultivariateNormal:
        """P(x), the factors integrated out."""
        covariance = self.loading @ self.loading.mT + self.noise_variances.diag()
        return MultivariateNormal(self.mean, covariance)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """P(z | x): rows (rows, dimensions) -> a Gaussian of batch (rows,) over (factors,)."""
        weighted = self.loading.mT / self.noise_variances
        precision = torch.eye(self.loading.shape[1]).to(self.loading) + weighted @ self.loading
        covariance = precision.inverse()
        mean = (x.to(self.mean) - self.mean) @ (covariance @ weighted).mT
        return MultivariateNormal(mean, (covariance + covariance.mT) / 2)

    def sample(self, rows: int, seed: int = 0) -> FactorRows:
        """Draw rows and their factors; the global random state is not touched."""
        generator = torch.Generator().manual_seed(seed)
        dimensions, factors = self.loading.shape
        z = torch.randn(rows, factors, generator=generator, dtype=self.mean.dtype)
        noise = torch.randn(rows, dimensions, generator=generator, dtype=self.mean.dtype)
        return FactorRows(self.mean + z @ self.loading.mT + self.noise_variances.sqrt() * noise, z)


def ppca() -> Factors:
    """Two factors, six coordinates, one noise variance."""
    noise = torch.full((len(MEAN),), NOISE_VARIANCE, dtype=torch.float64)
    return Factors(torch.tensor(MEAN).double(), torch.tensor(LOADING, dtype=torch.float64), noise)


def factor_analysis() -> Factors:
    """Two factors, six coordinates, a noise variance for each."""
    noise = torch.tensor(NOISE_VARIANCES, dtype=torch.float64)
    return Factors(torch.tensor(MEAN).double(), torch.tensor(LOADING, dtype=torch.float64), noise)
