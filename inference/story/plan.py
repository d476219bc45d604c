"""What becomes of every site when a story is fitted: inferred, summed out, dropped, or filled in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from inference.story.joint import Joint, joint_of
from inference.story.observations import Observation, factorized, require_maskable
from inference.story.structure import Structure


@dataclass(frozen=True)
class Plan:
    """What becomes of every site when a story is fitted to data.

    Attributes:
        unknown: continuous sites that are inferred.
        summed: discrete sites that are summed out.
        dropped: sites on which nothing that counts depends.
        seen: masks of the half-seen sites.
        filled: half-seen continuous sites whose missing elements are inferred.
        joint: those of the summed sites that are summed out over all rows' values at once, if any.
    """

    unknown: tuple[str, ...]
    summed: tuple[str, ...]
    dropped: tuple[str, ...]
    seen: Mapping[str, Tensor]
    filled: tuple[str, ...]
    joint: Joint | None = None

    @property
    def enumerated(self) -> tuple[str, ...]:
        """Sites that are summed out row by row."""
        held = self.joint.values if self.joint is not None else {}
        return tuple(n for n in self.summed if n not in held)

    @property
    def loose(self) -> frozenset[str]:
        """Sites whose values, or some elements, are no function of the unknowns: summed out, or dropped."""
        return frozenset({*self.summed, *self.dropped, *self.imputed})

    @property
    def imputed(self) -> tuple[str, ...]:
        """Half-seen sites whose missing elements are dropped: nothing that counts depends on them."""
        return tuple(n for n in self.seen if n not in self.filled and n not in self.summed)


def plan(structure: Structure, observations: Mapping[str, Observation], *, apart: bool = False) -> Plan:
    """Decide which sites are inferred, summed out and dropped.

    Args:
        structure: of the story.
        observations: checked data.
        apart: whether the rows of what is summed out are known to be told apart, and not looked at again.

    Raises:
        ValueError: for a latent site that can be neither, or missing values that cannot be treated.
    """
    sites = structure.sample_sites
    observed = set(observations) | {n for n, s in structure.sites.items() if s.observed}
    rows = structure.row_plate(n for n in observed if n in sites)
    latent = [n for n in sites if n not in observed]
    free = [n for n in latent if not sites[n].discrete and not sites[n].within(rows)]
    relevant = structure.ancestors([*observed, *free])
    dropped = tuple(n for n in latent if n not in relevant)
    summed = [n for n in latent if n in relevant and sites[n].discrete]
    for name in summed:
        _require_enumerable(structure, name)
    filled = []
    shown = {n for n, s in structure.sites.items() if s.kind == "deterministic"}  # has no density
    for name, one in observations.items():
        idle = {*dropped, *shown} if sites[name].discrete else set(dropped)
        if one.complete or not (structure.children(name) - idle):
            if one.seen is not None:
                require_maskable(name, sites[name].fn, one.seen)
        elif sites[name].discrete:
            _require_enumerable(structure, name)
            summed.append(name)
        elif factorized(sites[name].fn):
            filled.append(name)
        else:
            raise ValueError(
                f"data[{name!r}]: missing elements of {type(sites[name].fn).__name__} cannot be "
                f"inferred, since other sites depend on it and its elements are not independent given "
                f"the rest. Write it with independent elements (a plate, or .to_event)."
            )
    unknown = tuple(n for n in latent if n in relevant and not sites[n].discrete)
    seen = {n: e.seen for n, e in observations.items() if e.seen is not None}
    joint = None if apart else joint_of(structure, observations, summed, dropped)
    return Plan(unknown, tuple(summed), dropped, seen, tuple(filled), joint)


def _require_enumerable(structure: Structure, name: str) -> None:
    site = structure.sites[name]
    if not site.enumerable:
        raise ValueError(
            f"site {name!r}: expected a discrete site that can be summed out (Bernoulli, Categorical, "
            f"or Binomial with one total, without .to_event), got a latent "
            f"{type(site.fn).__name__}. Give it in data, or sum it out in the story."
        )


@contextmanager
def enumerating(summed: Collection[str]) -> Iterator[None]:
    """Name the sites that are summed out when a run fails on holding all of their values at once.

    Raises:
        ValueError: in place of a ``RuntimeError`` of torch, if there are such sites.
    """
    try:
        yield
    except RuntimeError as error:
        if not summed:
            raise
        raise ValueError(
            f"story: it could not be run with {', '.join(map(repr, summed))} summed out, when such a site "
            f"holds all its values at once, in a dimension to the left ({str(error).splitlines()[0]}). Use "
            f"its value in tensor operations only (indexing, torch.where), not in Python branches, .item() "
            f"or assignments in place; or give it in data."
        ) from error
