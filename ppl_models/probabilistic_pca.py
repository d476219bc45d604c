"""Probabilistic principal component analysis: a few factors, and noise alike in every direction.

Story
    A row is a centre, plus a few factors ``z`` each along a direction of its own, plus noise of one variance
    in every feature. The factors are normal and everything is linear, so they can be integrated out:
    x is Gaussian with covariance loading loading' + variance I. The story is told in this order, x first
    and then z given x, which is the same joint as z first and then x given z (``factor_analysis`` tells it
    so). The reason: p(x) stands in the story in closed form, the unknowns number features x factors and not
    rows x factors, and a question about z has its exact answer written down.

Joint
    p(mean, loading, variance) prod_i p(x_i | mean, loading, variance) p(z_i | x_i, mean, loading, variance)

    - mean[j] ~ Normal(location, reach^2)
    - loading: lower trapezoidal, below the diagonal ~ Normal(0, spread^2), square of its diagonal ~
      spread^2 times a chi-square with factors, factors - 1, ..., 1 degrees of freedom
    - variance ~ InverseGamma(2, noise^2)
    - x_i ~ Normal(mean, loading loading' + variance I)
    - z_i ~ Normal(M^-1 loading' (x_i - mean) / variance, M^-1), M = I + loading' loading / variance

Shapes
    mean (features,), square (factors,): the loading's squared diagonal, below (features * factors -
    factors * (factors + 1) / 2,): what lies below it, variance (), x (n, features), z (n, factors);
    ``trapezoid(square, below)`` of ``ppl_models.distributions.factors`` is the loading (features, factors).

Priors
    Those of a loading whose elements are independent Normal(0, spread^2), rotated to the one lower
    trapezoid with a positive diagonal: a rotation of the factors changes nothing that can be seen, and
    would leave the posterior with a continuum of modes. p(x) is what it would be without. A trapezoid
    makes the first features the ones that name the factors: put features there that vary. E[variance] =
    noise^2 with infinite spread (shape 2).

Answers
    p(x): weigh, with z integrated out exactly; or generate new rows
    p(z | x): invert, exactly; that is to compress
    p(mean, square, below, variance | x): learn; ``maximum`` is the closed form of the likelihood's maximum
    not p(x | z): x is told first here; ``factor_analysis`` answers it

Source
    Tipping and Bishop (1999), Probabilistic principal component analysis, JRSS B 61, section 3 and
    appendix A; Leung and Drton (2016) for the prior.
"""

from __future__ import annotations

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.distributions.factors import below_diagonal, cholesky_factor, given_row, squares, trapezoid


def probabilistic_pca(
    n: int,
    features: int = 3,
    factors: int = 1,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
    noise: float = 1.0,
) -> Tensor:
    """Tell the story of ``n`` rows; returns them, shape (n, features).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     probabilistic_pca(5, features=4, factors=2).shape
    torch.Size([5, 4])
    """
    below_size = below_diagonal(features, factors)
    mean = pyro.sample("mean", dist.Normal(location, reach).expand([features]).to_event(1))
    square = pyro.sample("square", squares(factors, spread).to_event(1))
    below = pyro.sample("below", dist.Normal(0.0, spread).expand([below_size]).to_event(1))
    variance = pyro.sample("variance", dist.InverseGamma(2.0, noise**2))
    loading = trapezoid(square, below)
    noises = variance[..., None].expand(*variance.shape, features)
    with pyro.plate("row", n, dim=-1):
        x = pyro.sample("x", dist.MultivariateNormal(mean, scale_tril=cholesky_factor(loading, noises)))
        pyro.sample("z", given_row(x, mean, loading, noises))
    return x


class Maximum(NamedTuple):
    """The maximum of the likelihood.

    Attributes
    ----------
    mean
        (features,).
    loading
        (features, factors), float64: principal axes, longest first, as columns; orthogonal to one another.
    variance
        Of the noise, ().
    """

    mean: Tensor
    loading: Tensor
    variance: Tensor

    @property
    def density(self) -> dist.LowRankMultivariateNormal:
        """Return p(x): event shape (features,), log_prob in nats."""
        return dist.LowRankMultivariateNormal(self.mean, self.loading, self.variance.expand_as(self.mean))


def maximum(x: Tensor, factors: int, *, correction: int = 0) -> Maximum:
    """Return the parameters that maximise the likelihood of the rows, in closed form.

    The mean is the rows' mean; the noise variance the average of the smallest eigenvalues of their
    covariance; the loading the leading eigenvectors, each sqrt(eigenvalue - variance) long.

    Parameters
    ----------
    x
        (rows, features).
    factors
        Fewer than features.
    correction
        The covariance is divided by rows - correction. 0 is the maximum; 1 is what scikit-learn's ``PCA``
        takes, whose ``score`` this density then reproduces.

    Raises
    ------
    ValueError
        If ``x`` is no matrix, or ``factors`` is out of range, or the rows leave no variance for the noise.

    Source: Tipping and Bishop (1999), JRSS B 61, equations 7 and 8.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 1.0], [2.0, -1.0]])
    >>> found = maximum(x, 1)  # variances 2 and 1/2: the axis has length sqrt(2 - 1/2)
    >>> found.variance, found.loading.norm() ** 2
    (tensor(0.5000, dtype=torch.float64), tensor(1.5000, dtype=torch.float64))
    """
    if x.dim() != 2 or len(x) <= correction + 1:
        raise ValueError(
            f"x: expected (rows, features) with more than {correction + 1} rows, got {tuple(x.shape)}."
        )
    features = x.shape[1]
    below_diagonal(features, factors)
    values, vectors = torch.linalg.eigh(torch.cov(x.double().T, correction=correction))
    variance = values[: features - factors].mean()
    if not variance > 1e-14 * values[-1]:
        raise ValueError(
            f"x: expected rows with noise beyond {factors} factors, got rows that {factors} factors explain "
            f"without any: the likelihood has no maximum. Use fewer factors or more rows, or add noise."
        )
    length = (values[features - factors :] - variance).clamp(min=0).sqrt()
    return Maximum(x.double().mean(0), (vectors[:, features - factors :] * length).flip(-1), variance)


EXAMPLE = (
    (12, 4, 2, 0.5, 3.0, 2.0, 0.6),
    {
        "x": torch.tensor(
            [
                [2.9, -3.2, 0.7, 2.1], [-2.4, 2.9, 3.1, -3.0], [3.3, 0.4, -2.6, 2.4], [-0.6, -2.7, 2.2, 0.3],
                [2.8, 3.6, 0.3, 3.5], [-3.9, 0.8, -2.3, -4.1], [0.9, 2.5, 4.2, 2.2], [-2.2, -3.4, -0.8, -3.6],
                [4.6, -0.5, 2.7, 4.4], [0.2, 3.8, -3.5, 0.7], [-2.9, 2.3, 0.6, -1.8], [3.7, -2.1, -4.4, 2.0],
            ],
            dtype=torch.float64,
        ),
    },
)  # fmt: skip
