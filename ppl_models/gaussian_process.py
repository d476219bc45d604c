"""Gaussian-process regression: smooth unknown functions, seen with noise.

Story
    Some quantity depends smoothly on inputs, but no formula is known. Any finite number of its values
    ``f`` is jointly Gaussian, and values at near inputs are alike: how near, is the ``lengthscale``; how far
    values reach, the ``amplitude``. They are seen with noise, at the same inputs for each row (a day's
    temperatures at given hours, say); one row is the usual case. The story is told with what is seen
    first, f integrated out exactly: unknown are the two and the noise. Then, given what was seen, come the
    values of f at the inputs ``at`` where one wants to know them.

Joint
    p(amplitude) p(lengthscale) p(noise) prod_i p(y_i | amplitude, lengthscale, noise) p(f_i | y_i, ...)

    - amplitude ~ LogNormal(log spread, 1)
    - lengthscale ~ LogNormal(log reach, 1/2)
    - noise ~ LogNormal(log error, 1)
    - y_i ~ Normal(0, K + noise^2 I), K_st = amplitude^2 exp(-|inputs_s - inputs_t|^2 / (2 lengthscale^2))
    - f_i ~ Normal(K' (K + noise^2 I)^-1 y_i, K'' - K' (K + noise^2 I)^-1 K'^T), with the kernel between
      ``at`` and ``inputs`` in K', and between ``at`` and ``at`` in K''

Shapes
    inputs (points, dimensions), at (new points, dimensions), amplitude () and noise () in units of y,
    standard deviations both, lengthscale () in units of the inputs, y (n, points), f (n, new points). A
    row is a whole function.

Priors
    ``spread``, ``reach`` and ``error`` are medians, in the units of y, of the inputs and of y; y is told
    about its mean, which is taken off beforehand. With 95 % the amplitude and the noise lie within a factor
    of 7 of them, the lengthscale within a factor of e: lengthscales shorter than the distance of inputs
    cannot be told apart, nor can those longer than their range, so that the prior has to keep off both.

Answers
    p(amplitude, lengthscale, noise | y): learn
    p(f | y): generate, at new inputs too, averaged over the three; given the three, ``exact``
    p(y | inputs): generate, weigh
    not p(y_late | y_early) by ``given``: one row is one joint event; ask for f.
    not p(inputs): they are arguments.

Source
    Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, algorithm 2.1 and section
    5.4.1. They maximize over the three; priors as in Stan's User's Guide ("Fitting a Gaussian process"), but
    log-normal in place of half-normal and inverse gamma: those let the noise come near zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

GIVEN = ("amplitude", "lengthscale", "noise")


def gaussian_process(
    n: int,
    inputs: Tensor,
    spread: float = 1.0,
    reach: float = 1.0,
    error: float = 1.0,
    at: Tensor | None = None,
) -> Tensor:
    """Tell the story of ``n`` functions seen at ``inputs``; returns what is seen, shape (n, points).

    ``at`` is where f is asked for; by default at the inputs.

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     gaussian_process(3, torch.linspace(0, 5, 8)[:, None]).shape
        torch.Size([3, 8])
    """
    at = inputs if at is None else at
    amplitude = pyro.sample("amplitude", dist.LogNormal(math.log(spread), 1.0))
    lengthscale = pyro.sample("lengthscale", dist.LogNormal(math.log(reach), 0.5))
    noise = pyro.sample("noise", dist.LogNormal(math.log(error), 1.0))
    factor = _seen(inputs, amplitude, lengthscale, noise)
    zero = torch.zeros_like(inputs[:, 0])
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.MultivariateNormal(zero, scale_tril=factor))
        pyro.sample("f", _values(y, inputs, at, amplitude, lengthscale, factor))
    return y


def kernel(a: Tensor, b: Tensor, amplitude: Tensor, lengthscale: Tensor) -> Tensor:
    """Covariance of f between inputs ``a`` (points, dimensions) and ``b``: (points of a, points of b)."""
    squares = ((a.unsqueeze(-2) - b.unsqueeze(-3)) ** 2).sum(-1)
    return amplitude**2 * (-squares / (2 * lengthscale**2)).exp()


def _seen(inputs: Tensor, amplitude: Tensor, lengthscale: Tensor, noise: Tensor) -> Tensor:
    """Cholesky factor of the covariance of what is seen at ``inputs``."""
    covariance = kernel(inputs, inputs, amplitude, lengthscale)
    return _cholesky(covariance + noise**2 * torch.eye(len(inputs), dtype=inputs.dtype), amplitude)


def _values(
    y: Tensor, inputs: Tensor, at: Tensor, amplitude: Tensor, lengthscale: Tensor, factor: Tensor
) -> dist.MultivariateNormal:
    """Law of f at ``at`` given what was seen; y (n, points) and its Cholesky factor."""
    across = kernel(inputs, at, amplitude, lengthscale)
    half = torch.linalg.solve_triangular(factor, across, upper=False)
    white = torch.linalg.solve_triangular(factor, y.mT, upper=False)
    left = kernel(at, at, amplitude, lengthscale) - half.mT @ half
    return dist.MultivariateNormal((half.mT @ white).mT, scale_tril=_cholesky(left, amplitude))


def _cholesky(covariance: Tensor, amplitude: Tensor) -> Tensor:
    """Cholesky factor, with rounding errors on the diagonal kept off zero.

    NaN, not an error, where an optimizer strays to numbers that have none.
    """
    points = covariance.shape[-1]
    jitter = 100 * points * torch.finfo(covariance.dtype).eps * amplitude**2
    factor, failed = torch.linalg.cholesky_ex(covariance + jitter * torch.eye(points, dtype=covariance.dtype))
    return torch.where((failed > 0)[..., None, None], torch.nan, factor)


def exact(
    data: Mapping[str, Tensor],
    n: int | None,
    inputs: Tensor,
    spread: float = 1.0,
    reach: float = 1.0,
    error: float = 1.0,
    at: Tensor | None = None,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the law of the functions themselves, given the three parameters and what was seen.

    Args:
        data: ``y`` (n, points).
        n, inputs, spread, reach, error, at: as the story was called.
        given: values of ``amplitude``, ``lengthscale`` and ``noise``, all three.

    Returns:
        ``f`` (MultivariateNormal with batch shape (n,), event shape (new points,)). Empty if one of the
        three is not given: then there is no closed form.

    Example:
        >>> import torch
        >>> inputs, at = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [9.0]])
        >>> given = dict(zip(GIVEN, torch.tensor([2.0, 1.0, 0.1])))
        >>> f = exact({"y": torch.tensor([[3.0, 3.0]])}, 1, inputs, at=at, given=given)["f"]
        >>> f.mean.round(decimals=2), f.stddev.round(decimals=2)
        (tensor([[3.2900, 0.0000]], dtype=torch.float64), tensor([[0.3600, 2.0000]], dtype=torch.float64))
    """
    given = given or {}
    if not set(GIVEN) <= set(given):
        return {}
    amplitude, lengthscale, noise = (given[name].double() for name in GIVEN)
    inputs, y = inputs.double(), data["y"].double()
    at = inputs if at is None else at.double()
    factor = _seen(inputs, amplitude, lengthscale, noise)
    f = _values(y, inputs, at, amplitude, lengthscale, factor)
    return {name: q for name, q in {"f": f}.items() if name not in given}


EXAMPLE = (
    (
        3,
        torch.tensor([[0.4], [1.1], [1.9], [2.8], [3.3], [4.7], [5.2]], dtype=torch.float64),
        3.0,
        2.0,
        0.7,
        torch.tensor([[2.3], [4.1], [6.4], [7.9]], dtype=torch.float64),
    ),
    {
        "y": torch.tensor(
            [
                [2.3, 3.1, 2.6, 0.4, -0.7, -3.2, -3.5],
                [-1.9, -2.2, -0.6, 1.7, 2.4, 2.9, 2.1],
                [0.5, 1.6, 3.3, 4.2, 3.7, 0.8, -0.9],
            ],
            dtype=torch.float64,
        )
    },
)  # fmt: skip
