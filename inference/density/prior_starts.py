"""Starts from the prior, in unconstrained space: as far out as the story itself thinks possible."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.density.log_density import LogDensity
from inference.story.bijections import bijection
from inference.story.handlers import Slot

_MANY = 200


def prior_starts(density: LogDensity, count: int, seed: int) -> Tensor | None:
    """Draw unknowns from the prior.

    Args:
        density: of a story and its data. The data's own sites are not drawn, which may take long: they keep
            their values, and pull at nothing.
        count: how many draws.
        seed: of the story's own random numbers.

    Returns:
        (count, size); ``None`` where a prior is improper. Runs that the story forbids are NaN, as are missing
        elements of half-seen sites, and what lies on the edge of its support.
    """
    call = density.structure.call
    seen = {name: one.value for name, one in density.observations.items() if one.complete}
    story = poutine.condition(call, data=seen)
    rows = []
    with call.room(seed):
        for _ in range(count):
            row = torch.full((density.size,), math.nan, dtype=torch.float64)
            rows.append(row)
            try:
                run: Any = poutine.trace(story).get_trace()
            except NotImplementedError:  # an improper prior
                return None
            except (RuntimeError, ValueError, ArithmeticError, LookupError):  # not at these values
                continue
            for name, slot in density.slots.items():
                row[slot.start : slot.stop] = _unconstrained(run.nodes[name], slot)
    return torch.stack(rows)


def many_prior_starts(density: LogDensity, generator: torch.Generator) -> Tensor | None:
    """Many starts from the prior, for a fit that has none elsewhere; missing elements start at 0.

    Args:
        density: as in :func:`prior_starts`.
        generator: that of the restart concerned.

    Returns:
        (draws, size); ``None`` where a prior is improper.
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    points = prior_starts(density, _MANY, seed)
    return None if points is None else points.nan_to_num(0.0)


def where_finite(density: LogDensity, z: Tensor) -> Tensor:
    """The points; as many from the prior where the density is finite, if it is finite at none of them."""
    if bool(torch.isfinite(density.log_prob(z)).any()):
        return z
    more = many_prior_starts(density, torch.Generator().manual_seed(2))
    if more is None:
        return z
    more = more[torch.isfinite(density.log_prob(more))][: len(z)]
    return torch.cat([more, z[len(more) :]])


def _unconstrained(node: Any, slot: Slot) -> Tensor:
    if slot.index is not None:
        return torch.full((slot.stop - slot.start,), math.nan, dtype=torch.float64)
    value = bijection(node["fn"].support).inv(node["value"].detach())
    return torch.where(torch.isfinite(value), value, torch.nan).double().reshape(-1)
