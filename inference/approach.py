"""Overdispersed starts that have come down from the impossible: where trusted chains begin.

Points are drawn in boxes of several widths around zero, in unconstrained space, or are given. They climb by
steps that look at the gradient's signs only (resilient propagation), so that no scale need be known. A point
stops as soon as its log density is within what draws from a posterior may differ by of the best point's; so
none climbs to a mode, which in a hierarchical story is degenerate, and none that lies in a region of its own
leaves it.

Source: Riedmiller and Braun (1993), "A direct adaptive method for faster backpropagation learning: the RPROP
algorithm", IEEE International Conference on Neural Networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.hamiltonian import Target

_WIDTHS = (2.0, 2.0, 4.0, 8.0)  # in turn; 2 is Stan's
_TRIES = 20
_STEPS = 300
_FIRST = 0.1  # step of every coordinate at first
_FACTORS = (0.5, 1.2)  # of the step where the gradient's sign changes, and where it does not
_RANGE = (1e-8, 100.0)  # of the steps


def approach(
    target: Target, count: int, size: int, generator: torch.Generator, given: Tensor | None = None
) -> tuple[Tensor, int]:
    """Draw starts and let them climb.

    Args:
        target: (count, size) -> log densities and gradients.
        count: how many starts.
        size: number of unknowns.
        generator: of the starts.
        given: (half, size) starts that take the places of every second one; elements that are NaN, and
            points without a finite density, are drawn.

    Returns:
        (count, size), and the number of batched gradients taken.

    Raises:
        ValueError: if no point with a finite density and gradient is found.

    Example:
        >>> import torch
        >>> def target(z):
        ...     return -0.5 * ((z - 40) / 1e-3).square().sum(-1), -(z - 40) / 1e-6
        >>> z, calls = approach(target, 4, 2, torch.Generator().manual_seed(0))
        >>> bool(((z - 40).abs() < 0.1).all())
        True
    """
    z, log_p, grad, calls = _scattered(target, count, size, generator, given)
    step = torch.full_like(z, _FIRST)
    old = torch.zeros_like(z)
    # Log densities of draws differ by about half a chi-square of `size` degrees of freedom.
    slack = 10.0 + 2.0 * size
    for _ in range(_STEPS):
        climbing = log_p < log_p.max() - slack
        if not bool(climbing.any()):
            break
        same = (grad * old).sign()
        step = (step * torch.where(same > 0, _FACTORS[1], torch.where(same < 0, _FACTORS[0], 1.0))).clamp(
            *_RANGE
        )
        grad = torch.where(same < 0, 0.0, grad)
        trial = torch.where(climbing[:, None], z + grad.sign() * step, z)
        value, slope = target(trial)
        calls += 1
        fine = torch.isfinite(value + slope.sum(-1))
        z, log_p = torch.where(fine[:, None], trial, z), torch.where(fine, value, log_p)
        old = torch.where(fine[:, None], grad, 0.0)
        grad = torch.where(fine[:, None], slope, grad)
        step = torch.where(fine[:, None], step, step * _FACTORS[0] ** 2)
    return z, calls


def _scattered(
    target: Target, count: int, size: int, generator: torch.Generator, given: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Points in boxes of several widths, with finite densities and gradients."""
    widths = torch.tensor(_WIDTHS, dtype=torch.float64).repeat(count)[:count, None]
    z = torch.zeros(count, size, dtype=torch.float64)
    missing = torch.ones(count, dtype=torch.bool)
    for attempt in range(_TRIES):
        fresh = (2 * torch.rand(count, size, generator=generator, dtype=torch.float64) - 1) * widths
        z = torch.where(missing[:, None], fresh, z)
        if given is not None and attempt == 0:
            z[1::2] = torch.where(given.isnan(), z[1::2], given)
        log_p, grad = target(z)
        missing = ~torch.isfinite(log_p + grad.sum(-1))
        if not bool(missing.any()):
            return z, log_p, grad, attempt + 1
        widths = torch.where(missing[:, None], 0.7 * widths, widths)
    if bool(missing.all()):
        raise ValueError(
            f"story: no start with a finite log density and gradient was found in {_TRIES * count} tries, "
            f"uniform in (-{max(_WIDTHS):g}, {max(_WIDTHS):g}) in unconstrained space and closer to 0. Look "
            f"for a prior or a likelihood that is -inf or NaN at ordinary values: `ppl check` names the site."
        )
    found = (~missing).nonzero()[:, 0]
    index = torch.arange(count)
    index[missing] = found[torch.arange(int(missing.sum())) % len(found)]
    return z[index], log_p[index], grad[index], _TRIES
