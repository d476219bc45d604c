"""Factor analysers, one per class: clouds whose covariance is a few directions and a diagonal.

Story
    Every class is a cloud that stretches in a few directions and is thin in all others. To make a row,
    choose a class ``y``, then draw the features ``x`` from that class's factor analyser: a mean, a few
    factors along its directions, and noise of its own in every feature. Features x factors numbers
    describe a shape for which a full covariance (``gaussian_classes``) needs features^2 / 2. The
    factors are integrated out, so that p(x | y) stands in the story in closed form, and y can be inverted
    or summed out exactly. With ``classes=1``, every y 0, it is factor analysis.

Joint
    p(weights) p(mean) p(loading) p(variance) prod_i p(y_i | weights) p(x_i | y_i, mean, loading, variance)

    - weights ~ Dirichlet(1, ..., 1)
    - mean[c, j] ~ Normal(location, reach^2)
    - loading_c: lower trapezoidal, below the diagonal ~ Normal(0, spread^2), square of its diagonal ~
      spread^2 times a chi-square with factors, factors - 1, ..., 1 degrees of freedom
    - variance[c, j] ~ InverseGamma(2, noise^2)
    - y_i ~ Categorical(weights)
    - x_i ~ Normal(mean[y_i], loading[y_i] loading[y_i]' + diag(variance[y_i]))

Shapes
    weights (classes,), mean (classes, features), square (classes, factors): the loadings' squared
    diagonals, below (classes, features * factors - factors * (factors + 1) / 2): what lies below them,
    variance (classes, features), y (n,) integers, x (n, features); ``trapezoid(square, below)`` of
    ``ppl_models.distributions.factors`` are the loadings (classes, features, factors).

Priors
    Those of loadings whose elements are independent Normal(0, spread^2), rotated to the one lower
    trapezoid with a positive diagonal, since rotated factors explain a row equally well; p(x | y) is what
    it would be without. E[variance] = noise^2 with infinite spread (shape 2).

Answers
    p(x | y): generate
    p(y | x): invert
    p(x): weigh
    p(mean, square, below, variance, weights | x, y): learn; ``mode`` finds a point estimate in seconds
    p(mean, square, below, variance, weights | x): learn with y never seen (a mixture of factor analysers);
        its classes have no names then, and a fit in which copies of a mode compete says that it is not
        trusted

Source
    Ghahramani and Hinton (1996), The EM algorithm for mixtures of factor analyzers, technical report
    CRG-TR-96-1, Toronto; Leung and Drton (2016) for the prior.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_models.distributions.factors import (
    as_trapezoid,
    below_diagonal,
    cholesky_factor,
    moments_given_row,
    squares,
    trapezoid,
)

GIVEN = ("square", "below", "variance")


def factor_analysers(
    n: int,
    classes: int = 2,
    features: int = 3,
    factors: int = 1,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
    noise: float = 1.0,
) -> Tensor:
    """Tell the story of ``n`` rows; returns the features, shape (n, features).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     factor_analysers(5, features=4, factors=2).shape
    torch.Size([5, 4])
    """
    below_size = below_diagonal(features, factors)
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(classes)))
    with pyro.plate("class", classes, dim=-1):
        mean = pyro.sample("mean", dist.Normal(location, reach).expand([features]).to_event(1))
        square = pyro.sample("square", squares(factors, spread).to_event(1))
        below = pyro.sample("below", dist.Normal(0.0, spread).expand([below_size]).to_event(1))
        variance = pyro.sample("variance", dist.InverseGamma(2.0, noise**2).expand([features]).to_event(1))
    scale_tril = cholesky_factor(trapezoid(square, below), variance)
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.MultivariateNormal(mean[y], scale_tril=scale_tril[y]))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    classes: int = 2,
    features: int = 3,
    factors: int = 1,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
    noise: float = 1.0,
    *,
    given: Mapping[str, Tensor],
) -> dict[str, Distribution]:
    """Return the posterior of weights and means given labelled rows and the classes' shapes.

    Parameters
    ----------
    data
        ``x`` (n, features) and ``y`` (n,).
    n, classes, features, factors, location, reach, spread, noise
        As the story was called.
    given
        Values of ``square``, ``below`` and ``variance``, the sites named in ``GIVEN``; without them no
        closed form is known. Others are left out of the answer: weights and means are independent.

    Returns
    -------
    dict
        ``weights`` (Dirichlet) and ``mean`` (multivariate normal, batch shape (classes,)).

    Raises
    ------
    ValueError
        If a site of ``GIVEN`` is not given.
    """
    missing = [name for name in GIVEN if name not in given]
    if missing:
        raise ValueError(f"given: expected values of {', '.join(GIVEN)}, got none of {missing[0]!r}.")
    member = torch.nn.functional.one_hot(data["y"].long(), classes).double()
    counts, total = member.sum(0), member.T @ (data["x"].double() - location)
    loading = trapezoid(given["square"], given["below"])
    sharp = torch.linalg.inv(loading @ loading.mT + torch.diag_embed(given["variance"]))
    precision = counts[:, None, None] * sharp + torch.eye(features, dtype=torch.float64) / reach**2
    shift = torch.linalg.solve(precision, (sharp @ total[..., None])).squeeze(-1)
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + counts),
        "mean": dist.MultivariateNormal(location + shift, precision_matrix=precision),
    }
    return {name: q for name, q in posterior.items() if name not in given}


def mode(
    data: Mapping[str, Tensor],
    n: int | None = None,
    classes: int = 2,
    features: int = 3,
    factors: int = 1,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
    noise: float = 1.0,
    *,
    steps: int = 1000,
) -> dict[str, Tensor]:
    """Return a mode of the posterior given labelled rows, by expectation-maximisation: a fast point estimate.

    The mode in loadings that are free to rotate (independent normal a priori), then rotated to the
    trapezoid. It starts at each class's principal axes and climbs at every step. Its values can be given to
    the unfitted story: ``inference.prior(factor_analysers, ...).probabilities("y", {**mode, "x": new})``.

    Parameters
    ----------
    data
        ``x`` (n, features) and ``y`` (n,), at least 2 rows of every class.
    n, classes, features, factors, location, reach, spread, noise
        As the story was called.
    steps
        Of expectation-maximisation at most, per class; it stops when no parameter moves by 1e-8.

    Returns
    -------
    dict
        ``weights``, ``mean``, ``square``, ``below`` and ``variance``, float64, shaped as the story's sites.

    Raises
    ------
    ValueError
        If a class has fewer than 2 rows.

    Source: Ghahramani and Hinton (1996), section 2, with the priors' terms added (Dempster, Laird and Rubin
    1977, JRSS B 39).
    """
    below_diagonal(features, factors)
    x, y = data["x"].double(), data["y"].long()
    counts = torch.bincount(y, minlength=classes)
    if int(counts.min()) < 2:
        raise ValueError(f"data['y']: expected at least 2 rows of every class, got counts {counts.tolist()}.")
    found: dict[str, list[Tensor]] = {name: [] for name in ("mean", "square", "below", "variance")}
    row, column = torch.tril_indices(features, factors, -1)
    for c in range(classes):
        mean, loading, variance = _climb(x[y == c] - location, factors, reach, spread, noise, steps)
        lower = as_trapezoid(loading)
        values = (mean + location, lower.diagonal() ** 2, lower[row, column], variance)
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    return {"weights": counts / counts.sum().double(), **{k: torch.stack(v) for k, v in found.items()}}


def _climb(
    x: Tensor, factors: int, reach: float, spread: float, noise: float, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One class: mean, loading and variance at a mode, for rows centred at the prior's location.

    Given the factors, a feature is a ridge regression on them and on a constant, which is its mean.
    """
    n, mean = len(x), x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / n)
    loading = vectors[:, -factors:] * values[-factors:].clamp(min=0).sqrt()
    variance = x.var(0, correction=0) / 2 + noise**2
    ridge = torch.diag(x.new_tensor([spread**-2] * factors + [reach**-2]))
    for _ in range(steps):
        factor, precision = moments_given_row(x, mean, loading, variance)
        z = torch.cat([factor, x.new_ones(n, 1)], -1)
        square = z.T @ z
        square[:factors, :factors] += n * torch.linalg.inv(precision)
        old, cross = torch.cat([loading, mean[:, None], variance[:, None]], -1), x.T @ z
        weights = torch.linalg.solve(square + variance[:, None, None] * ridge, cross[..., None])[..., 0]
        loading, mean = weights[:, :factors], weights[:, factors]
        error = (x**2).sum(0) - 2 * (weights * cross).sum(-1) + ((weights @ square) * weights).sum(-1)
        variance = (error / 2 + noise**2) / (n / 2 + 3)
        if (torch.cat([weights, variance[:, None]], -1) - old).abs().max() < 1e-8:
            break
    return mean, loading, variance


EXAMPLE = (
    (20, 2, 4, 2, 0.5, 4.0, 2.0, 0.7),
    {
        "x": torch.tensor(
            [
                [1.2, -8.6, -1.6, 9.6], [-2.2, -4.8, 2.4, 3.4],
                [-0.5, -8.1, -3.3, 2.5], [3.4, -9.3, -3.4, 4.2],
                [3.7, -8.7, -2.2, 5.8], [-2.6, -2.9, 2.3, 2.8],
                [-0.1, -7.6, -1.9, 4.3], [5.7, -9.7, -4.6, 6.5],
                [2.2, -9.9, -3.3, 6.4], [-1.4, -5.3, 0.8, 4.7],
                [-2.8, 2.2, 4.4, -2.6], [-5.3, 3.9, 6.8, -5.7],
                [-1.2, -2.3, 2.4, 2.7], [-3.6, 3.3, 5.8, -3.2],
                [-2.3, -0.6, 3.7, 0.4], [-6.1, 5.2, 8.4, -6.6],
                [-3.3, 0.7, 4.1, -2.9], [-0.6, -1.8, 2.9, 1.8],
                [-4.5, 2.8, 5.3, -3.7], [-2.9, 1.6, 5.5, -1.4],
            ],
            dtype=torch.float64,
        ),
        "y": torch.tensor([1] * 10 + [0] * 10),
    },
)  # fmt: skip
