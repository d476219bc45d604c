"""Pyro messengers that tell a story which values are known, summed out, dropped or unknown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import constraints

from inference.story.bijections import bijection
from inference.story.observations import factorized_base, mask_elements


class HalfSeen(TorchDistribution):
    """A discrete distribution of which some elements were seen: 0 / -inf terms for those.

    Summing it out over its support sums over the missing elements only.
    """

    arg_constraints: dict[str, Any] = {}
    has_enumerate_support = True

    def __init__(self, base: Any, value: Tensor, seen: Tensor) -> None:
        self.base, self.value, self.seen = base, value, seen
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        """The support of the base distribution."""
        return self.base.support

    def log_prob(self, value: Tensor) -> Tensor:
        """Log mass, with values that contradict what was seen ruled out."""
        density = self.base.log_prob(value)
        return torch.where(self.seen & (value != self.value), -torch.inf, density)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The values of the base distribution."""
        return self.base.enumerate_support(expand)


class Known(Messenger):
    """Condition a story by site name, from outside.

    Args:
        values: site -> value. Observed in the story's density.
        seen: site -> boolean mask of ``values``: only these elements count in the density; an
            enumerated site is summed over the others.
        summed: discrete sites to be enumerated.
        dropped: site -> stand-in value. Not counted in the density: nothing that counts depends on it.
        resample: draw the elements of ``values`` that were not seen, instead of keeping what stands
            there.
        free: sites that the story observes itself and that are to be drawn anew.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        seen: Mapping[str, Tensor] | None = None,
        summed: Collection[str] = (),
        dropped: Mapping[str, Tensor] | None = None,
        *,
        resample: bool = False,
        free: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.values, self.seen = values, seen or {}
        self.summed, self.dropped = summed, dropped or {}
        self.resample, self.free = resample, free

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        if name in self.dropped:
            msg["fn"] = msg["fn"].mask(False)
            self._set(msg, self.dropped[name])
        elif name in self.summed:
            msg["infer"] = {**msg["infer"], "enumerate": "parallel"}
            if name in self.seen:
                msg["fn"] = HalfSeen(msg["fn"], self.values[name], self.seen[name])
        elif name in self.values:
            self._condition(msg)
        elif name in self.free:
            msg["is_observed"], msg["value"], msg["done"] = False, None, False

    def _condition(self, msg: Any) -> None:
        name, fn, value = msg["name"], msg["fn"], self.values[msg["name"]]
        if name in self.seen:
            if self.resample:
                value = torch.where(self.seen[name], value, fn.sample().to(value.dtype))
            else:
                msg["fn"] = mask_elements(fn, self.seen[name])
        self._set(msg, value)

    @staticmethod
    def _set(msg: Any, value: Tensor) -> None:
        msg["value"], msg["is_observed"] = value, True


@dataclass(frozen=True)
class Slot:
    """Where a continuous unknown lives in the unconstrained vector.

    ``index`` holds the flat positions of the missing elements of a half-seen site, ``None`` for a
    site that is unknown as a whole.
    """

    start: int
    stop: int
    shape: torch.Size
    index: Tensor | None = None


class Unknown(Messenger):
    """Replace continuous latent sites by constrained pieces of one unconstrained vector.

    The bijection is built from the site's own support inside the run, since a support may depend on
    other sites. ``log_det`` collects the log Jacobian of the whole map.
    """

    def __init__(self, z: Tensor, slots: Mapping[str, Slot], values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.z, self.slots, self.known = z, slots, values
        self.log_det: Tensor = z.new_zeros(())
        self.values: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        slot = self.slots.get(msg["name"])
        if slot is None:
            return
        piece = self.z[slot.start : slot.stop].reshape(slot.shape)
        support = msg["fn"].support
        if slot.index is not None:
            support = _elements(factorized_base(msg["fn"]), slot.index)
        transform = bijection(support)
        value = transform(piece)
        self.log_det = self.log_det + transform.log_abs_det_jacobian(piece, value).sum()
        if slot.index is not None:
            known = self.known[msg["name"]]
            value = known.reshape(-1).index_put((slot.index,), value).reshape(known.shape)
        self.values[msg["name"]] = value
        msg["value"] = value


def _elements(base: Any, index: Tensor) -> Any:
    """The support of some elements of an element-wise distribution."""
    support = base.support
    bounds = {}
    for key in ("lower_bound", "upper_bound"):
        bound = getattr(support, key, None)
        if isinstance(bound, Tensor) and bound.dim():
            bound = bound.expand(base.batch_shape).reshape(-1)[index]
        if bound is not None:
            bounds[key] = bound
    if len(bounds) == 2:
        return constraints.interval(bounds["lower_bound"], bounds["upper_bound"])
    if bounds:
        return type(support)(*bounds.values())
    return support
