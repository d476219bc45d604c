"""Particles annealed from a standard normal to exp(-energy) times it: weights, moves, log Z."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

Energy = Callable[[Tensor], Tensor]
_SOBOL = 16  # beyond this many features spreading points evenly gains nothing, and plain noise is used


def noise(count: int, features: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Standard normal points (count, features), in few dimensions spread evenly and shifted at random.

    A random shift of all points, modulo 1, keeps every point's law and makes averages unbiased.

    Source: Cranley and Patterson (1976), Randomization of number theoretic methods for multiple
    integration.

    Example:
        >>> points = noise(4096, 2, torch.Generator().manual_seed(0), torch.zeros(()))
        >>> bool(points.mean().abs() < 0.005), bool((points.std() - 1).abs() < 0.005)
        (True, True)
    """
    dtype, device = like.dtype, like.device
    if features > _SOBOL:
        return torch.randn(count, features, generator=generator, dtype=dtype, device=device)
    points = SobolEngine(features, scramble=True, seed=0).draw(count, dtype=torch.float64).to(device)
    shift = torch.rand(features, generator=generator, dtype=dtype, device=device).double()
    shares = (points + shift).remainder(1.0).clamp(1e-9, 1 - 1e-9)
    return (math.sqrt(2) * torch.erfinv(2 * shares - 1)).to(dtype)


def langevin(
    u: Tensor, energy: Energy, power: float, step: float, generator: torch.Generator | None
) -> tuple[Tensor, float]:
    """Move particles (..., features) once by Langevin dynamics, corrected: exp(-power energy) N(0, I) stays.

    Returns:
        The particles, detached, and the share of them that moved.

    Source: Roberts and Tweedie (1996), Exponential convergence of Langevin distributions and their
    discrete approximations (the Metropolis-adjusted Langevin algorithm).
    """
    old, slope = _potential(u, energy, power)
    fresh = torch.randn(u.shape, generator=generator, dtype=u.dtype, device=u.device)
    proposal = u - 0.5 * step**2 * slope + step * fresh
    new, back = _potential(proposal, energy, power)
    backwards = (u - proposal + 0.5 * step**2 * back) / step
    log_ratio = old - new + 0.5 * (fresh.square() - backwards.square()).sum(-1)
    threshold = torch.rand(log_ratio.shape, generator=generator, dtype=u.dtype, device=u.device).log()
    moved = threshold < log_ratio
    return torch.where(moved[..., None], proposal, u), moved.double().mean().item()


def anneal(
    u: Tensor, energy: Energy, temperatures: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Carry standard normal particles to exp(-energy) N(0, I), by annealed importance sampling.

    With one temperature the particles stay where they are and are only weighed.

    Args:
        u: (..., features), standard normal.
        energy: (..., features) -> (...,).
        temperatures: steps; the particles move once by Langevin dynamics after each but the last.
        generator: of the random numbers; None takes the global one.

    Returns:
        The particles, detached, and their log weights (...,), whose mean in the exponent has expectation Z.

    Source: Neal (2001), Annealed importance sampling.
    """
    step, total = 0.5 / u.shape[-1] ** (1 / 6), torch.zeros(u.shape[:-1], dtype=u.dtype, device=u.device)
    with torch.no_grad():
        for i in range(temperatures):
            total = total - energy(u) / temperatures
            if i + 1 < temperatures:
                u, share = langevin(u, energy, (i + 1) / temperatures, step, generator)
                step *= (
                    1.1 if share > 0.6 else 0.9
                )  # .574 is best in high dimension (Roberts, Rosenthal 1998)
    return u, total


def _potential(u: Tensor, energy: Energy, power: float) -> tuple[Tensor, Tensor]:
    """Minus log density up to a constant, and its gradient."""
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        value = power * energy(u) + 0.5 * u.square().sum(-1)
        (slope,) = torch.autograd.grad(value.sum(), u)
    return value.detach(), slope
