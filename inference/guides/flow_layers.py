"""The layers of the flow: monotone in each coordinate, with the Jacobian's products written by hand.

A layer maps x to y, both (problems, size, draws), and knows the log determinant of its Jacobian J. Besides
the inverse, two products are wanted in training, and automatic differentiation has no way to the second one:

- ``pull``: a cotangent of y, and of the log determinant, back to x and to the layer's parameters;
- ``push``: the gradient of a log density at x forward to that at y, J^-T (g - grad log det).

Each problem has parameters of its own. Draws come last, so that operations on a few coordinates are
operations on contiguous memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

REACH = 20.0  # nats to which a log scale is softly clipped

Weights = Mapping[str, Tensor]


class Seen(NamedTuple):
    """What a pass forward leaves for the products."""

    x: Tensor  # in the layer's own order
    hidden: Tensor
    stretch: Tensor  # exp(log scale)
    slope: Tensor  # of the clipped log scale
    weights: Weights


@dataclass(frozen=True)
class Autoregressive:
    """y_i = m_i + x_i exp(s_i), where m_i and s_i are functions of the coordinates before i.

    One hidden layer of masked weights (Germain et al. 2015, "MADE"; Kingma et al. 2016, "inverse
    autoregressive flow") beside a linear map, so that zero output weights are the identity, and a log scale
    that is linear in another unknown, as in Neal's funnel, is reached at once. Log scales are clipped softly
    (Andrade 2024). The coordinates come in blocks; within one they do not see each other, and what needs
    them one after another (``push`` and ``inverse``) takes as many stages as there are blocks. Two blocks
    are the coupling layer of RealNVP.

    Attributes:
        order: of the coordinates, a permutation.
        edges: where the blocks begin and end in that order, from 0 to the number of unknowns.
        hidden: units, shared out among all blocks but the last.
    """

    order: tuple[int, ...]
    edges: tuple[int, ...]
    hidden: int

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return len(self.order)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.edges) - 1

    @cached_property
    def units(self) -> tuple[int, ...]:
        """Where the hidden units of every block but the last begin and end."""
        groups = max(1, self.blocks - 1)
        return tuple(round(self.hidden * k / groups) for k in range(groups + 1))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters, by name. Output rows are the shift and the log scale of each coordinate."""
        d, h = self.size, self.hidden
        return {"inner": (h, d), "bias": (h, 1), "outer": (2 * d, h), "skip": (2 * d, d), "shift": (2 * d, 1)}

    @cached_property
    def masks(self) -> dict[str, Tensor]:
        """Which weights may differ from zero; a layer takes weights that are masked already."""
        block = torch.bucketize(torch.arange(self.size), torch.tensor(self.edges[1:]), right=True)
        group = torch.bucketize(torch.arange(self.hidden), torch.tensor(self.units[1:]), right=True)
        both = block.repeat_interleave(2)[:, None]
        masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in self.shapes.items()}
        return masks | {"inner": block <= group[:, None], "outer": group < both, "skip": block < both}

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights of the identity: random inside, zero towards the output."""
        out = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in self.shapes.items()}
        seen = self.masks["inner"].sum(1, keepdim=True).clamp(min=1)
        normal = torch.randn(self.shapes["inner"], generator=generator, dtype=torch.float64)
        out["inner"] = normal * self.masks["inner"] / seen.double().sqrt()
        out["bias"] = torch.randn(self.shapes["bias"], generator=generator, dtype=torch.float64)
        return out

    @cached_property
    def _index(self) -> Tensor | None:
        return None if self.order == tuple(range(self.size)) else torch.tensor(self.order)

    @cached_property
    def _back(self) -> Tensor | None:
        return None if self._index is None else torch.argsort(self._index)

    def _in(self, x: Tensor) -> Tensor:
        return x if self._index is None else x[:, self._index]

    def _out(self, x: Tensor) -> Tensor:
        return x if self._back is None else x[:, self._back]

    def forward(self, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor, Seen]:
        """Map x to y; returns y, the log determinant (problems, draws), and what the products need."""
        x = self._in(x)
        hidden = torch.baddbmm(weights["bias"], weights["inner"], x).tanh_()
        out = torch.baddbmm(weights["shift"], weights["outer"], hidden).baddbmm_(weights["skip"], x)
        shift, raw = out.unflatten(1, (-1, 2)).unbind(2)
        clipped = (raw / REACH).tanh_()
        log_scale = REACH * clipped
        stretch = log_scale.exp()
        y = torch.addcmul(shift, x, stretch)
        return self._out(y), log_scale.sum(1), Seen(x, hidden, stretch, _slope(clipped), weights)

    def pull(
        self, seen: Seen, cotangent: Tensor, determinant: float = 0.0, *, inside: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Bring a cotangent of y, and ``determinant`` times that of the log determinant, back to x.

        Returns it with the gradients of the parameters, summed over draws; none unless ``inside``.
        """
        weights, cotangent = seen.weights, self._in(cotangent)
        grown = cotangent * seen.stretch
        scales = (grown * seen.x).add_(determinant).mul_(seen.slope)
        toward = torch.stack([cotangent, scales], 2).flatten(1, 2)
        units = torch.bmm(weights["outer"].mT, toward).mul_(_slope(seen.hidden))
        back = grown.baddbmm_(weights["inner"].mT, units).baddbmm_(weights["skip"].mT, toward)
        if not inside:
            return self._out(back), {}
        across = seen.x.mT
        grads = {
            "inner": torch.bmm(units, across),
            "bias": units.sum(-1, keepdim=True),
            "outer": torch.bmm(toward, seen.hidden.mT),
            "skip": torch.bmm(toward, across),
            "shift": toward.sum(-1, keepdim=True),
        }
        return self._out(back), grads

    def push(self, seen: Seen, score: Tensor) -> Tensor:
        """Bring the gradient of a log density at x forward to y: J^-T (score - grad log det).

        The Jacobian is triangular in the layer's order: the last block is known first, and what it owes to
        earlier coordinates is then taken off theirs.
        """
        edges, units, score = self.edges, self.units, self._in(score)
        inner, outer, skip = (seen.weights[name].mT for name in ("inner", "outer", "skip"))
        slope, owed = _slope(seen.hidden), torch.empty_like(seen.hidden)
        shrink, growth = seen.stretch.reciprocal(), seen.x * seen.stretch * seen.slope
        toward = score.new_empty(len(score), self.size, 2, score.shape[-1])
        (values, scales), flat = toward.unbind(2), toward.flatten(1, 2)
        for k in range(self.blocks - 1, -1, -1):
            here, late = slice(edges[k], edges[k + 1]), slice(2 * edges[k + 1], None)
            rest = score[:, here]
            if k < self.blocks - 1:
                rest = torch.baddbmm(rest, skip[:, here, late], flat[:, late], alpha=-1)
                rest.baddbmm_(inner[:, here, units[k] :], owed[:, units[k] :], alpha=-1)
            torch.mul(rest, shrink[:, here], out=values[:, here])
            torch.addcmul(seen.slope[:, here], growth[:, here], values[:, here], out=scales[:, here])
            if k:
                new, late = slice(units[k - 1], units[k]), slice(2 * edges[k], None)
                torch.mul(torch.bmm(outer[:, new, late], flat[:, late]), slope[:, new], out=owed[:, new])
        return self._out(values)

    def inverse(self, weights: Weights, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map y to x, block by block; returns x and the log determinant of the map *forward*."""
        y, edges, units = self._in(y), self.edges, self.units
        x, total = torch.empty_like(y), torch.zeros_like(y[:, 0])
        hidden = y.new_empty(len(y), self.hidden, y.shape[-1])
        for k in range(self.blocks):
            a, b, w = edges[k], edges[k + 1], units[k]
            rows = slice(2 * a, 2 * b)
            out = torch.baddbmm(weights["shift"][:, rows], weights["skip"][:, rows, :a], x[:, :a])
            out = out.baddbmm_(weights["outer"][:, rows, :w], hidden[:, :w])
            shift, raw = out.unflatten(1, (-1, 2)).unbind(2)
            log_scale = REACH * (raw / REACH).tanh_()
            x[:, a:b] = (y[:, a:b] - shift) / log_scale.exp()
            total += log_scale.sum(1)
            if k < self.blocks - 1:
                new = slice(w, units[k + 1])
                inner = weights["inner"][:, new, :b]
                hidden[:, new] = torch.baddbmm(weights["bias"][:, new], inner, x[:, :b]).tanh_()
        return self._out(x), total


_ONE = torch.ones(())


def _slope(hidden: Tensor) -> Tensor:
    """Derivative of tanh, from its value."""
    return torch.addcmul(_ONE, hidden, hidden, value=-1)
