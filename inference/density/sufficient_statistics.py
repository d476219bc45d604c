"""Fold rows with equal discrete parents into their sufficient sums.

A likelihood of an exponential family needs its rows only through sums. Where a story's rows differ in
nothing but their data (it takes their number as ``n``), rows that share the values of all their discrete
sites are one group: the story is run with one row per group, and the group's density is that of its
sums. On class-conditional pixels this replaces 1,437 rows by 10, whatever the number of rows.

It is an optimisation and is treated as one: :class:`~inference.density.log_density.LogDensity` compares the
folded density with the plain one at fresh points and drops it if they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn.functional import softplus

from inference.story.call import Call
from inference.story.observations import Observation
from inference.story.structure import Structure

Sums = dict[str, Tensor]


@dataclass(frozen=True)
class ExponentialFamily:
    """How one likelihood is folded.

    Attributes:
        collect: (distribution, values (n, *event), group of each row, groups) -> sums, or ``None``.
        log_prob: (distribution of the groups, sums) -> element-wise log density of all rows.
    """

    collect: Callable[[Any, Tensor, Tensor, int], Sums | None]
    log_prob: Callable[[Any, Sums], Tensor]


def _add(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return values.new_zeros(groups, *values.shape[1:]).index_add_(0, group, values)


def _count(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return _add(torch.ones_like(values), group, groups)


def _binomial_sums(fn: Any, x: Tensor, group: Tensor, groups: int) -> Sums | None:
    total = fn.total_count.expand(x.shape).to(x.dtype)
    if not bool((total == total[:1]).all()):
        return None
    ways = torch.lgamma(total + 1) - torch.lgamma(x + 1) - torch.lgamma(total - x + 1)
    return {
        "sum": _add(x, group, groups),
        "trials": _add(total, group, groups),
        "constant": _add(ways, group, groups),
    }


def _binomial(fn: Any, sums: Sums) -> Tensor:
    return sums["sum"] * fn.logits - sums["trials"] * softplus(fn.logits) + sums["constant"]


def _bernoulli_sums(fn: Any, x: Tensor, group: Tensor, groups: int) -> Sums:
    trials = _count(x, group, groups)
    return {"sum": _add(x, group, groups), "trials": trials, "constant": torch.zeros_like(trials)}


def _poisson_sums(fn: Any, x: Tensor, group: Tensor, groups: int) -> Sums:
    return {
        "sum": _add(x, group, groups),
        "count": _count(x, group, groups),
        "constant": -_add(torch.lgamma(x + 1), group, groups),
    }


def _poisson(fn: Any, sums: Sums) -> Tensor:
    return torch.xlogy(sums["sum"], fn.rate) - sums["count"] * fn.rate + sums["constant"]


def _normal_sums(fn: Any, x: Tensor, group: Tensor, groups: int) -> Sums:
    count = _count(x, group, groups)
    mean = _add(x, group, groups) / count
    return {"count": count, "mean": mean, "square": _add((x - mean[group]) ** 2, group, groups)}


def _normal(fn: Any, sums: Sums) -> Tensor:
    square = sums["square"] + sums["count"] * (sums["mean"] - fn.loc) ** 2
    constant = fn.scale.log() + 0.5 * math.log(2 * math.pi)
    return -0.5 * square / fn.scale**2 - sums["count"] * constant


def _multinormal_sums(fn: Any, x: Tensor, group: Tensor, groups: int) -> Sums:
    count = _count(x[:, 0], group, groups)
    mean = _add(x, group, groups) / count[:, None]
    centred = x - mean[group]
    scatter = _add(centred[:, :, None] * centred[:, None, :], group, groups)
    return {"count": count, "mean": mean, "scatter": scatter}


def _multinormal(fn: Any, sums: Sums) -> Tensor:
    factor, count = fn._unbroadcasted_scale_tril, sums["count"]
    shift = (sums["mean"] - fn.loc)[..., None]
    scatter = sums["scatter"] + count[..., None, None] * shift @ shift.mT
    half = torch.linalg.solve_triangular(factor, scatter, upper=False)
    square = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    trace = square.diagonal(dim1=-2, dim2=-1).sum(-1)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    size = fn.event_shape[0]
    return -0.5 * trace - count * (log_det + 0.5 * size * math.log(2 * math.pi))


_FAMILIES = {
    dist.Binomial: ExponentialFamily(_binomial_sums, _binomial),
    dist.Bernoulli: ExponentialFamily(_bernoulli_sums, _binomial),
    dist.Poisson: ExponentialFamily(_poisson_sums, _poisson),
    dist.Normal: ExponentialFamily(_normal_sums, _normal),
    dist.MultivariateNormal: ExponentialFamily(_multinormal_sums, _multinormal),
}


class _FoldedRows(TorchDistribution):
    """The density of a group's rows, under the name of one of them."""

    arg_constraints: dict[str, Any] = {}

    def __init__(self, fn: Any, sums: Sums) -> None:
        self.fn, self.sums = fn, sums
        super().__init__(fn.batch_shape, fn.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of all rows of every group, whatever the value."""
        base = _base(self.fn)
        log_p = _FAMILIES[type(base)].log_prob(base, self.sums)
        return log_p.flatten(1).sum(-1) if log_p.dim() > 1 else log_p


def _base(fn: Any) -> Any:
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn


@dataclass(frozen=True)
class Folded:
    """A story called with one row per group, and the groups' sums.

    Attributes:
        call: the story with ``n`` set to the number of groups.
        values: discrete site -> its value in every group.
        counts: rows in every group.
        sums: other observed site -> sufficient sums.
    """

    call: Call
    values: Mapping[str, Tensor]
    counts: Tensor
    sums: Mapping[str, Sums]

    @property
    def inputs(self) -> dict[str, Any]:
        """The data as tensors, for a traced graph."""
        return {"values": dict(self.values), "counts": self.counts, "sums": dict(self.sums)}


class Folding(Messenger):
    """Give the folded sites their group values, counts and sums."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.values, self.counts = inputs["values"], inputs["counts"]
        self.sums = inputs["sums"]

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.values:
            msg["value"], msg["is_observed"] = self.values[name], True
            msg["scale"] = msg["scale"] * self.counts
        elif name in self.sums:
            fn = msg["fn"]
            msg["fn"] = _FoldedRows(fn, self.sums[name])
            msg["value"] = torch.zeros(fn.batch_shape + fn.event_shape)
            msg["is_observed"] = True


def fold(
    structure: Structure, observations: Mapping[str, Observation], dropped: Collection[str] = ()
) -> Folded | None:
    """Fold a story's rows, or return ``None`` where its rows cannot be folded.

    Args:
        structure, observations: the story and its checked data.
        dropped: sites that do not count, since nothing that was seen depends on them.
    """
    rows = structure.row_plate(observations) if observations else None
    if rows is None or not structure.call.takes_rows or rows.size < 2:
        return None
    if any(s.discrete and not s.observed and n not in observations for n, s in structure.sites.items()):
        return None  # summed out, and the sum may depend on the number of rows (a change point among them)
    local = [n for n, s in structure.sites.items() if s.within(rows) and n not in dropped]
    if not local or any(not _foldable(structure, observations, n, dropped) for n in local):
        return None
    discrete = [n for n in local if structure.sites[n].enumerable]
    n = rows.size
    if discrete:
        codes = torch.stack([observations[name].value.double() for name in discrete], -1)
        keys, group = codes.unique(dim=0, return_inverse=True)
        values = {name: keys[:, i].to(observations[name].value.dtype) for i, name in enumerate(discrete)}
    else:
        group, keys, values = torch.zeros(n, dtype=torch.long), torch.zeros(1, 0), {}
    groups = len(keys)
    if groups > n // 2:
        return None
    sums: dict[str, Sums] = {}
    for name in local:
        if name in values:
            continue
        base = _base(structure.sites[name].fn)
        found = _FAMILIES[type(base)].collect(base, observations[name].value.double(), group, groups)
        if found is None:
            return None
        sums[name] = found
    counts = torch.bincount(group, minlength=groups).double()
    return Folded(structure.call.replace_rows(groups), values, counts, sums)


def _foldable(
    structure: Structure, observations: Mapping[str, Observation], name: str, dropped: Collection[str]
) -> bool:
    """An observed site of the data plate alone: discrete, or of a family with sums and childless."""
    site = structure.sites[name]
    if site.kind != "sample" or name not in observations or not observations[name].complete:
        return False
    if len(site.plates) != 1 or len(site.fn.batch_shape) != 1:
        return False
    if site.enumerable:
        return True
    return type(_base(site.fn)) in _FAMILIES and structure.children(name) <= set(dropped)
