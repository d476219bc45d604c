"""Is the Jacobian that a bijection reports its own? Compared once with the derivative of the map.

A log density in unconstrained space holds the log Jacobian of every map onto a support. One that is wrong is
in the graph and in plain Pyro alike, so that nothing later can notice: the fit would be a perfect one of
another posterior. Differentiating each kind of map at one point settles it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from inference.bijections import bijection, unconstrained_shape

_AGREEMENT = 1e-6  # nats per unknown, in float64
_LARGEST = 64  # unknowns of one map that is differentiated; larger ones are of a kind that smaller ones show


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
