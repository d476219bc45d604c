"""Distributions that do not know their own edge: no density outside, where validation would raise.

A story runs with validation off. Many densities are ``-inf`` outside their support by themselves; others go
on as if there were no edge: an exponential that starts at an unknown time grows the more likely the later it
starts, past the first observation. Inside every run of a story those are replaced by copies that know,
wherever a value may come to lie outside: where the edge depends on unknowns, and where the story observes
what it computed itself (``obs=data - start``). Data beyond a fixed edge are refused before any run.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

_WRAPPED = (torch.distributions.Independent, dist.MaskedDistribution, dist.ExpandedDistribution)
_PUSHED = (dist.TransformedDistribution, torch.distributions.TransformedDistribution)
_OPEN = (dist.Pareto, dist.AffineBeta)  # of the named ones: their formulas hold beyond their bounds, too


class Edges(Messenger):
    """Let every site's density be ``-inf`` outside its support.

    Args:
        computed: the sites that the story observes itself at values that it computed from unknowns; ``None``
            if all may be.

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

    def __init__(self, computed: Collection[str] | None = None) -> None:
        super().__init__()
        self.computed = computed

    def _pyro_sample(self, msg: Any) -> None:
        known = self.computed is None or msg["name"] in self.computed
        msg["fn"] = edged(msg["fn"], observed=known and msg["is_observed"])


def edged(fn: Any, observed: bool = False) -> Any:
    """The distribution with its edge; itself where it knows it.

    Args:
        fn: a distribution.
        observed: whether the story observes the site itself, at a value that it may have computed.
    """
    if isinstance(fn, _WRAPPED):
        return _with_parts(fn, observed, "base_dist")
    if isinstance(fn, torch.distributions.MixtureSameFamily):
        return _with_parts(fn, observed, "_component_distribution")
    if isinstance(fn, dist.MaskedMixture):
        return _with_parts(fn, observed, "component0", "component1")
    if not _open(fn, observed):
        return fn
    changed = copy.copy(fn)
    changed.__class__ = _knowing(type(fn))
    return changed


def _with_parts(fn: Any, observed: bool, *names: str) -> Any:
    """A copy whose parts know their edges; the distribution itself if they all do."""
    parts = {name: edged(getattr(fn, name), observed) for name in names}
    if all(part is getattr(fn, name) for name, part in parts.items()):
        return fn
    changed = copy.copy(fn)
    changed.__dict__.update(parts)
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
    event = len(fn.event_shape)
    if isinstance(fn, dist.MaskedDistribution):
        return inside(fn.base_dist, value) | ~torch.as_tensor(fn._mask)
    if isinstance(fn, _WRAPPED):
        return _whole(inside(fn.base_dist, value), event - len(fn.base_dist.event_shape))
    if not isinstance(fn, torch.distributions.TransformedDistribution):
        return _check(fn.support, value, event)
    fits: Tensor = torch.ones((), dtype=torch.bool, device=value.device)
    for transform in reversed(fn.transforms):
        fits = fits & _check(transform.codomain, value, event)
        value = transform.inv(value)
        event += transform.domain.event_dim - transform.codomain.event_dim
    return fits & _whole(inside(fn.base_dist, value), event - len(fn.base_dist.event_shape))


def _check(support: Any, value: Tensor, event: int) -> Tensor:
    """Which events meet a constraint; those of a constraint that says nothing do."""
    if constraints.is_dependent(support):
        return torch.ones((), dtype=torch.bool, device=value.device)
    return _whole(support.check(value), event - support.event_dim)


def _whole(fits: Tensor, dims: int) -> Tensor:
    """Events all of whose elements fit: over the last so many dimensions."""
    return fits.flatten(-dims).all(-1) if dims > 0 else fits


def _open(fn: Any, observed: bool) -> bool:
    """Whether a density may be asked for beyond its support, and go on there."""
    if isinstance(fn, _Knowing):
        return False
    if isinstance(fn, _OPEN):
        return True
    own = not type(fn).__module__.startswith(("torch.", "pyro."))  # a user's
    inherited = isinstance(fn, _PUSHED) and type(fn).log_prob is _PUSHED[1].log_prob
    if type(fn) in _PUSHED or (own and inherited):
        return not _boundless(fn)
    found = bounds(fn)
    return bool(found) if observed else own and any(isinstance(bound, Tensor) for bound in found)


def bounds(fn: Any) -> list[Any]:
    """The bounds between which a continuous distribution's single numbers lie.

    Example:
        >>> bounds(dist.Gamma(2.0, 1.0).expand([3]).to_event(1)), bounds(dist.Normal(0.0, 1.0))
        ([0.0], [])
    """
    try:
        support: Any = fn.support
    except (AttributeError, NotImplementedError):  # it does not say
        return []
    return [] if constraints.is_dependent(support) or support.is_discrete else bounds_of(support)


def bounds_of(support: Any) -> list[Any]:
    """The bounds of single numbers; a simplex and the like have none."""
    both = [getattr(_single(support), f"{side}_bound", None) for side in ("lower", "upper")]
    return [bound for bound in both if bound is not None]


def _boundless(fn: Any) -> bool:
    while isinstance(fn, _WRAPPED):
        fn = fn.base_dist
    if isinstance(fn, _PUSHED):
        return _boundless(fn.base_dist) and not any(bounds_of(t.codomain) for t in fn.transforms)
    try:
        return _single(fn.support) is constraints.real
    except NotImplementedError:  # a user's own, which does not say
        return True


def _single(support: Any) -> Any:
    """The constraint of one element."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


class _Knowing:
    """The part of a class that makes its densities end where its support does."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, ``-inf`` outside the support; its gradient there is 0."""
        within = inside(self, value)
        if _elementwise(self):
            # NaN would come back from outside through the gradient of what is not chosen.
            value = torch.where(within, value, _somewhere(self, value))
        density: Tensor = super().log_prob(value)  # type: ignore[misc]
        return torch.where(within, density, -torch.inf)


def _elementwise(fn: Any) -> bool:
    """Whether every number has a density of its own, all the way down."""
    while isinstance(fn, (*_WRAPPED, *_PUSHED)):
        if fn.event_shape or any(t.domain.event_dim for t in getattr(fn, "transforms", ())):
            return False
        fn = fn.base_dist
    return not fn.event_shape and not constraints.is_dependent(fn.support)


def _somewhere(fn: Any, like: Tensor) -> Tensor:
    """A number inside the support of each element."""
    if isinstance(fn, _WRAPPED):
        return _somewhere(fn.base_dist, like)
    if isinstance(fn, _PUSHED):
        value = _somewhere(fn.base_dist, like)
        for transform in fn.transforms:
            value = transform(value)
        return value.detach()
    return torch.distributions.biject_to(fn.support)(like.new_zeros(fn.batch_shape)).detach()


_KINDS: dict[type, type] = {}


def _knowing(kind: type) -> type:
    if kind not in _KINDS:
        _KINDS[kind] = type(kind.__name__, (_Knowing, kind), {})
    return _KINDS[kind]
