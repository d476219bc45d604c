"""Which parts of a call belong to single rows: what goes along when rows are selected, and what all share.

The length of an argument does not say. A vector of knots may have as many entries as there are rows; a matrix
of all pairs of rows has, too. So it is found out by what the story does: a part is an argument of rows where
the story, called with the entries of a few rows, gives these rows the density that they have among all rows,
and no other site another one; it is shared where the story does so with the whole of it. Where neither is
true the story reads across rows, and cannot be run on some of them: it is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from inference.story.arguments import paths, spoken
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import Observation
from inference.story.structure import Plate, Structure

_DOUBTFUL = 6  # arguments of which every subset is tried
_PICKS = 6  # rows that are tried one by one
_SEEDS = (1, 2)  # of other values of the sites, where the first do not tell
# Layers that make rows depend on each other, or on chance, while they are trained.
_RESTLESS = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._NormBase)


@dataclass(frozen=True)
class RowArguments:
    """What a call of selected rows is made of.

    Attributes:
        rows: how many there are.
        own: places, among the arguments' tensors and numbers, of tensors with one leading entry per row.
        counted: whether the argument ``n`` is the number of rows.
        untold: names of tensors with as many leading entries as rows that have no bearing on the story's
            density, so that it does not tell whether they are the rows' own.
    """

    rows: int
    own: frozenset[int]
    counted: bool
    untold: tuple[str, ...] = ()

    def counting(self, call: Call, count: int) -> Call:
        """The call with another number of rows."""
        return call.replace_rows(count) if self.counted else call

    def select(self, call: Call, index: Tensor) -> Call:
        """The call with the selected rows' entries of the arguments that have one for each row."""
        if not self.own:
            return call
        leaves, form = tree_flatten((call.args, dict(call.kwargs)))
        for place in self.own:
            leaves[place] = leaves[place][index.to(leaves[place].device)]
        args, kwargs = tree_unflatten(leaves, form)
        return replace(call, args=args, kwargs=kwargs)


def row_arguments(
    structure: Structure, observations: Mapping[str, Observation], plate: Plate
) -> RowArguments:
    """Find out which arguments belong to single rows of a plate.

    Args:
        structure: of the story on all rows.
        observations: checked.
        plate: whose rows are selected.

    Raises:
        ValueError: where the story cannot be run on some rows; it names the arguments that it reads across
            rows.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> def story(x, knots):
        ...     w = pyro.sample("w", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("row", len(x)):
        ...         pyro.sample("y", dist.Normal(w * x + knots.mean(), 1.0))
        >>> call = Call.bind(story, (torch.arange(5.0), torch.arange(5.0)))
        >>> structure, _ = inspect_story(call)
        >>> row_arguments(structure, {}, structure.sites["y"].plates[0]).own
        frozenset({0})
    """
    call, rows = structure.call, plate.size
    found = paths(call.args, call.kwargs)
    doubtful = {
        i: v for i, (_, v) in enumerate(found) if isinstance(v, Tensor) and v.dim() and len(v) == rows
    }
    names = {i: spoken(call.signature, found[i][0]) for i in doubtful}
    counted = call.takes_rows and call.named_arguments()["n"] == rows
    if not doubtful and not counted:
        return RowArguments(rows, frozenset(), counted=False)
    trial = _Trial(structure, plate, doubtful)
    choices = (RowArguments(rows, own, counted) for own in _choices(list(doubtful)))
    first = next(filter(trial.holds, choices), None)
    if first is None:
        raise ValueError(_refusal(trial, names, counted))
    others = (replace(first, own=first.own ^ {place}) for place in doubtful)
    left = [first, *filter(trial.holds, others)]
    for seed in _SEEDS if len(left) > 1 else ():
        again = _Trial(inspect_story(call, observations, seed=seed)[0], plate, doubtful)
        left = [one for one in left if again.holds(one)]
    if not left:
        raise ValueError(_refusal(trial, names, counted))
    untold = frozenset().union(*(one.own ^ left[0].own for one in left))
    return replace(left[0], untold=tuple(names[i] for i in sorted(untold) if not _constant(doubtful[i])))


def _choices(places: list[int]) -> Iterator[frozenset[int]]:
    """Sets of places that may be the rows' own, the largest first."""
    counts = range(len(places) + 1) if len(places) <= _DOUBTFUL else (0, 1, len(places))
    shared = chain.from_iterable(combinations(places, k) for k in counts)
    return (frozenset(places).difference(one) for one in shared)


class _Trial:
    """A story on all rows at one value of every site, to be compared with the same on some rows.

    Args:
        structure: whose values the sites get.
        plate: of the rows.
        doubtful: tensors among the arguments, by their places, with as many leading entries as there are
            rows.
    """

    def __init__(self, structure: Structure, plate: Plate, doubtful: Mapping[int, Tensor]) -> None:
        self.structure, self.plate, self.doubtful = structure, plate, doubtful
        self.call = _at_rest(structure.call)
        given = {n: s for n, s in structure.sample_sites.items() if not s.observed}
        self.values = {n: s.value for n, s in given.items()}
        own = {n: next((p.dim for p in s.plates if p.name == plate.name), None) for n, s in given.items()}
        self.axes = {
            n: None if dim is None else given[n].value.dim() - given[n].fn.event_dim + dim
            for n, dim in own.items()
        }

    @cached_property
    def whole(self) -> dict[str, tuple[Tensor, int | None]]:
        """What the story says on all rows."""
        return self._said(self.call, self.values, self.plate.size)

    @cached_property
    def selections(self) -> list[Tensor]:
        """Rows to try: several, and where entries of an argument differ, one row over and over."""
        rows = self.plate.size
        picks = [0, rows - 1]
        for value in self.doubtful.values():
            differs = (value != value[0]).reshape(rows, -1).any(-1).nonzero()
            picks += differs[:1].flatten().tolist()
        tried = [torch.linspace(0, rows - 1, 3).long()]
        if self.doubtful:
            tried += [torch.full((2,), pick) for pick in dict.fromkeys(picks[:_PICKS])]
        return [i if len(i) != rows else torch.cat([i, i]) for i in tried]

    def holds(self, arguments: RowArguments) -> bool:
        """Whether the story says of selected rows, called for them, what it says of them among all."""
        return all(self._same(arguments, index) for index in self.selections)

    def _same(self, arguments: RowArguments, index: Tensor) -> bool:
        call = arguments.select(arguments.counting(self.call, len(index)), index)
        values = {n: _at(v, self.axes[n], index) for n, v in self.values.items()}
        try:
            found = self._said(call, values, len(index))
        except (RuntimeError, IndexError, ValueError, TypeError):  # a part was cut, or left, that must not be
            return False
        return found.keys() == self.whole.keys() and all(
            axis == found[name][1] and _close(_at(value, axis, index), found[name][0])
            for name, (value, axis) in self.whole.items()
        )

    def reads_across(self, place: int) -> bool:
        """Whether the entry of one row has a bearing on other rows, or on what all rows share."""
        value = self.doubtful[place]
        differs = (value != value[0]).reshape(len(value), -1).any(-1).nonzero()
        if not len(differs):
            return False
        changed = value.clone()
        changed[0] = value[int(differs[0])]
        leaves, form = tree_flatten((self.call.args, dict(self.call.kwargs)))
        leaves[place] = changed
        args, kwargs = tree_unflatten(leaves, form)
        said = self._said(replace(self.call, args=args, kwargs=kwargs), self.values, self.plate.size)
        rest = torch.arange(1, len(value))
        return not all(
            _close(_at(one, axis, rest), _at(said[name][0], axis, rest))
            for name, (one, axis) in self.whole.items()
        )

    def _said(
        self, call: Call, values: Mapping[str, Tensor], count: int
    ) -> dict[str, tuple[Tensor, int | None]]:
        """The density of every site, and what is recorded, with the axis that counts the rows.

        Raises:
            ValueError: where the plate has another size.
        """
        with call.room(0), torch.no_grad():
            run: Any = poutine.trace(poutine.condition(call, data=dict(values))).get_trace()
            said: dict[str, tuple[Tensor, int | None]] = {}
            for name, node in run.nodes.items():
                if node["type"] != "sample" or site_is_subsample(node):
                    continue
                sizes = {f.size for f in node["cond_indep_stack"] if f.name == self.plate.name}
                if sizes - {count}:
                    raise ValueError(f"{name}: expected {count} rows, got {sizes}")
                if node["infer"].get("_deterministic"):
                    value = node["value"]
                    said[name] = value, 0 if sizes and value.dim() and len(value) == count else None
                    continue
                try:
                    density = node["scale"] * node["fn"].log_prob(node["value"])
                except NotImplementedError:  # a sampler that has no density
                    continue
                said[name] = density, density.dim() + self.plate.dim if sizes else None
        return said


def _at_rest(call: Call) -> Call:
    """The call of a story whose layers do what they do when they are not trained."""
    story = call.story
    if isinstance(story, torch.nn.Module) and any(isinstance(m, _RESTLESS) for m in story.modules()):
        return replace(call, story=deepcopy(story).eval())
    return call


def _at(value: Tensor, axis: int | None, index: Tensor) -> Tensor:
    return value if axis is None else value.index_select(axis, index.to(value.device))


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal but for rounding: half the digits of their kind of number."""
    if one.shape != other.shape:
        return False
    kind = one.dtype if one.is_floating_point() else torch.float64
    digits = torch.finfo(kind).eps ** 0.5
    return torch.allclose(one.double(), other.double(), rtol=digits, atol=digits, equal_nan=True)


def _constant(value: Tensor) -> bool:
    return bool((value == value[0]).all())


def _refusal(trial: _Trial, names: Mapping[int, str], counted: bool) -> str:
    """Why a story cannot be run on some of its rows, and what to do."""
    across = [name for place, name in names.items() if trial.reads_across(place)]
    plate = trial.plate
    differs = f"another density than they have among all {plate.size} of plate {plate.name!r}"
    if across:
        return (
            f"{', '.join(across)}: expected arguments that either have an entry for each row or are shared "
            f"by all, got what the story reads across rows: called for a few rows, with their entries or "
            f"with the whole of it, the story gives them {differs}. That is so where it reduces over rows "
            f"(X - X.mean(0)), looks at neighbours (x[:-1]) or at all pairs of rows. Compute that before and "
            f"pass the result, one entry a row; or fit all rows at once, without batch_size and held_out."
        )
    return (
        f"{', '.join([*names.values(), *(['n'] if counted else [])])}: the rows cannot be told apart: called "
        f"for a few of them, the story gives them {differs}, or does not run. The number of rows must come "
        f"from an argument n, or from a tensor argument with one leading entry per row, and no density may "
        f"depend on it otherwise; a row may not depend on other rows. Lists are not divided: pass tensors."
    )
