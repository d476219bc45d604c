"""Two Gaussian classes at a known distance: the law on which p(y | x) is exactly logistic.

x | y ~ Normal((y - 1/2) distance e1, I), y = 0 or 1 equally often. Then log p(y=1|x) / p(y=0|x) is
distance * x1, and the best classifier errs with probability Phi(-distance / 2). Both the normal story
(x and y learned together) and logistic regression (y given x) are right here, and Efron says what
the second pays for asking less: its asymptotic relative efficiency in excess errors.

Source: Efron (1975), The efficiency of logistic regression compared to normal discriminant analysis,
Journal of the American Statistical Association 70.
"""

from __future__ import annotations

import math

import torch

from experiments.truth.mixture import GaussianMixture

# A trapezoid rule on [-12, 12]: the integrand is smooth and below 1e-31 at the ends, the error below 1e-14.
POINTS = 4_801


def law(distance: float, dimensions: int = 1) -> GaussianMixture:
    """Return the law of two classes whose centres are ``distance`` standard deviations apart.

    Raises
    ------
    ValueError
        If ``dimensions`` is below 1 or ``distance`` below 0.

    Examples
    --------
    >>> law(2.0).probabilities(torch.tensor([1.0]))[1].item()           # logistic of 2 * 1
    0.880797...
    """
    if dimensions < 1 or distance < 0:
        raise ValueError(f"distance, dimensions: expected >= 0 and >= 1, got {distance} and {dimensions}")
    means = torch.zeros(2, 1, dimensions, dtype=torch.float64)
    means[:, 0, 0] = torch.tensor([-distance / 2, distance / 2])
    return GaussianMixture(means, stddev=1.0, bounds=(-4 - distance / 2, 4 + distance / 2))


def bayes_error(distance: float) -> float:
    """Return the error of the best classifier, Phi(-distance / 2).

    Examples
    --------
    >>> round(bayes_error(2.0), 5)
    0.15866
    """
    return math.erfc(distance / math.sqrt(8)) / 2


def efficiency(distance: float) -> float:
    """Excess error of the normal story over that of logistic regression, many rows; at most 1.

    The asymptotic relative efficiency (1 + d^2/4) exp(-d^2/8) E[sech(d X / 2)], X standard normal.

    Examples
    --------
    >>> [round(efficiency(d), 3) for d in (2.0, 3.0)]
    [0.899, 0.641]
    """
    x = torch.linspace(-12, 12, POINTS, dtype=torch.float64)
    normal = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    mean_sech = torch.trapezoid(normal / torch.cosh(distance * x / 2), x).item()
    return (1 + distance**2 / 4) * math.exp(-(distance**2) / 8) * mean_sech
