"""Climb many log densities at once by limited-memory BFGS, all starts in lockstep.

Every call evaluates one trial point of every start: those that rose enough take the step and ask for the
next direction, the others shorten theirs. The inverse Hessian is in compact form (Byrd, Nocedal and
Schnabel 1994, "Representations of quasi-Newton matrices", theorem 2.2), so that a direction is a handful of
batched products, and the Gaussians along the path (Zhang, Carpenter, Gelman and Vehtari 2022,
"Pathfinder", JMLR 23) cost no further gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.density.problems import Problems
from inference.guides.gaussian import Gaussian

_MEMORY = 10  # pairs of steps and gradient differences
_CALLS = 80  # batched gradients at most: the rung that follows needs a start, not a mode
_ENOUGH = 0.1  # nats
_PATIENCE = 1.5  # the last quarter of the starts is given up after this many times what half of them took
_ARMIJO = 1e-4
_SHORTEST = 1e-8
_ALONG = (2, 4, 7, 11, 16, 24, 36, 54)  # steps after which the path is remembered


@dataclass(frozen=True)
class Climb:
    """Where many starts arrived.

    Attributes:
        points: (problems, starts, size).
        values: (problems, starts) log densities, in nats.
        path: some of the steps on the way: positions, gradients and inverse Hessians.
    """

    points: Tensor
    values: Tensor
    path: list[Waypoint]


@dataclass(frozen=True)
class Waypoint:
    """A step on the way of all starts: (problems, starts, size) point and gradient, with the memory."""

    point: Tensor
    grad: Tensor
    memory: Memory

    def gaussian(self, pick: Tensor) -> Gaussian:
        """The quasi-Newton Gaussian of one start of each problem.

        Args:
            pick: (problems,) which start.
        """
        rows = torch.arange(len(pick))
        memory = self.memory.of(rows * self.point.shape[1] + pick)
        covariance = memory.dense()
        point, grad = self.point[rows, pick], self.grad[rows, pick]
        factor, failed = torch.linalg.cholesky_ex(covariance)
        unit = torch.eye(point.shape[-1], dtype=torch.float64)
        factor = torch.where((failed == 0)[:, None, None], factor, unit)
        return Gaussian(point + memory.times(grad), factor)


@dataclass(frozen=True)
class Memory:
    """The last steps S and differences Y of the negative gradient, (batch, pairs, size), oldest first."""

    s: Tensor
    y: Tensor

    @staticmethod
    def empty(batch: int, size: int) -> Memory:
        """No pairs yet."""
        none = torch.zeros(batch, 0, size, dtype=torch.float64)
        return Memory(none, none)

    def of(self, index: Tensor) -> Memory:
        """Some of the batch."""
        return Memory(self.s[index], self.y[index])

    def add(self, s: Tensor, y: Tensor, good: Tensor) -> Memory:
        """With one more pair; a row whose pair is no good (or that made no step) keeps its memory."""
        new_s = torch.cat([self.s, s[:, None]], 1)[:, -_MEMORY:]
        new_y = torch.cat([self.y, y[:, None]], 1)[:, -_MEMORY:]
        if new_s.shape[1] == self.s.shape[1]:
            keep_s, keep_y = self.s, self.y
        else:  # a zero pair in front changes nothing
            zero = torch.zeros_like(s[:, None])
            keep_s, keep_y = torch.cat([zero, self.s], 1), torch.cat([zero, self.y], 1)
        mask = good[:, None, None]
        return Memory(torch.where(mask, new_s, keep_s), torch.where(mask, new_y, keep_y))

    def _compact(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scale gamma (batch, 1, 1), inverse of R, the middle block, and a mask of rows without pairs."""
        inner = self.s @ self.y.mT  # s_i . y_j
        diagonal = inner.diagonal(dim1=-2, dim2=-1)
        empty = diagonal == 0
        upper = inner.triu() + torch.diag_embed(empty.double())
        squares = self.y @ self.y.mT
        last = squares[:, -1, -1]
        gamma = torch.where(last > 0, diagonal[:, -1] / last.clamp(min=1e-300), 1.0)[:, None, None]
        unit = torch.eye(inner.shape[-1], dtype=torch.float64).expand_as(inner)
        inverse = torch.linalg.solve_triangular(upper, unit, upper=True)
        middle = inverse.mT @ (torch.diag_embed(diagonal) + gamma * squares) @ inverse
        return gamma, inverse, middle, empty

    def times(self, v: Tensor) -> Tensor:
        """Inverse Hessian times (batch, size)."""
        if self.s.shape[1] == 0:
            return v
        gamma, inverse, middle, _ = self._compact()
        a, b = self.s @ v[..., None], gamma * (self.y @ v[..., None])
        first, second = middle @ a - inverse.mT @ b, -(inverse @ a)
        return (gamma * v[..., None] + self.s.mT @ first + gamma * (self.y.mT @ second))[..., 0]

    def dense(self) -> Tensor:
        """The inverse Hessian (batch, size, size)."""
        size = self.s.shape[-1]
        unit = torch.eye(size, dtype=torch.float64).expand(len(self.s), size, size)
        if self.s.shape[1] == 0:
            return unit
        gamma, inverse, middle, _ = self._compact()
        cross = self.s.mT @ (inverse.mT @ self.y)
        full = gamma * unit + self.s.mT @ middle @ self.s - gamma * (cross + cross.mT)
        return (full + full.mT) / 2


def climb(
    problems: Problems,
    points: Tensor,
    calls: int = _CALLS,
    enough: float = _ENOUGH,
    strides: Tensor | None = None,
) -> Climb:
    """Climb from all starts until the steps gain little.

    Args:
        problems: the targets.
        points: (problems, starts, size) with finite log density and gradient.
        calls: batched gradients at most.
        enough: gain in nats; a start whose last two steps gained less has arrived.
        strides: (problems, starts) length of the first trial step, lest it lead out of a narrow mode; 1 by
            default.
    """
    shape = points.shape
    x = points.reshape(-1, shape[-1])
    value, grad = _evaluate(problems, x, shape)
    memory = Memory.empty(len(x), shape[-1])
    direction = grad / grad.norm(dim=-1, keepdim=True).clamp(min=1.0)
    length = torch.ones(len(x), dtype=torch.float64) if strides is None else strides.flatten()
    slow = torch.zeros(len(x), dtype=torch.long)
    steps, path, half = 0, [], calls
    for call in range(calls):
        active = (slow < 2) & (length > _SHORTEST)
        under_way = int(active.sum())
        half = min(half, call) if 2 * under_way <= len(x) else half
        if under_way == 0 or (4 * under_way <= len(x) and call >= _PATIENCE * half):
            break
        slope = (direction * grad).sum(-1)
        trial = x + (length * active)[:, None] * direction
        new_value, new_grad = _evaluate(problems, trial, shape)
        rise = new_value - value
        fine = active & (rise >= _ARMIJO * length * slope) & torch.isfinite(new_grad).all(-1)
        s, y = trial - x, grad - new_grad
        curved = fine & ((s * y).sum(-1) > 1e-10 * s.norm(dim=-1) * y.norm(dim=-1))
        slow = torch.where(fine, torch.where(rise < enough, slow + 1, 0), slow)
        x = torch.where(fine[:, None], trial, x)
        grad = torch.where(fine[:, None], new_grad, grad)
        value = torch.where(fine, new_value, value)
        length = torch.where(fine, 1.0, torch.where(active, length * _shorter(rise, length * slope), length))
        if bool(fine.any()):
            memory = memory.add(s, y, curved)
            direction = torch.where(fine[:, None], _ascent(memory, grad), direction)
            steps += 1
            if steps in _ALONG:
                path.append(Waypoint(x.reshape(shape), grad.reshape(shape), memory))
    path.append(Waypoint(x.reshape(shape), grad.reshape(shape), memory))
    return Climb(x.reshape(shape), value.reshape(shape[:-1]), path)


def _ascent(memory: Memory, grad: Tensor) -> Tensor:
    """The quasi-Newton direction, or the gradient where that does not rise."""
    direction = memory.times(grad)
    rising = (direction * grad).sum(-1, keepdim=True) > 0
    plain = grad / grad.norm(dim=-1, keepdim=True).clamp(min=1.0)
    return torch.where(rising & torch.isfinite(direction).all(-1, keepdim=True), direction, plain)


def _shorter(rise: Tensor, expected: Tensor) -> Tensor:
    """Factor for a step that did not rise: the top of the parabola, within a tenth and a half."""
    factor = expected / (2 * (expected - rise)).clamp(min=1e-300)
    return torch.where(torch.isfinite(rise), factor.clamp(0.1, 0.5), 0.1)


def _evaluate(problems: Problems, x: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    value, grad = problems.value_and_grad(x.reshape(shape))
    value = torch.where(torch.isfinite(value), value, -torch.inf)
    return value.reshape(-1), grad.reshape(-1, shape[-1])
