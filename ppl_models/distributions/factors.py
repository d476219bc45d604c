"""Loadings of factor models that no rotation can change, and their factors given a row.

In ``x = mean + loading @ z + noise`` only ``loading @ loading.T`` shows in p(x): a rotation of the
factors, or a change of their signs, changes nothing. Every matrix has exactly one rotation that is lower
trapezoidal with a positive diagonal, and the stories of factors are told with that one. If a
loading's elements are independent Normal(0, spread^2), then those of its trapezoid are independent too:
Normal(0, spread^2) below the diagonal, and on it spread times the roots of chi-squares with
factors, factors - 1, ..., 1 degrees of freedom (Bartlett's decomposition). So p(x), and all that is
learned from it, are what they would be without the restriction.

Source: Leung and Drton (2016), Order-invariant prior specification in Bayesian factor analysis, Statistics
and Probability Letters 111; Bishop (2006), Pattern Recognition and Machine Learning, section 12.2.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor


def below_diagonal(features: int, factors: int) -> int:
    """Count the elements below the diagonal of a (features, factors) trapezoid.

    Raises
    ------
    ValueError
        If there are no fewer factors than features.

    Examples
    --------
    >>> below_diagonal(4, 2)
    5
    """
    if not 1 <= factors < features:
        raise ValueError(f"factors: expected 1 to features - 1 = {features - 1}, got {factors}.")
    return features * factors - factors * (factors + 1) // 2


def squares(factors: int, spread: float) -> dist.Gamma:
    """Return the prior of the squared diagonal, batch (factors,): spread^2 times chi-squares.

    Examples
    --------
    >>> squares(3, 2.0).mean  # 4 times the degrees of freedom
    tensor([12.,  8.,  4.])
    """
    freedom = factors - torch.arange(factors, dtype=torch.get_default_dtype())
    return dist.Gamma(freedom / 2, 1 / (2 * spread**2))


def trapezoid(square: Tensor, below: Tensor) -> Tensor:
    """Assemble loadings from their squared diagonals and what lies below.

    Parameters
    ----------
    square
        (*batch, factors), positive.
    below
        (*batch, features * factors - factors * (factors + 1) / 2), row by row.

    Returns
    -------
    Tensor
        (*batch, features, factors), zero above the diagonal.

    Examples
    --------
    >>> import torch
    >>> trapezoid(torch.tensor([4.0, 9.0]), torch.tensor([5.0, 6.0, 7.0]))
    tensor([[2., 0.],
            [5., 3.],
            [6., 7.]])
    """
    factors = square.shape[-1]
    features = (below.shape[-1] + factors * (factors + 1) // 2) // factors
    lower = torch.ones(features, factors, dtype=torch.long).tril(-1)
    place = torch.where(lower > 0, lower.flatten().cumsum(0).reshape(lower.shape) + factors, 0)
    place = place + torch.nn.functional.pad(
        torch.diag(torch.arange(factors) + 1), (0, 0, 0, features - factors)
    )
    elements = torch.nn.functional.pad(torch.cat([square.sqrt(), below], -1), (1, 0))
    return elements[..., place]


def as_trapezoid(loading: Tensor) -> Tensor:
    """Rotate a loading (features, factors) to its lower trapezoid with a positive diagonal.

    Examples
    --------
    >>> import torch
    >>> loading = torch.tensor([[3.0, 4.0], [1.0, 2.0], [0.0, 5.0]])
    >>> lower = as_trapezoid(loading)
    >>> bool(torch.allclose(lower @ lower.T, loading @ loading.T)), float(lower[0, 1])
    (True, 0.0)
    """
    upper = torch.linalg.qr(loading.mT).R  # loading = (Q R)' = R' Q'
    lower = upper.mT * torch.where(upper.diagonal() < 0, -1.0, 1.0)
    return lower.tril()


def cholesky_factor(loading: Tensor, variance: Tensor) -> Tensor:
    """Return the lower Cholesky factor of loading loading' + diag(variance), the covariance of a row.

    With it a row is a ``MultivariateNormal``. torch's ``LowRankMultivariateNormal`` saves work beyond a few
    hundred features, but it can neither be traced nor folded into sums over rows (torch 2.13).

    Parameters
    ----------
    loading
        (*batch, features, factors).
    variance
        (*batch, features), of the noise.

    Examples
    --------
    >>> import torch
    >>> cholesky_factor(torch.tensor([[2.0], [0.0]]), torch.tensor([5.0, 4.0]))
    tensor([[3., 0.],
            [0., 2.]])
    """
    return torch.linalg.cholesky(loading @ loading.mT + torch.diag_embed(variance))


def given_row(x: Tensor, mean: Tensor, loading: Tensor, variance: Tensor) -> dist.MultivariateNormal:
    """Return p(z | x) where z ~ Normal(0, I) and x ~ Normal(mean + loading @ z, diag(variance)).

    Parameters
    ----------
    x
        (*batch, features).
    mean, variance
        (*batch, features).
    loading
        (*batch, features, factors).

    Returns
    -------
    MultivariateNormal
        Of batch shape ``batch`` and event shape (factors,), with precision
        I + loading' diag(1 / variance) loading.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1)
    >>> z = given_row(torch.tensor([3.0]), one, torch.tensor([[2.0]]), one)
    >>> z.mean, z.covariance_matrix  # 2 (3 - 1) / (1 + 2^2), 1 / (1 + 2^2)
    (tensor([0.8000]), tensor([[0.2000]]))
    """
    location, precision = moments_given_row(x, mean, loading, variance)
    return dist.MultivariateNormal(location, precision_matrix=precision)


def moments_given_row(x: Tensor, mean: Tensor, loading: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and precision of p(z | x); arguments as in :func:`given_row`.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1)
    >>> moments_given_row(torch.tensor([3.0]), one, torch.tensor([[2.0]]), one)
    (tensor([0.8000]), tensor([[5.]]))
    """
    weighted = loading / variance[..., None]
    precision = loading.mT @ weighted + torch.eye(loading.shape[-1], dtype=loading.dtype, device=x.device)
    centre = (weighted.mT @ (x - mean)[..., None]).squeeze(-1)
    factor = torch.linalg.cholesky(precision)
    return torch.cholesky_solve(centre[..., None], factor).squeeze(-1), precision
