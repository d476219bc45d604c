"""Distributions that do not know their own edge: no density outside, where validation would raise.

A story runs with validation off. Most densities are ``-inf`` outside their support by themselves; a few go on
as if there were no edge: an exponential that starts at an unknown time grows the more likely the later it
starts, past the first observation. Inside every run of a story those are replaced by copies that know.
"""

from __future__ import annotations

import copy
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

_WRAPPED = (torch.distributions.Independent, dist.MaskedDistribution, dist.ExpandedDistribution)
_OPEN = (dist.Pareto, dist.AffineBeta)  # of the named ones: their formulas hold beyond their bounds, too


class Edges(Messenger):
    """Let every site's density be ``-inf`` outside its support.

    Example:
        >>> import pyro, torch
        >>> from pyro import poutine
        >>> shift = dist.transforms.AffineTransform(5.0, 1.0)
        >>> def waiting():
        ...     later = dist.TransformedDistribution(dist.Exponential(1.0), shift)
        ...     pyro.sample("time", later.expand([2]).to_event(1), obs=torch.tensor([4.0, 6.0]))
        >>> with pyro.validation_enabled(False):
        ...     beyond = poutine.trace(waiting).get_trace().log_prob_sum()
        ...     with Edges():
        ...         ruled_out = poutine.trace(waiting).get_trace().log_prob_sum()
        >>> float(beyond), float(ruled_out)
        (0.0, -inf)
    """

    def _pyro_sample(self, msg: Any) -> None:
        msg["fn"] = edged(msg["fn"])


def edged(fn: Any) -> Any:
    """The distribution with its edge; itself where it knows it."""
    if isinstance(fn, _WRAPPED):
        base = edged(fn.base_dist)
        if base is fn.base_dist:
            return fn
        changed: Any = copy.copy(fn)
        changed.base_dist = base
        return changed
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        base = edged(fn.component_distribution)
        if base is fn.component_distribution:
            return fn
        changed = copy.copy(fn)
        changed._component_distribution = base
        return changed
    if not _open(fn):
        return fn
    changed = copy.copy(fn)
    changed.__class__ = _knowing(type(fn))
    return changed


def inside(fn: Any, value: Tensor) -> Tensor:
    """Which events of ``value`` lie in the support, that of every distribution underneath included.

    Args:
        fn: a distribution.
        value: (*batch, *event).

    Returns:
        Boolean (*batch,), before broadcasting.

    Example:
        >>> shift = dist.transforms.AffineTransform(5.0, 1.0)
        >>> later = dist.TransformedDistribution(dist.Exponential(1.0), shift)
        >>> inside(later, torch.tensor([4.0, 6.0])).tolist()
        [False, True]
    """
    batch = value.dim() - len(fn.event_shape)
    if isinstance(fn, dist.MaskedDistribution):
        return inside(fn.base_dist, value) | ~torch.as_tensor(fn._mask)
    if isinstance(fn, _WRAPPED):
        return _whole(inside(fn.base_dist, value), batch)
    if not isinstance(fn, torch.distributions.TransformedDistribution):
        return _whole(fn.support.check(value), batch)
    fits: Tensor = torch.ones((), dtype=torch.bool, device=value.device)
    for transform in reversed(fn.transforms):
        fits = fits & _whole(transform.codomain.check(value), batch)
        value = transform.inv(value)
    return fits & _whole(inside(fn.base_dist, value), batch)


def _whole(fits: Tensor, batch: int) -> Tensor:
    """Events all of whose elements fit."""
    return fits.flatten(batch).all(-1) if fits.dim() > batch else fits


def _open(fn: Any) -> bool:
    """Whether a density goes on beyond its support: pushed by transforms, from a base that has an edge."""
    if isinstance(fn, _OPEN):
        return True
    return type(fn) in _PUSHED and not _boundless(fn.base_dist)


_PUSHED = (dist.TransformedDistribution, torch.distributions.TransformedDistribution)


def _boundless(fn: Any) -> bool:
    while isinstance(fn, _WRAPPED):
        fn = fn.base_dist
    if type(fn) in _PUSHED:
        return _boundless(fn.base_dist)
    try:
        support = fn.support
    except NotImplementedError:  # a user's own, which does not say
        return True
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real


class _Knowing:
    """The part of a class that makes its densities end where its support does."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, ``-inf`` outside the support."""
        density: Tensor = super().log_prob(value)  # type: ignore[misc]
        return torch.where(inside(self, value), density, -torch.inf)


_KINDS: dict[type, type] = {}


def _knowing(kind: type) -> type:
    if kind not in _KINDS:
        _KINDS[kind] = type(kind.__name__, (_Knowing, kind), {})
    return _KINDS[kind]
