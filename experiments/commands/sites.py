"""A story's sites in words: one row each, for the terminal and the page."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from torch.distributions import constraints

from inference.story.structure import Plate, Site, Structure

__all__ = ["site_rows"]


def site_rows(structure: Structure, trace: Any, data: Collection[str]) -> list[dict[str, str]]:
    """Name, kind, distribution, plates, shape ``batch | event`` and support of every site.

    ``trace`` is a Pyro trace of the same story; parameters are read from it.
    """
    rows = structure.row_plate(name for name in data) if data else None
    table = [_row(site, _kind(site, data, rows)) for site in structure.sites.values()]
    for name in structure.params:
        shape = " ".join(map(str, trace.nodes[name]["value"].shape))
        table.append(_cells(name, "param", shape=f"| {shape}"))
    return table


def _row(site: Site, kind: str) -> dict[str, str]:
    plates = ", ".join(plate.name for plate in site.plates)
    if site.kind != "sample":
        shape = " ".join(map(str, site.shape))
        return _cells(site.name, kind, plates=plates, shape=f"| {shape}")
    batch = " ".join(map(str, site.fn.batch_shape))
    event = " ".join(map(str, site.fn.event_shape))
    return _cells(site.name, kind, _distribution(site.fn), plates, f"{batch} | {event}", _support(site.fn))


def _cells(
    name: str,
    kind: str,
    distribution: str = "",
    plates: str = "",
    shape: str = "",
    support: str = "",
) -> dict[str, str]:
    return {
        "site": name,
        "kind": kind,
        "distribution": distribution,
        "plates": plates,
        "batch | event": shape.strip(),
        "support": support,
    }


def _kind(site: Site, data: Collection[str], rows: Plate | None) -> str:
    if site.kind != "sample":
        return site.kind
    if site.name in data:
        return "data"
    if site.observed:
        return "observed (obs=)"
    words = ["latent", "discrete" if site.discrete else "", "local" if site.within(rows) else ""]
    return ", ".join(word for word in words if word)


def _distribution(fn: Any) -> str:
    """``Binomial.to_event(1)``: the family under Pyro's wrappers."""
    event = 0
    while hasattr(fn, "base_dist") and type(fn).__name__ in (
        "Independent",
        "MaskedDistribution",
        "ExpandedDistribution",
    ):
        event += getattr(fn, "reinterpreted_batch_ndims", 0)
        fn = fn.base_dist
    return f"{type(fn).__name__}.to_event({event})" if event else type(fn).__name__


def _support(fn: Any) -> str:
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    lower = _bound(getattr(support, "lower_bound", None))
    upper = _bound(getattr(support, "upper_bound", None))
    whole = "integers " if support.is_discrete else ""
    if lower and upper:
        return f"{whole}{lower} to {upper}"
    if lower:
        open_end = isinstance(support, constraints.greater_than)
        return f"{whole}{'above' if open_end else 'from'} {lower}"
    if upper:
        open_end = isinstance(support, constraints.less_than)
        return f"{whole}{'below' if open_end else 'up to'} {upper}"
    name = re.sub("(?<=[a-z])(?=[A-Z])", " ", type(support).__name__)
    return name.replace("_", " ").strip().lower()


def _bound(value: Any) -> str:
    """A bound as a number; ``...`` where it differs between elements."""
    if value is None:
        return ""
    if hasattr(value, "unique"):
        different = value.unique()
        return f"{different.item():g}" if different.numel() == 1 else "..."
    return f"{value:g}"
