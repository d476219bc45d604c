"""A story run by Pyro at a point of unconstrained space: its log density and the values of its sites.

What the density depends on beside the point (data, masks, arguments, sums of rows) is one tree of inputs, so
that a run can be traced once and serve other numbers.

At some points a story cannot be evaluated: a matrix is not positive definite to working precision. Far from
the mode a covariance may be singular in float64, and torch then raises for the whole batch. Such a point has
no density that could be computed; it counts as impossible, and the other points of the batch as what they are
(:func:`apart`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from inference.density.enumeration import log_sum, total_log_prob
from inference.density.sufficient_statistics import Folded, Folding, fold
from inference.density.traced import key_of_tree
from inference.story.bijections import unconstrained_shape
from inference.story.call import Call
from inference.story.handlers import Known, Slot, Unknown
from inference.story.joint import Joint
from inference.story.observations import Observation
from inference.story.plan import plan
from inference.story.structure import Structure


class Evaluation:
    """A story and its data, evaluated by plain Pyro.

    Args:
        structure: of the story as it is called.
        observations: checked, by site name.
        folding: whether rows may be folded into sufficient sums.
    """

    def __init__(
        self, structure: Structure, observations: Mapping[str, Observation], *, folding: bool = True
    ) -> None:
        self.structure, self.observations = structure, dict(observations)
        self.plan = plan(structure, observations)
        self.data = {name: e.value for name, e in observations.items()}
        self.folded = fold(structure, observations, self.plan.dropped) if folding else None
        self.slots = self._slots()
        self.size = max((slot.stop for slot in self.slots.values()), default=0)
        self.names = tuple(self.slots)

    def _slots(self) -> dict[str, Slot]:
        slots, start = {}, 0
        for name in self.structure.sites:
            site, index = self.structure.sites[name], None
            if name in self.plan.unknown:
                shape = unconstrained_shape(site.fn.support, site.shape)
            elif name in self.plan.filled:
                index = (~self.plan.seen[name]).reshape(-1).nonzero().squeeze(-1)
                shape = index.shape
            else:
                continue
            stop = start + shape.numel()
            slots[name] = Slot(start, stop, shape, index)
            start = stop
        return slots

    def site_of(self, unknown: int) -> str:
        """The site to which an element of the unconstrained vector belongs."""
        return next(name for name, slot in self.slots.items() if slot.start <= unknown < slot.stop)

    def inputs(self, folded: Folded | None = None) -> dict[str, Any]:
        """What the density depends on beside the point, folded or not: a tree of tensors and plain values."""
        return self._inputs(self.structure, self.observations, folded)

    def inputs_of(
        self, call: Call, observations: Mapping[str, Observation], *, folding: bool = True
    ) -> dict[str, Any] | None:
        """The same for another call and other data of the same shapes, folded if these are.

        ``None`` where they cannot be: other elements are missing, or the rows do not fold.
        """
        structure = replace(self.structure, call=call)
        for name, one in observations.items():
            own = self.observations[name]
            if one.complete != own.complete:
                return None
            held = self.plan.joint.values if self.plan.joint is not None else ()
            fixed = name in self.plan.filled or (name in held and not one.complete)
            if fixed and not torch.equal(cast(Tensor, one.seen), self.plan.seen[name]):
                return None
        if self.folded is None or not folding:
            return self._inputs(structure, observations, None)
        folded = fold(structure, observations, self.plan.dropped)
        return None if folded is None else self._inputs(structure, observations, folded)

    def _inputs(
        self, structure: Structure, observations: Mapping[str, Observation], folded: Folded | None
    ) -> dict[str, Any]:
        call, data = structure.call, {n: e.value for n, e in observations.items()}
        if folded is None:
            masks = {n: e.seen for n, e in observations.items() if e.seen is not None}
            seen = {n: m for n, m in masks.items() if n not in self.plan.filled}
            own: dict[str, Any] = {"data": data, "seen": seen, "stand_in": self._stand_in()}
        else:
            call, sums = folded.call, folded.inputs
            shared = {n: v for n, v in data.items() if n not in {**sums["values"], **sums["sums"]}}
            own = {"data": shared, "stand_in": self._stand_in(len(folded.counts)), **sums}
        return {**own, "args": call.args, "kwargs": dict(call.kwargs)}

    def _run(
        self, z: Tensor, inputs: Mapping[str, Any], assigned: Mapping[str, Tensor] | None = None
    ) -> tuple[Any, Unknown]:
        """Run the story with its unknowns at ``z``; call inside :func:`isolated`.

        What is summed out jointly is held at the assigned values, by default at the first that it has.
        """
        data, joint = inputs["data"], self.plan.joint
        known = {n: v for n, v in data.items() if n not in self.plan.filled}
        if joint is not None:
            held = joint.first if assigned is None else assigned
            known |= {n: self._with_seen(n, v, data) for n, v in held.items()}
        unknown = Unknown(z, self.slots, data)
        call = replace(self.structure.call, args=inputs["args"], kwargs=inputs["kwargs"])
        with (
            EnumMessenger(-1 - self.structure.nesting),
            unknown,
            Known(known, self._masks(inputs), self.plan.enumerated, inputs["stand_in"]),
        ):
            run = poutine.trace(call).get_trace()
        return run, unknown

    def _with_seen(self, name: str, value: Tensor, data: Mapping[str, Tensor]) -> Tensor:
        """The assigned value of a site, with what was seen of it in its place."""
        return value if name not in data else torch.where(self.plan.seen[name], data[name], value)

    def _masks(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Masks of the half-seen sites; of what is summed out jointly, every element counts."""
        joint = self.plan.joint
        return {n: m for n, m in inputs["seen"].items() if joint is None or n not in joint.values}

    def _run_folded(self, z: Tensor, inputs: Mapping[str, Any]) -> tuple[Any, Unknown]:
        """Run the story with one row per group of rows; call inside :func:`isolated`."""
        unknown = Unknown(z, self.slots, {})
        call = replace(self.structure.call, args=inputs["args"], kwargs=inputs["kwargs"])
        with unknown, Folding(inputs), Known(inputs["data"], {}, (), inputs["stand_in"]):
            run = poutine.trace(call).get_trace()
        return run, unknown

    def evaluated(self, z: Tensor, inputs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor], int]:
        """Log density, values of sites, and the largest intermediate; call inside :func:`isolated`."""
        folded, joint = "sums" in inputs, self.plan.joint
        run, unknown = (self._run_folded if folded else self._run)(z, inputs)
        sites = dict(unknown.values) if folded else self._site_values(run, unknown)
        if joint is None:
            return total_log_prob(run) + unknown.log_det, sites, _largest(run)
        self._require_unscaled(joint, run)
        return self._joint_log_prob(joint, z, inputs), sites, joint.count * _largest(run)

    def _require_unscaled(self, joint: Joint, run: Any) -> None:
        """Refuse a scale around what is summed out jointly: its terms would be scaled, not the sum."""
        touched = set(joint.values).union(*(self.structure.children(n) for n in joint.values))
        scales = {n: run.nodes[n]["scale"] for n in sorted(touched) if "scale" in run.nodes.get(n, {})}
        name = next((n for n, s in scales.items() if isinstance(s, Tensor) or s != 1.0), None)
        if name is not None:
            raise ValueError(
                f"site {name!r}: it is scaled (poutine.scale), expected no scale where discrete sites are "
                f"summed out jointly ({joint.why}). Drop the scale."
            )

    def _joint_log_prob(self, joint: Joint, z: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Log density, summed over all assignments of values to what is summed out jointly."""

        def one(assigned: Mapping[str, Tensor]) -> Tensor:
            run, unknown = self._run(z, inputs, assigned)
            return total_log_prob(run) + unknown.log_det

        return log_sum(joint.each(one))

    def _site_values(self, run: Any, unknown: Unknown) -> dict[str, Tensor]:
        """Values of the unknown sites and of the deterministic ones that are functions of these.

        What is dropped has a stand-in here, whose value means nothing: what depends on it is drawn later.
        """
        found = [n for n, s in self.structure.sites.items() if s.kind == "deterministic"]
        loose = self.plan.loose
        if loose:
            found = [n for n in found if not loose & self.structure.ancestors([n])]
        return {**unknown.values, **{n: torch.as_tensor(run.nodes[n]["value"]).double() for n in found}}

    def _stand_in(self, groups: int | None = None) -> dict[str, Tensor]:
        """Values of the dropped sites; those of the first rows where one row stands for each group."""
        sites = self.structure.sites
        rows = self.structure.row_plate(self.observations) if groups is not None else None
        values = {n: sites[n].value for n in self.plan.dropped}
        return {n: v[:groups] if sites[n].within(rows) else v for n, v in values.items()}

    def key(self, inputs: Mapping[str, Any]) -> Hashable | None:
        """What fits that can share a trace have in common."""
        shared = key_of_tree(inputs)
        if shared is None:
            return None
        slots = tuple(
            (n, s.start, s.stop, s.shape, None if s.index is None else tuple(s.index.tolist()))
            for n, s in self.slots.items()
        )
        chosen = self.plan.unknown, self.plan.summed, self.plan.dropped, self.plan.filled
        held = self.plan.joint.values if self.plan.joint is not None else {}
        given = tuple((n, tuple(self.plan.seen[n].reshape(-1).tolist())) for n in held if n in self.plan.seen)
        return shared, slots, chosen, tuple(held), given, self.structure.nesting, tuple(self.structure.sites)


def _largest(run: Any) -> int:
    nodes = [n for n in run.nodes.values() if "unscaled_log_prob" in n]
    sizes = [n["unscaled_log_prob"].numel() * torch.Size(n["fn"].event_shape).numel() for n in nodes]
    return max(sizes, default=1)


def apart(evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate a batch of points; where a factorization fails, by halves, down to the points that fail.

    Args:
        evaluate: points (draws, size) -> log densities (draws,) and gradients (draws, size).
        z: (draws, size).

    Returns:
        What ``evaluate`` returns, with log density -inf and gradient NaN at the points that fail.

    Example:
        >>> import torch
        >>> def evaluate(z):
        ...     return torch.linalg.cholesky(z[..., None])[:, 0, 0], z
        >>> apart(evaluate, torch.tensor([[4.0], [-1.0], [9.0]]))[0]
        tensor([2., -inf, 3.])
    """
    try:
        return evaluate(z)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        if len(z) == 1:
            return torch.full_like(z[:, 0], -math.inf), torch.full_like(z, math.nan)
    values, grads = zip(*(apart(evaluate, half) for half in z.chunk(2)), strict=True)
    return torch.cat(values), torch.cat(grads)
