"""A known law with labels, p(x) = sum_y p(y) p(x | y): what everything estimated is laid beside.

A truth gives p(y), log p(x | y) and draws of x given y; densities, draws and Bayes' rule follow.
It is a torch distribution, so :func:`experiments.compare.divergence` takes it as it is.
All log densities are in nats and float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

# Cells per side of the grid for an entropy: the error is below 1e-6 nats for every density here
# (tests/experiments/truth/test_densities.py holds it against twice as many and against draws).
ENTROPY_CELLS = 300


class Labelled(NamedTuple):
    """Rows x, (rows, *event), and their labels y, (rows,), int64."""

    x: Tensor
    y: Tensor


class Law(Distribution, ABC):
    """A law over rows x with classes y. A subclass writes down ``log_prob_by_class`` and ``sample_given``.

    Parameters
    ----------
    weights
        p(y), (classes,); one class where there are no labels.
    dimensions
        Length of a row x.
    bounds
        (low, high) of every coordinate: a square for figures, and for integrals by a grid.

    Raises
    ------
    ValueError
        If ``weights`` is not a vector of probabilities.
    """

    arg_constraints = {}
    support = constraints.real_vector
    # Centres of the modes, (modes, dimensions), each a class; None where modes are not points.
    modes: Tensor | None = None

    def __init__(self, weights: Tensor, dimensions: int = 2, bounds: tuple[float, float] = (-4.0, 4.0)):
        weights = torch.as_tensor(weights).double()
        if weights.ndim != 1 or not (weights >= 0).all() or abs(weights.sum().item() - 1) > 1e-6:
            raise ValueError(f"weights: expected (classes,) probabilities that sum to 1, got {weights}")
        self.weights, self.bounds = weights / weights.sum(), bounds
        super().__init__(event_shape=Size([dimensions]), validate_args=False)

    @abstractmethod
    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | y) for every y: (..., dimensions), float64 -> (..., classes)."""

    @abstractmethod
    def sample_given(self, y: Tensor) -> Tensor:
        """Draw one x for every label: (rows,) -> (rows, dimensions); from torch's global generator."""

    @property
    def classes(self) -> int:
        """How many values y has."""
        return len(self.weights)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(x), y summed out: (..., dimensions) -> (...), -inf where the density is 0."""
        return self._log_joint(value).logsumexp(-1).to(value.device)

    def log_prob_given(self, x: Tensor, y: Tensor) -> Tensor:
        """Log p(x | y), row by row: (..., dimensions) and (...) -> (...)."""
        log_prob = self.log_prob_by_class(self._rows(x))
        y = torch.as_tensor(y, device="cpu").expand(log_prob.shape[:-1])
        return log_prob.gather(-1, y.unsqueeze(-1)).squeeze(-1).to(x.device)

    def probabilities(self, x: Tensor) -> Tensor:
        """Bayes' rule, p(y | x): (..., dimensions) -> (..., classes); NaN where p(x) is 0."""
        return self._log_joint(x).softmax(-1).to(x.device)

    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw x, (*sample_shape, dimensions), from torch's global generator."""
        rows = Size(sample_shape).numel()
        with torch.no_grad():
            return self._draw(rows).x.reshape(*sample_shape, *self.event_shape)

    def sample_labelled(self, rows: int, seed: int = 0) -> Labelled:
        """Draw rows with their labels; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            return self._draw(rows)

    def entropy(self) -> Tensor:
        """-E[log p(x)] in nats, by a midpoint rule on ``bounds`` unless a closed form replaces it.

        Raises
        ------
        ValueError
            If rows are not two-dimensional: estimate it by draws, ``-law.log_prob(x).mean()``.
        """
        if self.event_shape != (2,):
            raise ValueError(
                f"entropy: expected rows of 2 for a grid, got {tuple(self.event_shape)}; "
                "estimate it by draws, -law.log_prob(x).mean()"
            )
        points, area = grid(self.bounds, ENTROPY_CELLS)
        log_prob = self.log_prob(points)
        return -(torch.special.xlogy(log_prob.exp(), log_prob.exp())).sum() * area

    def _draw(self, rows: int) -> Labelled:
        y = torch.multinomial(self.weights, rows, replacement=True) if rows else torch.zeros(0).long()
        return Labelled(self.sample_given(y), y)

    def _log_joint(self, x: Tensor) -> Tensor:
        return self.log_prob_by_class(self._rows(x)) + self.weights.log()

    def _rows(self, x: Tensor) -> Tensor:
        if x.ndim < 1 or x.shape[-1:] != self.event_shape:
            raise ValueError(f"x: expected (..., {self.event_shape[0]}), got {tuple(x.shape)}")
        return x.to("cpu", torch.float64)


def grid(bounds: tuple[float, float], cells: int) -> tuple[Tensor, float]:
    """Midpoints of the square cells of a square, (cells * cells, 2), and the area of one cell.

    The first coordinate varies slowest: ``values.reshape(cells, cells).T`` is an image whose rows
    are the second coordinate.

    Raises
    ------
    ValueError
        If ``cells`` is below 1 or ``bounds`` is not (low, high) with low below high.

    Examples
    --------
    >>> points, area = grid((-4.0, 4.0), 4)
    >>> points.shape, area, points[0].tolist()
    (torch.Size([16, 2]), 4.0, [-3.0, -3.0])
    """
    low, high = bounds
    if cells < 1 or not low < high:
        raise ValueError(f"bounds, cells: expected low < high and at least 1 cell, got {bounds}, {cells}")
    side = (high - low) / cells
    middle = low + side * (torch.arange(cells).double() + 0.5)
    return torch.cartesian_prod(middle, middle), side * side
