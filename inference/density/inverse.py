"""From sites' values back to the unconstrained vector, with the Jacobian that goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.compiler.vmapped import Vmapped
from inference.density.log_density import LogDensity
from inference.story.bijections import bijection
from inference.story.handlers import Known, Slot

_CLOSE = 1e-4  # relative; how near a value must come to itself on the way there and back


def unconstrained(density: LogDensity, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Map values of the unknown sites to unconstrained vectors; call inside :func:`isolated`.

    A density of the values becomes one of the vectors when the second result is added to its logarithm.

    Args:
        density: of a story and its data, without half-seen sites.
        values: site -> (draws, *site shape).

    Returns:
        (draws, size), and log abs det of the derivative of values by vectors (draws,), in nats. Both are NaN
        or infinite for values outside of a site's support or at its edge.
    """

    def one(each: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        placed = placed_at(density, each)
        pieces = torch.cat([placed.pieces[n].reshape(-1) for n in density.names])
        return pieces, torch.stack([placed.log_det[n] for n in density.names]).sum()

    return Vmapped(one, density.run_cost)(values)


class Placed(Messenger):
    """Put values at continuous latent sites; keep their unconstrained images and log Jacobians by site."""

    def __init__(self, values: Mapping[str, Tensor], slots: Mapping[str, Slot]) -> None:
        super().__init__()
        self.values, self.slots = values, slots
        self.pieces: dict[str, Tensor] = {}
        self.log_det: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self.slots or self.slots[name].index is not None:
            return
        value, transform = self.values[name], bijection(msg["fn"].support)
        piece = transform.inv(value)
        self.pieces[name] = piece
        back = transform(piece)
        there = ((back - value).abs() <= _CLOSE * (1 + value.abs().amax())).all()
        log_det = transform.log_abs_det_jacobian(piece, value).sum()
        self.log_det[name] = torch.where(there, log_det, torch.nan)
        msg["value"] = value


def placed_at(density: LogDensity, values: Mapping[str, Tensor]) -> Placed:
    """One run of the story at values of its unknown sites (*site shape), and what became of them."""
    placed = Placed(values, density.slots)
    known = Known(density.data, density.plan.seen, density.plan.summed, density._stand_in())
    with EnumMessenger(-1 - density.structure.nesting), placed, known:
        density.structure.call()
    return placed
