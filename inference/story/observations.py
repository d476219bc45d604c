"""What was seen: data by site name, checked, with missing values told by masks.

Missing values are said, never guessed: in a numpy masked array, ``True`` means missing. A NaN is an
error, since it may as well be a bug upstream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.provenance import detach_provenance, get_provenance
from torch import Tensor

from inference.story.support import bounds_of

_PARTS = " The imaginary part would be lost: make the real and the imaginary part two sites of real numbers."


@dataclass(frozen=True)
class Observation:
    """The value of one site, and which of its elements were seen.

    Attributes:
        value: the site's value, in the site's full shape.
        seen: boolean, in the shape of ``value``; ``None`` when every element was seen.
    """

    value: Tensor
    seen: Tensor | None = None

    @property
    def complete(self) -> bool:
        """Whether every element was seen."""
        return self.seen is None


def as_observations(values: Mapping[str, Any], argument: str = "data") -> dict[str, Observation]:
    """Turn a mapping of site names to tensors, arrays or masked arrays into observations.

    Args:
        values: site name -> tensor, array, number or numpy masked array (True = missing).
        argument: what the caller calls this mapping, for error messages.

    Raises:
        ValueError: naming the site, for NaN, infinity or a value that is not numeric.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{argument}: expected a mapping of site names to arrays, got {type(values).__name__}. "
            f"Write {argument}={{'x': x}}."
        )
    return {str(name): _one(str(name), raw, argument) for name, raw in values.items()}


def _one(name: str, raw: Any, argument: str) -> Observation:
    if isinstance(raw, Observation):
        return raw
    seen = None
    if isinstance(raw, np.ma.MaskedArray):
        missing = np.ma.getmaskarray(raw)
        if missing.any():
            seen = torch.from_numpy(~missing)
        raw = np.where(missing, np.zeros((), raw.dtype), raw.data)
    value = _tensor(name, raw, argument)
    if not value.numel():
        raise ValueError(
            f"{argument}[{name!r}]: expected at least one value, got shape {tuple(value.shape)}."
        )
    finite = torch.isfinite(value) if value.is_floating_point() else torch.ones((), dtype=torch.bool)
    if not finite.all():
        count = int((~finite).sum())
        raise ValueError(
            f"{argument}[{name!r}]: expected finite numbers, got {count} NaN or infinite of "
            f"{value.numel()}. If they stand for missing values, say so with a masked array: "
            f"numpy.ma.masked_invalid({name})."
        )
    return Observation(value, seen)


def _tensor(name: str, raw: Any, argument: str) -> Tensor:
    if isinstance(raw, Tensor):
        if raw.is_complex():
            raise ValueError(f"{argument}[{name!r}]: expected numbers, got {raw.dtype}.{_PARTS}")
        value = raw.detach().clone()
    else:
        array = np.asarray(raw)
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"{argument}[{name!r}]: expected numbers, got an array of dtype {array.dtype}."
                f"{_PARTS if array.dtype.kind == 'c' else ''}"
            )
        value = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    return value.double() if value.is_floating_point() else value


class BeyondCountError(ValueError):
    """Data beyond a discrete support, whose bounds may be different in another run.

    Args:
        message: what is wrong, if they are not.
        observation: the data, as they are if it is not.
        bounds: of the support in this run.
    """

    def __init__(self, message: str, observation: Observation, bounds: list[Tensor]) -> None:
        super().__init__(message)
        self.observation = observation
        self.bounds = [detach_provenance(bound) for bound in bounds]

    def same_as(self, other: BeyondCountError | None) -> bool:
        """Whether another run had the same bounds."""
        return other is not None and all(
            torch.equal(mine, theirs) for mine, theirs in zip(self.bounds, other.bounds, strict=True)
        )


def fit_to_site(
    name: str,
    observation: Observation,
    fn: TorchDistributionMixin,
    sample: Tensor,
    argument: str = "data",
    counts: Collection[str] = (),
) -> Observation:
    """Check an observation against the distribution of its site; return it in the site's dtype and place.

    Args:
        name: of the site.
        observation: as :func:`as_observations` made it.
        fn: the site's distribution, plates included. Where its parameters are marked, an edge that depends
            on other sites rules nothing out.
        sample: a value of the site, for its shape and dtype, and to stand in for missing elements.
        argument: what the caller calls the data.
        counts: discrete sites without data, which may bound a discrete support (a binomial's total).

    Raises:
        BeyondCountError: for data beyond a discrete support that other counts may bound.
        ValueError: naming the site, what was expected and what came.
    """
    shape = tuple(fn.batch_shape + fn.event_shape)
    value = observation.value.to(sample.device)
    seen = None if observation.seen is None else observation.seen.to(sample.device)
    if tuple(value.shape) != shape:
        raise ValueError(
            f"{argument}[{name!r}]: expected shape {shape} (batch {tuple(fn.batch_shape)}, event "
            f"{tuple(fn.event_shape)}), got {tuple(value.shape)}.{_shape_hint(shape, value.shape)}"
        )
    filled = value if seen is None else torch.where(seen, value.to(torch.float64), sample.double())
    inside = fn.support.check(filled.double() if sample.is_floating_point() else filled)
    # A discrete support may move with other counts: but a binomial's bound carries its probabilities' marks.
    marks = get_provenance(inside)
    movable = bool(marks & set(counts)) if fn.support.is_discrete else bool(marks)
    inside = detach_provenance(inside)
    found = Observation(filled.to(sample.dtype), seen)
    if bool(inside.all()) or (movable and not fn.support.is_discrete):
        return found
    bad = filled.reshape(inside.shape + filled.shape[inside.dim() :])[~inside]
    message = (
        f"{argument}[{name!r}]: expected values in the support of {describe(fn)}, got "
        f"{int((~inside).sum())} outside it, such as {_show(bad)}."
    )
    if movable:
        raise BeyondCountError(message, found, [torch.as_tensor(bound) for bound in bounds_of(fn.support)])
    raise ValueError(message)


def _shape_hint(expected: tuple[int, ...], got: torch.Size) -> str:
    if tuple(got) == expected[::-1]:
        return " It looks transposed."
    if len(got) == len(expected) and got[1:] == expected[1:]:
        return " The number of rows differs from what the story was called with (args)."
    if tuple(got) == expected[:-1]:
        return " The site's last dimension is missing."
    return ""


def describe(fn: TorchDistributionMixin) -> str:
    """A distribution's class and the bounds of its support, for messages."""
    base: Any = fn
    while hasattr(base, "base_dist") and isinstance(base, dist.Independent | dist.MaskedDistribution):
        base = base.base_dist
    support = getattr(base, "support", None)
    bounds = [
        f"{side} {float(torch.as_tensor(bound).double().amax()):g}"
        for side in ("lower", "upper")
        if (bound := getattr(support, f"{side}_bound", None)) is not None
    ]
    kind = type(support).__name__.strip("_")
    return f"{type(base).__name__} ({', '.join([kind, *bounds])})"


def _show(values: Tensor) -> str:
    flat = values.reshape(-1)[:3].tolist()
    return ", ".join(f"{v:g}" for v in flat)


def factorized(fn: TorchDistributionMixin) -> bool:
    """Whether the elements of a site are independent given the rest, so that some may be missing."""
    if fn.event_dim == 0:
        return True
    return isinstance(fn, torch.distributions.Independent) and factorized_base(fn) is not None


def factorized_base(fn: Any) -> Any:
    """Return the element-wise distribution under ``.to_event``, or ``None`` if there is none."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn if fn.event_dim == 0 else None


def require_maskable(name: str, fn: Any, seen: Tensor, argument: str = "data") -> None:
    """Check that the missing elements of a site can be left out of its density.

    Args:
        name: of the site.
        fn: its distribution.
        seen: boolean, in the full shape of the site.
        argument: what the caller calls the data.

    Raises:
        ValueError: if part of a joint event is missing and the event does not factorize.
    """
    if factorized(fn):
        return
    rows = seen.flatten(-fn.event_dim)
    partial = rows.any(-1) & ~rows.all(-1)
    if bool(partial.any()):
        raise ValueError(
            f"{argument}[{name!r}]: {int(partial.sum())} events are partly missing, but the elements "
            f"of {type(fn).__name__} are not independent given the rest. Mask whole events, or write "
            f"the site with independent elements (a plate, or .to_event of a univariate distribution)."
        )


def mask_elements(fn: Any, seen: Tensor) -> Any:
    """Return ``fn`` with only the seen elements counted in its ``log_prob``.

    Whole events where the elements of an event are not independent; :func:`require_maskable` has
    checked that this is enough. Nothing here looks at values, so that it can be traced.
    """
    if fn.event_dim == 0:
        return fn.mask(seen)
    base = factorized_base(fn) if isinstance(fn, torch.distributions.Independent) else None
    if base is None:
        return fn.mask(seen.flatten(-fn.event_dim).all(-1))
    return base.mask(seen).to_event(fn.event_dim)
