"""Do the final draws fit the density they are said to come from? Two identities that need no guide.

For draws z of a density p on all of space, with g = grad log p(z): E[g] = 0, and E[(z_i - m_i) g_i] = -1 in
every coordinate (integration by parts; Stein 1972). They hold whatever made the draws, so they see faults
behind the weights: a sampler narrower than the density it reports, draws mixed up after they were
weighed, a gradient of another function. The second is free of scale: it has the same value in the neck
and in the mouth of a funnel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.density.log_density import LogDensity

_ERRORS = 5.0  # standard errors that a mean may be off
_SLACK = 0.05  # and how much beside them, for the finite error of what was certified
_DRAWS = 1000  # that are asked about the gradient ...
_COST = 2**27  # ... or as many as touch so many elements, ...
_LEAST = 400  # ... but not fewer than these, with which errors of 40 % show in one unknown


def subset(z: Tensor, most: int = _DRAWS) -> Tensor:
    """At most 1,000 of the draws (restarts, draws, size), evenly from every restart."""
    each = max(1, min(z.shape[1], most // z.shape[0]))
    index = torch.linspace(0, z.shape[1] - 1, each).long()
    return z[:, index].flatten(0, 1)


def departures(z: Tensor, grad: Tensor) -> list[str]:
    """Reasons not to believe that draws (draws, size) come from the density with these gradients.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = torch.randn(1000, 3, generator=generator, dtype=torch.float64)
        >>> departures(z, -z), len(departures(0.8 * z, -0.8 * z))
        ([], 1)
    """
    return departures_of_each(z[None], grad[None])[0]


def departures_from(density: LogDensity, z: Tensor) -> list[str]:
    """Reasons not to believe that draws (restarts, draws, size) come from a density: some are asked."""
    return departures(*_asked(density, z))


def displacements_from(density: LogDensity, z: Tensor) -> list[str]:
    """Reasons not to believe that draws (restarts, draws, size) lie where the density does: E[g] = 0."""
    return displacements(*_asked(density, z))


def displacements(z: Tensor, grad: Tensor) -> list[str]:
    """Reasons not to believe that draws (draws, size) lie where a density with these gradients does.

    Where weights are those of the density itself this asks nothing new. Weights by a wrong density, as that
    of another scale (a Jacobian is missing), move the draws, and may leave (z - mean) g at -1.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = torch.randn(1000, 3, generator=generator, dtype=torch.float64)
        >>> displacements(z, -z), len(displacements(z + 0.5, -(z + 0.5)))
        ([], 1)
    """
    if len(z) < 100:
        return []
    shift = (z.std(0) * grad)[None]
    off = _off(shift, 0.0, _SLACK * 4)
    if not bool(off.any()):
        return []
    return [
        f"The draws do not lie where the density does: its gradient, in units of their standard deviations, "
        f"is {float(shift.mean(1).abs().max()):.2f} on average in some unknown, and must be 0 (Stein's "
        f"identity)."
    ]


def _asked(density: LogDensity, z: Tensor) -> tuple[Tensor, Tensor]:
    """Some of the draws (restarts, draws, size), and the gradients there."""
    affordable = max(_LEAST, min(_DRAWS, _COST // density.cost))
    some = subset(z, affordable if density.traced else _DRAWS // 10)
    return some, density.value_and_grad(some)[1]


def departures_of_each(z: Tensor, grad: Tensor) -> list[list[str]]:
    """The same for several densities: (densities, draws, size).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = torch.randn(2, 1000, 3, generator=generator, dtype=torch.float64)
        >>> [len(reasons) for reasons in departures_of_each(z, -z)]
        [0, 0]
    """
    if z.shape[1] < 100:
        return [[] for _ in z]
    product = (z - z.mean(1, keepdim=True)) * grad
    each = _off(product, -1.0, _SLACK * 4).any(1)
    together = _off(product.mean(2, keepdim=True), -1.0, _SLACK).any(1)
    spread = product.mean((1, 2)).tolist()
    return [_reasons(s) if off else [] for s, off in zip(spread, (each | together).tolist(), strict=True)]


def _reasons(spread: float) -> list[str]:
    return [
        f"The draws do not fit the density: (z - mean) x gradient is {spread:.2f} on average over the "
        f"unknowns, and must be -1 (Stein's identity). They are too narrow or too wide, or mixed up. If the "
        f"story has jumps (a hard constraint by pyro.factor), write them as supports."
    ]


def _off(values: Tensor, expected: float, slack: float) -> Tensor:
    """Where means over the draws (second axis) differ from what is expected by more than errors and slack."""
    finite = torch.isfinite(values).all(1)
    stderr = values.std(1) / values.shape[1] ** 0.5
    return ~finite | ((values.mean(1) - expected).abs() > _ERRORS * stderr + slack)
