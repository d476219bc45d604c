"""A task of a benchmark of simulation-based inference whose likelihood is known: a story, and true draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


def theta(draws: Mapping[str, Tensor]) -> Tensor:
    """Return the site ``theta``: (restart, draw, d) -> (draws, d)."""
    return draws["theta"].flatten(0, 1)


@dataclass(frozen=True)
class BenchmarkTask:
    """One observation's question, and its answer.

    Attributes
    ----------
    story, args, data
        What is fitted.
    reference
        (number, seed) -> draws of the posterior, (number, d), that owe nothing to the fit.
    how
        How they are drawn, in words.
    published
        Name -> mean C2ST accuracy over the benchmark's ten observations, at 100,000 simulations.
    parameters
        From a fit's draws, site -> (restart, draw, *shape), to rows like the reference's.
    """

    story: Callable[..., Any]
    args: tuple[Any, ...]
    data: Mapping[str, Tensor]
    reference: Callable[[int, int], Tensor]
    how: str
    published: Mapping[str, float]
    parameters: Callable[[Mapping[str, Tensor]], Tensor] = theta


def accepted(propose: Callable[[int], tuple[Tensor, Tensor]], number: int) -> Tensor:
    """Draw by rejection: ``propose(n)`` returns rows (n, d) and which of them to keep (n,).

    Examples
    --------
    >>> import torch
    >>> def tails(n):
    ...     x = torch.randn(n, 1)
    ...     return x, x[:, 0].abs() > 2
    >>> rows = accepted(tails, 10)
    >>> rows.shape, bool((rows.abs() > 2).all())
    (torch.Size([10, 1]), True)

    Raises
    ------
    ValueError
        If fewer than one in 10,000 is kept.
    """
    import torch

    kept: list[Tensor] = []
    tried, found = 0, 0
    while found < number:
        rows, keep = propose(max(number, 1000))
        kept.append(rows[keep])
        tried, found = tried + len(rows), found + int(keep.sum())
        if found * 10_000 < tried and tried > 1_000_000:
            raise ValueError(f"propose: expected at least one in 10,000 to be kept, got {found} of {tried}")
    return torch.cat(kept)[:number]
