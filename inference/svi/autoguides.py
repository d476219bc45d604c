"""Pyro's autoguides on a conditioned story.

An autoguide covers every latent site of the story it is given. Stories here observe nothing, so the
guide is set up on the story with the data observed and the summed-out sites hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide, AutoMultivariateNormal, AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor
from torch.utils._pytree import tree_leaves

from inference.story.programs import signature

_DENSE = 30  # unknowns; beyond, the noise of single draws keeps a dense covariance from converging

Condition = Callable[[Callable[..., Any]], Callable[..., Any]]


def by_name(name: str, size: int) -> Any:
    """The autoguide for a rung's name: dense up to 30 unknowns for "auto".

    Raises:
        ValueError: for a name that has none.
    """
    named = {"mean_field": AutoNormal, "full_rank": AutoMultivariateNormal}
    named["auto"] = named["full_rank" if size <= _DENSE else "mean_field"]
    if name not in named:
        raise ValueError(
            f"guide: with loss, optim, batch_size or pyro.param, expected one of "
            f"{', '.join(sorted(named))} or a Pyro guide, got {name!r}."
        )
    return named[name]


def from_class(
    kind: Any, story: Callable[..., Any], condition: Condition, start: Mapping[str, Tensor]
) -> AutoGuide:
    """Build an autoguide on the conditioned story, from a start of its own where it takes one."""
    options: dict[str, Any] = {}
    if start and "init_loc_fn" in signature(kind).parameters and "init_loc_fn" not in _options(kind):
        here, dtype = torch.get_default_device(), torch.get_default_dtype()
        options["init_loc_fn"] = init_to_value(values={n: v.to(here, dtype) for n, v in start.items()})
    return kind(condition(story), **options).to(torch.get_default_dtype())


def _options(kind: Any) -> Mapping[str, Any]:
    return kind.keywords if isinstance(kind, partial) else {}


def conditioned_copy(guide: AutoGuide, condition: Condition) -> AutoGuide:
    """Copy an autoguide with its options, its model replaced by the conditioned one.

    Raises:
        ValueError: for a guide that has been run: its sites are fixed then.
    """
    if any(part.prototype_trace is not None for part in _parts(guide)):
        raise ValueError(
            f"guide: expected a fresh {type(guide).__name__}, got one that has been run, whose sites are "
            f"fixed. Construct it anew and hand it over unused; one that is trained already is judged by "
            f"inference.certify."
        )
    return _copied(guide, condition)


def trained_copy(guide: AutoGuide, condition: Condition) -> AutoGuide:
    """Copy an autoguide as it was trained, its model replaced by the conditioned one.

    Raises:
        ValueError: for a guide that has never been run: it has no parameters yet.
    """
    fresh = [part for part in _parts(guide) if part.prototype_trace is None]
    if fresh:
        raise ValueError(
            f"guide: expected a trained {type(fresh[0]).__name__}, got one that has never been run and has "
            f"no parameters yet. Train it by Pyro's SVI, or let inference.fit(..., guide=...) do it."
        )
    return _copied(guide, condition)


def _parts(guide: AutoGuide) -> list[AutoGuide]:
    return [m for m in guide.modules() if isinstance(m, AutoGuide)]


def _copied(guide: AutoGuide, condition: Condition) -> AutoGuide:
    """A copy in the default dtype; Pyro's autoguides drop their model when copied, the original's too.

    The run in which a guide found its sites is shared, and so is not copied; what a normalizing flow
    remembers of its last draw hangs on a graph of gradients, and is not copied either.
    """
    parts = _parts(guide)
    kept = [(part._model, part.master) for part in parts]
    memo: dict[int, Any] = {id(p.prototype_trace): p.prototype_trace for p in parts if p.prototype_trace}
    remembered = [v for m in guide.modules() for v in tree_leaves(vars(m)) if isinstance(v, Tensor)]
    memo.update({id(v): v.detach() for v in remembered if not v.is_leaf})
    try:
        copy = deepcopy(guide, memo)
    finally:
        for part, (model, master) in zip(parts, kept, strict=True):
            part._model, part.master = model, master
    for part, (model, _) in zip(_parts(copy), kept, strict=True):
        part._model = (condition(model[0]),)
    return copy.to(torch.get_default_dtype())
