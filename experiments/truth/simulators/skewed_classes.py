"""Classes with a long tail on one side: x > 0, and p(y | x) exactly logistic in x all the same.

x | y ~ Gamma(shape, rate_y) with one shape and two rates, so that the log odds of class 1 are
shape log(rate_1 / rate_0) + (rate_0 - rate_1) x. A regression on x is right; a story of normal classes is
not, and the normals nearest to the truth (in Kullback and Leibler's sense: those with its means and
variances) have quadratic log odds.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Gamma, Normal

from experiments.truth.law import Law

SHAPE, RATES = 2.0, (2.0, 1.0)


class SkewedClasses(Law):
    """Two equally frequent classes of one positive number x.

    Examples
    --------
    >>> round(SkewedClasses().probabilities(torch.tensor([0.0001]))[1].item(), 4)     # (1 / 2)^2 : 1
    0.2
    """

    def __init__(self, shape: float = SHAPE, rates: tuple[float, float] = RATES) -> None:
        super().__init__(torch.tensor([0.5, 0.5]), 1, bounds=(0.0, 12.0))
        self.clouds = Gamma(torch.full((2,), shape).double(), torch.tensor(rates).double())

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | y): (..., 1) -> (..., 2); -inf where x is not above 0."""
        log_prob = Gamma(self.clouds.concentration, self.clouds.rate, validate_args=False).log_prob(
            x.clamp_min(1e-300)
        )
        return log_prob.where(x > 0, -torch.inf)

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every label: (rows,) -> (rows, 1)."""
        return Gamma(self.clouds.concentration[y], self.clouds.rate[y]).sample()[:, None]

    def log_odds(self, x: Tensor) -> Tensor:
        """Log p(y=1|x) / p(y=0|x) of (...) numbers above 0."""
        shape, (one, two) = self.clouds.concentration[0], self.clouds.rate
        return shape * (two / one).log() + (one - two) * x

    def nearest_normals(self) -> Normal:
        """Return the normals (2,) that lose least: those with the means and variances of the classes."""
        return Normal(self.clouds.mean, self.clouds.stddev)
