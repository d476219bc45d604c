"""Many problems of one shape, evaluated in one call: replicates of one density, or one story's data sets.

Every rung of the ladder works on problems: it moves all restarts of a fit (or all data sets of a batch) at
once, since the gradients of four times as many draws cost little more.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from inference.density.log_density import LogDensity

_UNTRACED = 2**22  # elements that a run of plain Pyro is worth, for one draw


class Problems(Protocol):
    """``count`` log densities over vectors of ``size`` unknowns each."""

    @property
    def count(self) -> int:
        """Number of problems."""

    @property
    def size(self) -> int:
        """Unknowns of each."""

    @property
    def cost(self) -> int:
        """Elements of the largest intermediate per draw."""

    @property
    def gradient_calls(self) -> int:
        """Batched gradients taken so far."""

    def log_prob(self, z: Tensor, which: Tensor | None = None) -> Tensor:
        """(problems, draws, size) -> (problems, draws), in nats; ``which`` picks the problems meant."""

    def value_and_grad(self, z: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, with gradients (problems, draws, size)."""


class Replicates:
    """One density as several problems: the restarts of a fit.

    Args:
        density: the target.
        count: number of restarts.
    """

    def __init__(self, density: LogDensity, count: int) -> None:
        self.density, self.count, self.size = density, count, density.size
        self.cost = density.cost if density.traced else _UNTRACED

    @property
    def gradient_calls(self) -> int:
        """Batched gradients taken so far."""
        return self.density.gradient_calls

    def log_prob(self, z: Tensor, which: Tensor | None = None) -> Tensor:
        """(problems, draws, size) -> (problems, draws), in nats."""
        return self.density.log_prob(z.reshape(-1, self.size)).reshape(z.shape[:-1])

    def value_and_grad(self, z: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, with gradients (problems, draws, size)."""
        value, grad = self.density.value_and_grad(z.reshape(-1, self.size))
        return value.reshape(z.shape[:-1]), grad.reshape(z.shape)


def draws_of(problems: Problems, usual: int, fewest: int) -> int:
    """How many draws a problem may have: fewer than usual where one of them already costs much.

    Even, and such that all problems' draws together touch at most about 2^24 elements at a time.
    """
    affordable = 2**24 // max(1, problems.cost * problems.count)
    return max(fewest, min(usual, affordable)) // 2 * 2
