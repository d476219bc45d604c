"""Sums of products of exponentials, in log space: what Pyro's contraction is carried out by.

``pyro.ops.einsum.torch_log`` does the same with a logarithm that ``torch.vmap`` cannot batch; here everything
can be, so that a contraction may be done for many assignments of other sites at once.
"""

from __future__ import annotations

import string

import torch
from pyro.ops.einsum.util import Tensordot
from pyro.ops.rings import LogRing
from torch import Tensor

__all__ = ["Ring", "einsum", "tensordot", "transpose"]


class Ring(LogRing):
    """Pyro's ring of sums and products in log space, with the operations of this file."""

    _backend = __name__


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """Log of the sum of products of exponentials.

    Args:
        equation: as of ``torch.einsum``; symbols may be any characters.
        operands: log terms, in nats; -inf where impossible.

    Example:
        >>> import torch
        >>> p, q = torch.tensor([[0.2, 0.8], [0.5, 0.5]]), torch.tensor([0.3, 0.7])
        >>> einsum("ij,j->i", p.log(), q.log()).exp()
        tensor([0.6200, 0.5000])
    """
    symbols = dict(zip(sorted(set(equation) - set(",->")), string.ascii_letters, strict=False))
    inputs, output = equation.split("->")
    if inputs == output:
        return operands[0].clone()  # whoever marks the result marks nothing else
    shifts, parts = [], []
    for dims, operand in zip(inputs.split(","), operands, strict=True):
        shift = operand.detach()
        summed = [i for i, symbol in enumerate(dims) if symbol not in output]
        shift = shift.amax(summed, keepdim=True) if summed else shift
        shift = shift.clamp(min=torch.finfo(shift.dtype).min)  # of what is impossible throughout
        parts.append((operand - shift).exp())
        shifts.append(_aligned(shift, dims, output))
    renamed = "".join(symbols.get(symbol, symbol) for symbol in equation)
    total = _log(torch.einsum(renamed, parts))
    for shift in shifts:
        total = total + shift
    return total


def _aligned(shift: Tensor, dims: str, output: str) -> Tensor:
    """What was taken off an operand, with the output's dimensions."""
    size = dict(zip(dims, shift.shape, strict=True))
    kept = sorted((symbol for symbol in dims if symbol in output), key=output.index)
    gone = [i for i, symbol in enumerate(dims) if symbol not in output]
    moved = shift.permute([*(dims.index(symbol) for symbol in kept), *gone])
    return moved.reshape([size.get(symbol, 1) for symbol in output])


def _log(value: Tensor) -> Tensor:
    """Log, with gradient 0 at 0."""
    tiny = torch.finfo(value.dtype).tiny
    return torch.where(value > 0, value.clamp(min=tiny).log(), -torch.inf)


def transpose(value: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Permute dimensions."""
    return value.permute(axes)


tensordot = Tensordot(einsum)
