"""Bijections from unconstrained space onto a support: torch's, and those that torch lacks.

Is the Jacobian that a bijection reports its own? It is compared once with the derivative of the map: a log
density in unconstrained space holds the log Jacobian of every map onto a support, and one that is wrong is in
the graph and in plain Pyro alike, so that nothing later can notice: the fit would be a perfect one of another
posterior. Differentiating each kind of map at one point settles it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import (
    ComposeTransform,
    IndependentTransform,
    StickBreakingTransform,
    Transform,
)
from torch.nn.functional import logsigmoid

_AGREEMENT = 1e-6  # nats per unknown, in float64
_LARGEST = 64  # unknowns of one map that is differentiated; larger ones are of a kind that smaller ones show


class CholeskyFactor(Transform):
    """Vector of n (n + 1) / 2 reals -> lower-triangular matrix with a positive diagonal.

    The vector holds the lower triangle row by row, with the diagonal's logarithms.

    Example:
        >>> import torch
        >>> CholeskyFactor()(torch.tensor([0.0, 2.0, 0.0]))
        tensor([[1., 0.],
                [2., 1.]])
    """

    bijective = True
    domain = constraints.real_vector
    codomain: Any = constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        n = _side(x.shape[-1])
        rows, columns = torch.tril_indices(n, n)
        index = torch.zeros(n, n, dtype=torch.long)
        index[rows, columns] = torch.arange(x.shape[-1])
        lower = x[..., index].tril(-1)
        return lower + torch.diag_embed(x[..., index.diagonal()].exp())

    def _inverse(self, y: Tensor) -> Tensor:
        n = y.shape[-1]
        rows, columns = torch.tril_indices(n, n)
        log = torch.diag_embed(y.diagonal(dim1=-2, dim2=-1).log()) + y.tril(-1)
        return log[..., rows, columns]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of the log diagonal."""
        return y.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """Vector to matrix."""
        n = _side(shape[-1])
        return torch.Size((*shape[:-1], n, n))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """Matrix to vector."""
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


class PositiveDefinite(CholeskyFactor):
    """Vector of n (n + 1) / 2 reals -> symmetric positive definite matrix ``L L'``.

    The Jacobian of ``L -> L L'`` is ``2^n prod_i L_ii^(n + 1 - i)`` for i = 1..n (Muirhead 1982,
    Aspects of Multivariate Statistical Theory, theorem 2.1.9).
    """

    codomain: Any = constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        lower = super()._call(x)
        return lower @ lower.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return super()._inverse(torch.linalg.cholesky(y))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Of both steps: exponential of the diagonal, then ``L L'``."""
        n = _side(x.shape[-1])
        position = torch.arange(n)
        log_diagonal = x[..., (position + 1) * (position + 2) // 2 - 1]
        return (log_diagonal * (n + 1 - position)).sum(-1) + n * math.log(2.0)


class StickBreaking(StickBreakingTransform):
    """torch's map onto the simplex, computed in logarithms.

    Each coordinate breaks off a share sigmoid(x_k - log(n - k)) of what is left. torch keeps that share away
    from one, so that the last component never falls below 2e-16: near an edge of the simplex a good part of a
    posterior may lie beyond.

    Example:
        >>> import torch
        >>> x = torch.tensor([-0.5, 40.0], dtype=torch.float64)
        >>> bool((StickBreaking()(x) - StickBreakingTransform()(x)).abs().max() < 1e-15)
        True
        >>> float(StickBreaking()(x)[-1]) < 1e-17
        True
    """

    def _shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of what each coordinate takes and leaves of what it finds."""
        offset = x.shape[-1] + 1 - torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
        shifted = x - offset.log()
        return logsigmoid(shifted), logsigmoid(-shifted)

    def _call(self, x: Tensor) -> Tensor:
        take, leave = self._shares(x)
        left = leave.cumsum(-1)
        first = take + torch.nn.functional.pad(left[..., :-1], [1, 0])
        return torch.cat([first, left[..., -1:]], -1).exp()

    def _inverse(self, y: Tensor) -> Tensor:
        left = y.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        offset = y.shape[-1] - torch.arange(1, y.shape[-1], dtype=y.dtype, device=y.device)
        tiny = torch.finfo(y.dtype).tiny
        return y[..., :-1].clamp(min=tiny).log() - left.clamp(min=tiny).log() + offset.log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Of the first n - 1 components: each share's derivative, times what was left."""
        take, leave = self._shares(x)
        left = torch.nn.functional.pad(leave.cumsum(-1)[..., :-1], [1, 0])
        return (take + leave + left).sum(-1)


def _side(length: int) -> int:
    return (math.isqrt(8 * length + 1) - 1) // 2


_MIXTURE: Any = getattr(constraints, "MixtureSameFamilyConstraint", ())  # absent in some versions of torch


def bijection(support: Any) -> Transform:
    """Return the bijection from unconstrained space onto a support.

    Raises:
        ValueError: for a support that has none (a sphere, a set of integers).

    Example:
        >>> from torch.distributions import constraints
        >>> type(bijection(constraints.positive_definite)).__name__
        'PositiveDefinite'
    """
    if isinstance(support, type(constraints.independent(constraints.real, 1))):
        return IndependentTransform(bijection(support.base_constraint), support.reinterpreted_batch_ndims)
    if isinstance(support, _MIXTURE):  # no transform is registered for it; its components' support is its own
        return bijection(support.base_constraint)
    if isinstance(support, type(constraints.lower_cholesky)):
        return CholeskyFactor()
    if isinstance(support, type(constraints.positive_definite) | type(constraints.positive_semidefinite)):
        return PositiveDefinite()
    if support is constraints.simplex:
        return StickBreaking()
    try:
        return biject_to(support)
    except NotImplementedError as error:
        raise ValueError(
            f"a latent site has support {support}, which no smooth one-to-one map from unconstrained "
            f"space reaches. Write the site through one that has it (real, positive, interval, simplex, "
            f"ordered, Cholesky factor, positive definite)."
        ) from error


def unconstrained_shape(support: Any, shape: torch.Size) -> torch.Size:
    """The shape in unconstrained space of a value of some shape.

    An element-wise bijection leaves it as it is; torch imports sympy, for half a second, to find that out.

    Example:
        >>> from torch.distributions import constraints
        >>> unconstrained_shape(constraints.simplex, torch.Size([5, 3]))
        torch.Size([5, 2])
    """
    return _before(bijection(support), torch.Size(shape))


def _before(transform: Transform, shape: torch.Size) -> torch.Size:
    if isinstance(transform, IndependentTransform):
        return _before(transform.base_transform, shape)
    if isinstance(transform, ComposeTransform):
        for part in reversed(transform.parts):
            shape = _before(part, shape)
        return shape
    element_wise = transform.domain.event_dim == 0 and transform.codomain.event_dim == 0
    return shape if element_wise else torch.Size(transform.inverse_shape(shape))


def wrong_jacobian(supports: Iterable[tuple[str, Any, torch.Size]]) -> str:
    """Say which site's map onto its support reports a Jacobian that is not its own, or nothing.

    Args:
        supports: name, support and shape of each site.

    Example:
        >>> import torch
        >>> from torch.distributions import constraints
        >>> wrong_jacobian([("tau", constraints.positive, torch.Size([3]))])
        ''
    """
    known: set[Any] = set()
    for name, support, shape in supports:
        transform: Any = bijection(support)
        free = unconstrained_shape(support, shape)
        kind = (repr(support), repr(transform), free)
        if kind in known or not 0 < free.numel() <= _LARGEST:
            continue
        known.add(kind)
        gap = _gap(transform, support, free)
        if not gap <= _AGREEMENT * free.numel():
            return (
                f"The map from unconstrained space onto the support of site '{name}' ({support}) reports a "
                f"log Jacobian that is off by {gap:.3g} nats, so that another posterior was fitted. If the "
                f"transform is your own, correct its log_abs_det_jacobian."
            )
    return ""


def _gap(transform: Any, support: Any, shape: torch.Size) -> float:
    """Reported less true log Jacobian at one point, in nats; 0 where the map is not square."""
    x = torch.linspace(-0.7, 0.9, shape.numel(), dtype=torch.float64)

    def coordinates(flat: Tensor) -> Tensor:
        return _minimal(transform(flat.reshape(shape)), support)

    with torch.enable_grad():
        matrix: Any = torch.autograd.functional.jacobian(coordinates, x)
    if matrix.shape[0] != matrix.shape[1]:
        return 0.0
    true = float(torch.linalg.slogdet(matrix).logabsdet)
    point = x.reshape(shape)
    reported = float(transform.log_abs_det_jacobian(point, transform(point)).sum())
    return abs(reported - true) if math.isfinite(true) else 0.0


def _minimal(value: Tensor, support: Any) -> Tensor:
    """Coordinates in which a value of a support is free: a simplex's last and a triangle's rest follow."""
    while isinstance(support, type(constraints.independent(constraints.real, 1))):
        support = support.base_constraint
    if isinstance(support, type(constraints.simplex)):
        return value[..., :-1].flatten()
    below = {type(constraints.corr_cholesky): -1, type(constraints.lower_cholesky): 0,
             type(constraints.positive_definite): 0}.get(type(support))  # fmt: skip
    if below is not None:
        rows, columns = torch.tril_indices(value.shape[-1], value.shape[-1], below)
        return value[..., rows, columns].flatten()
    return value.flatten()
