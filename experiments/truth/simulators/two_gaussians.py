"""Two Gaussian classes at a known distance: the law on which p(y | x) is exactly logistic.

x | y ~ Normal((y - 1/2) distance e1, I), y = 0 or 1, equally often unless ``share`` = p(y=1) says otherwise.
Then log p(y=1|x) / p(y=0|x) is distance * x1 plus the log odds of ``share``, and with equal shares the best
classifier errs with probability Phi(-distance / 2). Both the normal story (x and y learned together) and
logistic regression (y given x) are right here, and Efron says what the second pays for asking less: its
asymptotic relative efficiency in excess errors.

Source: Efron (1975), The efficiency of logistic regression compared to normal discriminant analysis,
Journal of the American Statistical Association 70.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import ndtr

from experiments.truth.mixture import GaussianMixture

# A trapezoid rule on [-12, 12]: the integrand is smooth and below 1e-31 at the ends, the error below 1e-14.
POINTS = 4_801


def law(distance: float, dimensions: int = 1, share: float = 0.5) -> GaussianMixture:
    """Return the law of two classes whose centres are ``distance`` standard deviations apart.

    Raises
    ------
    ValueError
        If ``dimensions`` is below 1, ``distance`` below 0, or ``share`` not between 0 and 1.

    Examples
    --------
    >>> law(2.0).probabilities(torch.tensor([1.0]))[1].item()           # logistic of 2 * 1
    0.880797...
    """
    if dimensions < 1 or distance < 0:
        raise ValueError(f"distance, dimensions: expected >= 0 and >= 1, got {distance} and {dimensions}")
    if not 0 < share < 1:
        raise ValueError(f"share: expected p(y=1) above 0 and below 1, got {share}")
    means = torch.zeros(2, 1, dimensions, dtype=torch.float64)
    means[:, 0, 0] = torch.tensor([-distance / 2, distance / 2])
    weights = torch.tensor([1 - share, share], dtype=torch.float64)
    return GaussianMixture(means, 1.0, weights, bounds=(-4 - distance / 2, 4 + distance / 2))


def bayes_error(distance: float, share: float = 0.5) -> float:
    """Return the error of the best classifier; Phi(-distance / 2) for equal shares.

    Examples
    --------
    >>> round(bayes_error(2.0), 5), round(bayes_error(2.0, share=0.9), 5)
    (0.15866, 0.07006)
    """
    if distance == 0:
        return min(share, 1 - share)
    log_odds = torch.tensor(math.log(share / (1 - share)), dtype=torch.float64)
    slope = torch.tensor([distance], dtype=torch.float64)
    return float(rule_error(log_odds, slope, distance, share))


def rule_error(intercept: Tensor, slope: Tensor, distance: float, share: float = 0.5) -> Tensor:
    """Return how often the rule "class 1 where intercept + slope . x > 0" errs, in closed form.

    Parameters
    ----------
    intercept, slope
        (...) and (..., dimensions), of any number of rules.
    distance, share
        Of the law; ``share`` is p(y=1).

    Returns
    -------
    Tensor
        (...) error rates: a projection of a Gaussian is a Gaussian, so that no row need be drawn.

    Examples
    --------
    >>> rule_error(torch.tensor(0.0), torch.tensor([3.0, 0.0]), 2.0).item()      # the best rule
    0.158655...
    """
    length = slope.norm(dim=-1)
    along = distance / 2 * slope[..., 0]
    missed, false = ndtr(-(intercept + along) / length), ndtr((intercept - along) / length)
    return share * missed + (1 - share) * false


def share_stddev(distance: float, share: float, rows: int) -> float:
    """Return the least standard error of p(y=1) estimated from so many rows whose y is unknown.

    One over the root of rows times the Fisher information, the integral of (p(x|1) - p(x|0))^2 / p(x) over
    x1, where p(x | y) is known. Classes far apart give the binomial sqrt(share (1 - share) / rows).

    Examples
    --------
    >>> round(share_stddev(2.0, 0.5, 1_000), 4), round(share_stddev(20.0, 0.5, 1_000), 4)
    (0.0213, 0.0158)
    """
    x = torch.linspace(-12 - distance / 2, 12 + distance / 2, POINTS, dtype=torch.float64)
    joint = law(distance, share=share)
    each = joint.log_prob_by_class(x[:, None]).exp()
    # Where both densities have underflowed to 0 the integrand has, too.
    integrand = (each[:, 1] - each[:, 0]) ** 2 / (each @ joint.weights).clamp_min(1e-300)
    return 1 / math.sqrt(rows * torch.trapezoid(integrand, x).item())


def expected_log_loss(distance: float, copies: float = 1.0) -> float:
    """Return E[-log p(y | x)] in nats where every piece of evidence is counted ``copies`` times.

    The true log odds of the true class are Normal(distance^2 / 2, distance^2); with 1 copy this is the
    conditional entropy of y given x, the least there is.

    Examples
    --------
    >>> round(expected_log_loss(2.0), 4), round(expected_log_loss(2.0, copies=4.0), 4)
    (0.3563, 0.7163)
    """
    z = torch.linspace(-12, 12, POINTS, dtype=torch.float64)
    normal = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    odds = distance**2 / 2 + distance * z
    return torch.trapezoid(normal * torch.nn.functional.softplus(-copies * odds), z).item()


def story_excess(distance: float, dimensions: int) -> float:
    """Limit of rows * (error of the normal story - least error), equal shares, many rows.

    An error u of the boundary's offset and t of its angle cost phi(d/2) d/4 (u^2 + t^2); the variances of u
    and of each of the ``dimensions`` - 1 angles are (4 + d^2) / (d^2 rows). Logistic regression has this
    over :func:`efficiency`. Efron (1975), section 3.

    Examples
    --------
    >>> round(story_excess(2.0, 3), 4)
    0.7259
    """
    density = math.exp(-(distance**2) / 8) / math.sqrt(2 * math.pi)
    return density * dimensions * (4 + distance**2) / (4 * distance)


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
