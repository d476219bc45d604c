"""The joint distribution of rows that share an unknown precision."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from ppl_models.distributions.wishart import Wishart


class MatrixStudentT(TorchDistribution):
    """Rows m_c ~ Normal(mean_c, (strength_c P)^-1), independent given P ~ Wishart(df, rate), P averaged out.

    Each row is a multivariate Student t with df - features + 1 degrees of freedom; together they are
    dependent, since what one tells of P it tells the others.

    Parameters
    ----------
    df
        Scalar, above features - 1.
    mean
        (rows, features).
    strength
        (rows,), positive.
    rate
        (features, features), positive definite: the inverse scale of the Wishart.

    Source: Gupta and Nagar (2000), Matrix Variate Distributions, section 4.2 (whose degrees of freedom are
    df - features + 1).

    Examples
    --------
    >>> import torch
    >>> rows = MatrixStudentT(torch.tensor(5.0), torch.zeros(3, 2), torch.ones(3), torch.eye(2))
    >>> rows.event_shape, round(float(rows.log_prob(torch.zeros(3, 2))), 4)
    (torch.Size([3, 2]), -0.7261)
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(self, df: Tensor, mean: Tensor, strength: Tensor, rate: Tensor) -> None:
        self.df, self.mean_, self.strength, self.rate = df, mean, strength, rate
        super().__init__(torch.Size(), mean.shape)

    @property
    def mean(self) -> Tensor:
        """(rows, features); it exists where df is above features."""
        return self.mean_

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw (*sample_shape, rows, features): the precision first, then the rows."""
        shape = torch.Size(sample_shape)
        precision = Wishart(self.df, precision_matrix=self.rate).rsample(shape)
        noise = torch.randn(*shape, *self.mean_.shape, dtype=self.mean_.dtype, device=self.mean_.device)
        root = torch.linalg.cholesky(precision)  # P = R R', so that R'^-1 e has covariance P^-1
        rows = torch.linalg.solve_triangular(root.mT, noise.mT, upper=True).mT
        return self.mean_ + rows / self.strength[:, None].sqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (rows, features), in nats: a ratio of two Wishart constants."""
        rows, features = self.mean_.shape
        off = (value - self.mean_) * self.strength[:, None].sqrt()
        grown = self.rate + off.mT @ off
        after, before = (self.df + rows) / 2, self.df / 2
        constant = torch.mvlgamma(after, features) - torch.mvlgamma(before, features)
        constant = constant + features / 2 * (self.strength.log().sum() - rows * math.log(math.pi))
        return constant + before * torch.logdet(self.rate) - after * torch.logdet(grown)
