"""What a guide is trained on: a story, its data, and what becomes of every site; nothing is traced yet."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from inference.density.log_density import LogDensity
from inference.runtime.isolation import promote
from inference.story.bijections import bijection
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import Observation
from inference.story.plan import Plan, plan
from inference.story.programs import bake, own_copy, stored
from inference.story.structure import Structure
from inference.svi.minibatch import Rows

_LOOKED_AT = 16  # rows of a batch on which it is looked for what mixes them


class Target:
    """A story and its data, as far as training needs them.

    The log density of all unknowns, which a :class:`~inference.density.log_density.LogDensity` traces, would
    be out of reach for a network over thousands of rows; SVI needs only to know which sites a guide must
    sample.

    Args:
        structure: of the story as it is called.
        observations: checked, by site name.

    Attributes:
        plan: what becomes of every site.
        names: the sites that a guide samples.
        data: site -> value.
    """

    def __init__(self, structure: Structure, observations: Mapping[str, Observation]) -> None:
        self.structure, self.observations = structure, dict(observations)
        self.plan: Plan = plan(structure, observations, apart=True)  # see `require_rows_apart`
        self.data: Mapping[str, Tensor] = {n: e.value for n, e in observations.items()}
        self.names = tuple(n for n in structure.sites if n in {*self.plan.unknown, *self.plan.filled})

    @cached_property
    def size(self) -> int:
        """Number of unconstrained unknowns."""
        return sum(self._size(name) for name in self.names)

    def require_rows_apart(self, rows: Rows) -> None:
        """Refuse a story that mixes the rows of discrete sites that are summed out: SVI sums row by row.

        It is looked at on some rows where it is trained on batches.

        Raises:
            ValueError: naming the site, and what shows it.
        """
        structure, observations = self.structure, self.observations
        if not self.plan.summed:
            return
        if rows.size is not None and rows.plate is not None:
            batch = rows.take(torch.linspace(0, rows.plate.size - 1, min(rows.size, _LOOKED_AT)).long())
            given = {n: Observation(v, batch.seen.get(n)) for n, v in batch.values.items()}
            structure, observations = inspect_story(batch.call, given)
        chosen = plan(structure, observations)
        if chosen.joint is not None:
            raise ValueError(
                f"{chosen.joint.why}, so that its values have to be summed out jointly, which SVI cannot do: "
                f"expected a story that computes row by row what depends on them. Fit it without a guide or "
                f"networks, or give them in data."
            )

    def _size(self, name: str) -> int:
        site = self.structure.sites[name]
        if name in self.plan.filled:
            return int((~self.plan.seen[name]).sum())
        return int(bijection(site.fn.support).inverse_shape(site.shape).numel())

    @cached_property
    def density(self) -> LogDensity:
        """The log density of the unknowns at the parameters' starting values; traced when first asked for."""
        if not self.structure.params:
            return LogDensity(self.structure, self.observations)
        call = self.structure.call
        with call.room(0):
            replace(call, story=own_copy(call.story, call.dtype))()
            return baked_density(self.structure, self.observations, stored())


def baked_density(
    structure: Structure, observations: Mapping[str, Observation], params: Mapping[str, Tensor]
) -> LogDensity:
    """The log density of a story at given values of its parameters, in float64.

    Args:
        structure: of the story; a module holds its trained parameters.
        observations: checked, by site name.
        params: name -> constrained value; those of guides are left out.
    """
    call = structure.call
    story = deepcopy(call.story).double() if isinstance(call.story, torch.nn.Module) else call.story
    args, kwargs = tree_map(promote, (call.args, dict(call.kwargs)))
    values = {n: promote(v) for n, v in params.items() if n in structure.params}
    fixed = bake(Call(story, args, kwargs, call.counts_rows), values)
    inspected, checked = inspect_story(fixed, observations)
    return LogDensity(inspected, checked)
