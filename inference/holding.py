"""Split rows into those that are fitted and those that are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.evidence import Evidence, as_evidence
from inference.minibatch import Rows
from inference.plan import plan
from inference.structure import Structure, inspect_rows, inspect_story

Part = tuple[Structure, dict[str, Evidence]]


def hold_out(
    structure: Structure, evidence: Mapping[str, Evidence], held_out: Any, seed: int
) -> tuple[Part, Part | None]:
    """Return the story and data of the fitted rows, and those of the held-out rows.

    Args:
        structure: of the story on all rows.
        evidence: checked.
        held_out: share of the rows, drawn at random; or data of other rows; or ``None``.
        seed: of the draw.

    Raises:
        ValueError: for a share that is not between 0 and 1 or leaves no row on one side, a story without a
            data plate, or held-out data without all of the sites in ``data``.
    """
    if held_out is None:
        return (structure, dict(evidence)), None
    rows = Rows(structure, evidence, plan(structure, evidence), None)
    if rows.plate is None:
        raise ValueError("held_out: expected a data plate that all observed sites share, got none.")
    if isinstance(held_out, Mapping):
        return (structure, dict(evidence)), _given(structure, evidence, held_out)
    share = held_out if isinstance(held_out, float | int) and not isinstance(held_out, bool) else -1.0
    count = round(share * rows.plate.size)
    if not 0 < share < 1 or not 0 < count < rows.plate.size:
        raise ValueError(
            f"held_out: expected None, a mapping of data, or a share between 0 and 1 that leaves rows on "
            f"both sides, got {held_out!r} of {rows.plate.size} rows."
        )
    order = torch.randperm(rows.plate.size, generator=torch.Generator().manual_seed(seed))
    held, kept = (_part(rows, index.sort().values) for index in (order[:count], order[count:]))
    return kept, held


def _part(rows: Rows, index: Tensor) -> Part:
    batch = rows.take(index)
    evidence = {n: Evidence(v, batch.seen.get(n)) for n, v in batch.values.items()}
    return inspect_story(batch.call, evidence)


def _given(structure: Structure, evidence: Mapping[str, Evidence], held_out: Mapping[str, Any]) -> Part:
    if set(held_out) != set(evidence):
        raise ValueError(
            f"held_out: expected data for {', '.join(sorted(evidence))}, got {', '.join(sorted(held_out))}."
        )
    call = replace(structure.call, counts_rows=structure.call.takes_rows)
    other, found = inspect_rows(call, as_evidence(held_out, "held_out"), "held_out")
    for name, one in found.items():
        if one.seen is not None and evidence[name].seen is None:
            raise ValueError(f"held_out[{name!r}]: expected no missing values, since data has none.")
        if one.seen is None and evidence[name].seen is not None:
            found[name] = Evidence(one.value, torch.ones_like(one.value, dtype=torch.bool))
    return other, found
