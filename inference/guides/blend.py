"""Two proposals as one: most draws from the first, some from the second, all weighed against both.

A flow fits best where most of the mass is, and may be thin where it was never trained; a mixture of
Student t's is thin nowhere. Weights against their blend are bounded by those of either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_SECOND = 5  # every so many draws one is the second's


@dataclass(frozen=True)
class Blend:
    """Four draws of five from ``first``, one from ``second``; each is a proposal for many problems."""

    first: Any
    second: Any

    @property
    def count(self) -> int:
        """Number of problems."""
        return int(self.first.count)

    def of(self, which: Tensor | None) -> Blend:
        """Those of some problems."""
        return Blend(self.first.of(which), self.second.of(which))

    def put(self, rows: Tensor, other: Blend) -> Blend:
        """With some problems' proposals replaced."""
        return Blend(self.first.put(rows, other.first), self.second.put(rows, other.second))

    def sample(self, count: int, generators: list[torch.Generator]) -> Tensor:
        """Draw (problems, count, size)."""
        z = self.first.sample(count, generators).clone()
        some = z[:, 1::_SECOND].shape[1]  # not the first: what is kept of a pool that fails are even ones
        z[:, 1::_SECOND] = self.second.sample(some, generators)
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of the blend (problems, draws), in nats."""
        first = self.first.log_prob(z).nan_to_num(nan=-math.inf)  # a flow's inverse may overflow far out
        second = self.second.log_prob(z)
        return torch.logaddexp(first + math.log1p(-1 / _SECOND), second - math.log(_SECOND))
