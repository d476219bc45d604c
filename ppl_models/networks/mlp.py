"""A small fully connected network, and labels as inputs of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(inputs: int, hidden: int, outputs: int, layers: int = 2, zero: bool = False) -> nn.Sequential:
    """Return a network of ``layers`` hidden layers with SiLU between them: (..., inputs) -> (..., outputs).

    Args:
        inputs, hidden, outputs: widths, each at least 1.
        layers: hidden layers, at least 1.
        zero: start the last layer at zero, so that the network starts as the constant 0.

    Source: Elfwing, Uchibe and Doya (2018), Neural Networks 107 (the SiLU, smooth enough to be
    differentiated twice, as energies and gradient penalties are).

    Example:
        >>> with torch.random.fork_rng():
        ...     mlp(2, 8, 3, zero=True)(torch.randn(5, 2)).abs().sum().item()
        0.0
    """
    widths = [inputs] + layers * [hidden]
    parts: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        parts += [nn.Linear(before, after), nn.SiLU()]
    last = nn.Linear(hidden, outputs)
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*parts, last)


def one_hot(y: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Labels 0..classes-1 as indicator rows (*y.shape, classes), whatever the labels' own dtype.

    Example:
        >>> one_hot(torch.tensor([2.0, 0.0]), 3, torch.float32).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return torch.eye(classes, dtype=dtype, device=y.device)[y.long()]


def beside(x: Tensor, context: Tensor | None) -> Tensor:
    """Concatenate ``x`` (..., features) and ``context`` (..., width), their batches broadcast.

    Example:
        >>> beside(torch.zeros(5, 2), torch.ones(3, 1, 4)).shape
        torch.Size([3, 5, 6])
    """
    if context is None:
        return x
    batch = torch.broadcast_shapes(x.shape[:-1], context.shape[:-1])
    return torch.cat([x.expand(*batch, -1), context.expand(*batch, -1)], -1)
