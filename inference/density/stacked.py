"""Many data sets of one story and one shape as one function: the log densities of all, side by side.

Calibration fits a story to hundreds of simulated data sets. They differ in numbers only, so that one traced
density serves them all: its inputs are stacked, and a point of data set p is evaluated with the p-th of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from inference.compiler.batched_function import BatchedFunction, BoundFunction, all_numbers, leaves
from inference.density.evaluation import apart
from inference.density.holes import Holes
from inference.density.log_density import LogDensity
from inference.density.prior_starts import where_finite
from inference.density.traced import key_of_tree
from inference.runtime.isolation import isolated
from inference.story.call import Call
from inference.story.codes import goes_beyond
from inference.story.inspection import inspect_rows
from inference.story.observations import Observation, as_observations, fit_to_site
from inference.story.structure import Structure
from inference.story.support import bounds_of

_MEMORY = 2**17  # elements of the largest intermediate per call: 1 MiB, part of a core's cache
_TOGETHER = 32  # data sets that share a call at least: of many draws, a part is taken at a time
_KEPT = 64  # groups of data sets whose inputs are kept ready
_COMPARED = 3  # points of each data set that is evaluated alone and in the batch
_AGREEMENT = 1e-8  # of the batched density with those of single data sets, relative


class Stacked:
    """The log joint densities of a story's unknowns, for several data sets of one shape.

    Args:
        first: the density of the first data set.
        sets: the call and the checked data of every data set, the first included.

    Attributes:
        count: how many data sets (P below).
        size: number of unconstrained unknowns of each (D below).
        names: the sites (and missing elements of sites) among the unknowns.
        cost: elements of the largest intermediate result at one point of one data set.
        gradient_calls: how many batched gradients were taken; one for all data sets together.
        traced, note, flaw: as of :class:`~inference.density.log_density.LogDensity`, for all together.
        batched: whether one call serves all data sets; else they are evaluated one after another.
    """

    def __init__(self, first: LogDensity, sets: Sequence[tuple[Call, Mapping[str, Observation]]]) -> None:
        self._first, self._sets = first, list(sets)
        self.count, self.size, self.names, self.cost = len(sets), first.size, first.names, first.cost
        self.gradient_calls = 0
        self._single: dict[int, LogDensity] = {0: first}
        self._bounds: dict[Any, BoundFunction] = {}
        self._holes: dict[int, Holes] = {}
        self._asked = torch.zeros(self.count, dtype=torch.long)
        self._inputs = _stacked_inputs(first, self._sets)
        if self._inputs is None and first.folded is not None:  # rows that fold into other numbers of groups
            self._first = LogDensity(first.structure, first.observations, folding=False)
            self._inputs = _stacked_inputs(self._first, self._sets)
        self.batched = self._inputs is not None and self._agrees()

    @property
    def traced(self) -> bool:
        """Whether the story was traced."""
        return self._first.traced

    @property
    def note(self) -> str:
        """Why plain Pyro is used, where it is."""
        return self._first.note

    @property
    def flaw(self) -> str:
        """Why no fit of these densities can be trusted, where that is so."""
        return next((d.flaw for d in self._single.values() if d.flaw), "")

    def density(self, index: int) -> LogDensity:
        """The density of one data set, alone; it shares what was traced."""
        if index not in self._single:
            call, observations = self._sets[index]
            structure, checked = inspect_rows(call, observations, f"data[{index}]")
            self._single[index] = LogDensity(structure, checked)
        return self._single[index]

    def log_prob(self, z: Tensor, which: Tensor | None = None) -> Tensor:
        """Log joint densities with the Jacobian of the constraining map.

        Args:
            z: (P, draws, D); (len(which), draws, D) if a part is asked for.
            which: indices (long) of the data sets that the first axis of ``z`` stands for; all by default.

        Returns:
            (P, draws), in nats.
        """
        if not self.batched:
            return torch.stack([self.density(p).log_prob(u) for p, u in self._each(z, which)])
        value = torch.cat([v for v, _ in self._evaluated("value", z, which)])
        self._look(z, which, value)
        return value

    def value_and_grad(self, z: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log joint densities and their gradients.

        Args:
            z, which: as in :meth:`log_prob`.

        Returns:
            (P, draws) and (P, draws, D).
        """
        self.gradient_calls += 1
        if self.batched:
            parts = list(self._evaluated("gradient", z, which))
            value, grad = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
            self._look(z, which, value, grad)
            return value, grad
        pairs = [self.density(p).value_and_grad(u) for p, u in self._each(z, which)]
        values, grads = zip(*pairs, strict=True)
        return torch.stack(values), torch.stack(grads)

    def constrain(self, z: Tensor) -> dict[str, Tensor]:
        """Map unconstrained draws to the story's sites, deterministic ones included.

        Args:
            z: (P, draws, D).

        Returns:
            site -> (P, draws, *site shape).
        """
        sites = self._site_points if self.batched else None
        if sites is None:
            each = [self.density(p).constrain(u) for p, u in self._each(z, None)]
            return {name: torch.stack([values[name] for values in each]) for name in each[0]}
        names, points, inputs = sites
        parts = []
        most = max(1, _MEMORY // max(1, self.cost * z.shape[1]))
        for rows in torch.arange(self.count).split(most):
            bound = points.bind([x[rows] for x in inputs], sets=True)
            parts.append(bound.value(z[rows]))
        return {name: torch.cat([part[i] for part in parts]) for i, name in enumerate(names)}

    @cached_property
    def _site_points(self) -> tuple[tuple[str, ...], BatchedFunction, list[Tensor]] | None:
        """What maps points to sites for all data sets: names, function and stacked inputs."""
        first = self._first
        first.constrain(torch.zeros(1, self.size, dtype=torch.float64))
        if first.sites is None or first.sites.sites is None:
            return None
        folded = first.folded is not None and first.sites is first.traced_story
        plain = first if folded or first.folded is None else None
        inputs = self._inputs if plain is not None else _stacked_inputs(first, self._sets, folding=False)
        return None if inputs is None else (first.sites.names, first.sites.sites, inputs)

    def _look(self, z: Tensor, which: Tensor | None, value: Tensor, grad: Tensor | None = None) -> None:
        """Remember where the density of some data set is NaN."""
        self._asked[slice(None) if which is None else which] += z.shape[1]
        if not all_numbers(value, grad):
            for i, (p, points) in enumerate(self._each(z, which)):
                self.holes(p).look(points, value[i], None if grad is None else grad[i])

    def holes(self, index: int) -> Holes:
        """The points that were met at which the density of one data set is NaN."""
        if not self.batched:
            return self.density(index).holes
        holes = self._holes.setdefault(index, Holes())
        holes.asked = int(self._asked[index])
        return holes

    def _each(self, z: Tensor, which: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        chosen = range(self.count) if which is None else [int(p) for p in which]
        return zip(chosen, z, strict=True)

    def _groups(self, which: Tensor, draws: int) -> tuple[tuple[Tensor, ...], int]:
        """Data sets that are evaluated together, and how many of their draws at a time."""
        cost = max(1, self.cost)
        count = max(1, _MEMORY // (cost * draws), min(_TOGETHER, _MEMORY // cost))
        return which.split(count), max(1, _MEMORY // (cost * min(count, len(which))))

    def _evaluated(self, kind: str, z: Tensor, which: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """(log densities, gradients) of groups of data sets; the gradients are empty for kind "value"."""
        chosen = torch.arange(self.count) if which is None else which
        groups, draws = self._groups(chosen, z.shape[1])
        for part, points in zip(groups, z.split([len(g) for g in groups]), strict=True):
            try:
                bound = self._bound(part)
                found = [self._call(bound, kind, some) for some in points.split(draws, 1)]
                value, grad = zip(*found, strict=True)
                yield found[0] if len(found) == 1 else (torch.cat(value, 1), torch.cat(grad, 1))
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                yield self._one_by_one(part, kind, points)

    def _call(self, bound: BoundFunction, kind: str, z: Tensor) -> tuple[Tensor, Tensor]:
        if kind == "value":
            return bound.value(z)[0], z[..., :0]
        value, grad = bound.gradient(z)
        return value, grad

    def _one_by_one(self, which: Tensor, kind: str, z: Tensor) -> tuple[Tensor, Tensor]:
        """Data sets apart, and points apart, where a factorization fails at some of them."""
        found = []
        for index, points in zip(which, z, strict=True):
            bound = self._bound(index[None])

            def alone(part: Tensor, bound: BoundFunction = bound) -> tuple[Tensor, Tensor]:
                value, grad = self._call(bound, kind, part[None])
                return value[0], grad[0]

            found.append(apart(alone, points))
        return torch.stack([v for v, _ in found]), torch.stack([g[:, : z.shape[-1]] for _, g in found])

    def _bound(self, which: Tensor) -> BoundFunction:
        """The densities of some data sets; kept for the next call with the same."""
        key = bytes(which.numpy().tobytes())
        bound = self._bounds.get(key)
        if bound is None:
            bound = self._first.points.bind([x[which] for x in self._inputs or ()], sets=True)
            if len(self._bounds) > _KEPT:
                self._bounds.clear()
            self._bounds[key] = bound  # several workers may come here: each keeps what it has bound
        return bound

    def _agrees(self) -> bool:
        """Whether the batched density agrees with those of the first and the last data set, alone."""
        chosen = sorted({0, self.count - 1})
        with isolated(2):
            z = torch.rand(len(chosen), _COMPARED, self.size) * 2 - 1
        z = torch.stack([where_finite(self.density(p), some) for p, some in zip(chosen, z, strict=True)])
        try:
            value, grad = self._call(self._bound(torch.tensor(chosen)), "gradient", z)
        except (RuntimeError, ValueError, TypeError):
            return False
        for i, index in enumerate(chosen):
            other, slope = self.density(index).value_and_grad(z[i])
            seen = torch.isfinite(other)
            if not bool(seen.any()):  # nothing to compare
                return False
            for mine, theirs in ((value[i], other), (grad[i], slope)):
                scale = _AGREEMENT * (1 + theirs[seen].nan_to_num().abs().max())
                if not torch.allclose(mine[seen], theirs[seen], rtol=0.0, atol=float(scale), equal_nan=True):
                    return False
        return True


def _stacked_inputs(
    density: LogDensity, sets: Sequence[tuple[Call, Mapping[str, Observation]]], *, folding: bool = True
) -> list[Tensor] | None:
    """The inputs of all data sets along a leading axis; ``None`` where they differ in more than numbers."""
    if density.traced_story is None or density.traced_story.fixed:
        return None
    trees = [density.inputs_of(call, observations, folding=folding) for call, observations in sets]
    kind = key_of_tree(trees[0]) if trees[0] is not None else None
    if kind is None or any(tree is None or key_of_tree(tree) != kind for tree in trees):
        return None
    return [torch.stack(same) for same in zip(*(leaves(tree) for tree in trees), strict=True)] or None


def stack(
    story: Callable[..., Any],
    data: Sequence[Mapping[str, Any]],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    each: Sequence[tuple[Any, ...]] | None = None,
) -> Stacked:
    """Condition one story on several data sets of one shape.

    Args:
        story, args, kwargs: as in :func:`inference.fit`, for all data sets.
        data: one mapping (site name -> array) per data set, each validated as :func:`inference.fit` does.
        each: the arguments of each data set in place of ``args``, where they differ (covariates).

    Raises:
        ValueError: naming the data set, the site, what was expected and what came; also where shapes differ
            between data sets.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> three = stack(story, [{"x": torch.tensor([3.0, 5.0]) + shift} for shift in range(3)])
        >>> value, grad = three.value_and_grad(torch.zeros(3, 7, three.size, dtype=torch.float64))
        >>> value.shape, grad.shape
        (torch.Size([3, 7]), torch.Size([3, 7, 1]))
    """
    if not data:
        raise ValueError("data: expected at least one data set, got none.")
    if each is not None and len(each) != len(data):
        raise ValueError(f"each: expected arguments for {len(data)} data sets, got {len(each)}.")
    call = Call.bind(story, args if each is None else each[0], kwargs)
    structure, observations = inspect_rows(call, as_observations(data[0], "data[0]"), "data[0]")
    sets = [(structure.call, observations)]
    for i, one in enumerate(data[1:], 1):
        own = structure.call
        if each is not None:
            own = Call.bind(story, each[i], kwargs)
            own = own if structure.call.rows is None else own.with_rows(structure.call.rows)
        sets.append(
            (own, _checked(structure, observations, own, as_observations(one, f"data[{i}]"), f"data[{i}]"))
        )
    return Stacked(LogDensity(structure, observations), sets)


def _checked(
    structure: Structure,
    like: Mapping[str, Observation],
    call: Call,
    observations: Mapping[str, Observation],
    argument: str,
) -> dict[str, Observation]:
    """Check a data set as the first was checked.

    Where a site's support may differ between data sets (a binomial's total is an argument, or was seen
    itself), the story is run again to find it out; also where an argument holds whole numbers that the first
    does not reach, by which the story might index.
    """
    if set(observations) != set(like):
        raise ValueError(f"{argument}: expected the sites {sorted(like)}, got {sorted(observations)}.")
    sites = structure.sites
    other = call is not structure.call
    if other and goes_beyond(call, structure.call):
        return inspect_rows(call, observations, argument)[1]
    if any(_bounded(sites[n].fn) and (other or sites[n].parents & set(like)) for n in like):
        return inspect_rows(call, observations, argument)[1]
    try:
        return {n: fit_to_site(n, observations[n], sites[n].fn, sites[n].value, argument) for n in like}
    except ValueError:
        if any(_bounded(sites[n].fn) and sites[n].parents for n in like):  # bounds of one run only, perhaps
            return inspect_rows(call, observations, argument)[1]
        raise


def _bounded(fn: Any) -> bool:
    """Whether a distribution's support has bounds that are computed."""
    return any(isinstance(bound, Tensor) for bound in bounds_of(fn.support))
