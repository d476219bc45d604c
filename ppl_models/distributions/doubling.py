"""Recursions in time by pairwise doubling: a handful of batched operations in place of a loop.

A recursion whose steps compose associatively (affine maps, transition matrices, tables of states) need
not be walked step by step: neighbours are composed in pairs, then pairs of pairs, so that ``length`` steps
take about log2(length) operations. A loop of 400 steps makes a graph of thousands of nodes, which takes
long to trace and to differentiate; this one has under a hundred.

Source: Hillis and Steele (1986), "Data parallel algorithms", Communications of the ACM 29; Blelloch
(1990), "Prefix sums and their applications", CMU-CS-90-190.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Steps = tuple[Tensor, ...]
Combine = Callable[[Steps, Steps], Steps]


def prefixes(combine: Combine, steps: Steps) -> Steps:
    """Compose all steps up to each time.

    Args:
        combine: (earlier, later) -> the two composed, batched over the leading axis; associative.
        steps: tensors whose leading axis is time, all of the same length.

    Returns:
        Tensors of the same shapes: at time t, steps 0 to t composed.

    Example:
        >>> import torch
        >>> prefixes(lambda a, b: (a[0] + b[0],), (torch.arange(1.0, 6.0),))[0]
        tensor([ 1.,  3.,  6., 10., 15.])
    """
    length, shift = steps[0].shape[0], 1
    while shift < length:
        earlier = tuple(s[: length - shift] for s in steps)
        later = tuple(s[shift:] for s in steps)
        joined = combine(earlier, later)
        steps = tuple(torch.cat([s[:shift], j]) for s, j in zip(steps, joined, strict=True))
        shift *= 2
    return steps


def total(combine: Combine, steps: Steps) -> Steps:
    """Compose all steps into one.

    Args:
        combine: (earlier, later) -> the two composed, batched over the last axis; associative.
        steps: tensors whose *last* axis is time, all of the same length, at least 1: what is composed, such
            as small matrices, stands before it, so that every operation runs along the time.

    Returns:
        Tensors without the last axis.

    Example:
        >>> import torch
        >>> total(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (torch.full((5,), 2.0), torch.ones(5)))
        (tensor(32.), tensor(31.))
    """
    while (length := steps[0].shape[-1]) > 1:
        even = length // 2 * 2
        earlier = tuple(s[..., 0:even:2] for s in steps)
        later = tuple(s[..., 1:even:2] for s in steps)
        joined = combine(earlier, later)
        steps = tuple(torch.cat([j, s[..., even:]], -1) for s, j in zip(steps, joined, strict=True))
    return tuple(s[..., 0] for s in steps)


def linear_recursion(decay: Tensor, shock: Tensor) -> Tensor:
    """Solve ``s_t = decay_t s_{t-1} + shock_t`` with ``s_{-1} = 0``.

    Args:
        decay, shock: broadcastable, time on the last axis; a start value goes into the first shock.

    Returns:
        All states, (*broadcast shape).

    Example:
        >>> import torch
        >>> linear_recursion(torch.tensor(0.5), torch.tensor([8.0, 0.0, 4.0]))
        tensor([8., 4., 6.])
    """
    decay, shock = torch.broadcast_tensors(decay, shock)
    steps = (decay.movedim(-1, 0), shock.movedim(-1, 0))
    return prefixes(_affine, steps)[1].movedim(0, -1)


def _affine(earlier: Steps, later: Steps) -> Steps:
    """Apply one affine map after another."""
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]
