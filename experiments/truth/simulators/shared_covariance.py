"""Gaussian classes of one shape: all that two of them say of y given x is a slope and an intercept.

x | y ~ Normal(mean_y, covariance). Of two classes the log odds of the second are intercept + slope . x with
slope = covariance^-1 (mean_1 - mean_0). The other way round it fails: for every covariance there are two
means with the very same slope and intercept, so that p(y | x) does not determine p(x), nor p(x | y).

Source: Bishop (2006), Pattern Recognition and Machine Learning, section 4.2.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from experiments.truth.law import Law
from experiments.truth.simulators.two_gaussians import bayes_error


class SharedCovariance(Law):
    """x | y ~ Normal(means[y], covariance).

    Parameters
    ----------
    means
        (classes, dimensions).
    covariance
        (dimensions, dimensions), positive definite.
    weights
        p(y), (classes,); equal by default.

    Examples
    --------
    >>> one = SharedCovariance(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.eye(2))
    >>> one.probabilities(torch.tensor([1.0, 7.0])).tolist()
    [0.5, 0.5]
    """

    def __init__(self, means: Tensor, covariance: Tensor, weights: Tensor | None = None) -> None:
        if means.ndim != 2 or covariance.shape != (means.shape[1],) * 2:
            raise ValueError(
                "means, covariance: expected (classes, dimensions) and (dimensions, dimensions), "
                f"got {tuple(means.shape)} and {tuple(covariance.shape)}"
            )
        if weights is None:
            weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
        self.means, self.covariance = means.double(), covariance.double()
        self.clouds = MultivariateNormal(self.means, self.covariance)
        super().__init__(weights, means.shape[1])

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | y): (..., dimensions) -> (..., classes)."""
        return self.clouds.log_prob(x[..., None, :])

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every label: (rows,) -> (rows, dimensions)."""
        noise = torch.randn(len(y), self.means.shape[1], dtype=torch.float64)
        return self.means[y] + noise @ torch.linalg.cholesky(self.covariance).mT

    def part(self, kept: list[int]) -> SharedCovariance:
        """Return the law of some of the coordinates, the others integrated out."""
        return SharedCovariance(self.means[:, kept], self.covariance[kept][:, kept], self.weights)

    @property
    def distance(self) -> float:
        """Mahalanobis distance of the first two means."""
        apart = self.means[1] - self.means[0]
        return math.sqrt(float(apart @ torch.linalg.solve(self.covariance, apart)))

    @property
    def least_error(self) -> float:
        """Error of the best classifier of two classes."""
        return bayes_error(self.distance, float(self.weights[1]))


def of_slope(slope: Tensor, covariance: Tensor) -> SharedCovariance:
    """Return two equally frequent classes around 0 with p(y=1 | x) = logistic(slope . x), whatever the shape.

    Examples
    --------
    >>> tilted = of_slope(torch.tensor([2.0, 0.0]), torch.tensor([[1.0, 0.75], [0.75, 1.0]]))
    >>> tilted.means.tolist()
    [[-1.0, -0.75], [1.0, 0.75]]
    """
    half = covariance.double() @ slope.double() / 2
    return SharedCovariance(torch.stack([-half, half]), covariance)


def equicorrelated(distance: float, features: int, correlation: float) -> SharedCovariance:
    """Return two classes that differ alike in every feature, features equally correlated given the class.

    Every feature has variance 1; ``distance`` is between the means, in Mahalanobis' sense. To a story without
    correlations the same evidence counts 1 + (features - 1) correlation times: its log odds are that many
    times the true ones, whatever x.

    Examples
    --------
    >>> equicorrelated(2.0, 6, 0.6).distance
    2.0...
    """
    copies = 1 + (features - 1) * correlation
    half = torch.full((features,), distance / 2 * math.sqrt(copies / features), dtype=torch.float64)
    covariance = torch.full((features, features), correlation, dtype=torch.float64).fill_diagonal_(1.0)
    return SharedCovariance(torch.stack([-half, half]), covariance)


def joint_kl(p: SharedCovariance, q: SharedCovariance) -> float:
    """KL(p(x, y) || q(x, y)) in nats.

    Examples
    --------
    >>> one = of_slope(torch.tensor([1.0]), torch.eye(1))
    >>> joint_kl(one, one)
    0.0
    """
    rows = (p.weights / q.weights).log() + kl_divergence(p.clouds, q.clouds)
    return float(p.weights @ rows)
