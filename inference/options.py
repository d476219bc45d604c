"""What ``fit`` is called with, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from inference.isolation import isolated
from inference.loaders import collected, is_loader
from inference.structure import Structure


def check_counts(**counts: int | None) -> None:
    """Require positive integers, or ``None``."""
    for name, value in counts.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}: expected a positive integer, got {value!r}.")


def warm_up(steps: Any) -> int:
    """The number of steps of the warm-up."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ValueError(f"warm_up: expected a number of steps, 0 for none, got {steps!r}.")
    return steps


def device(name: str | torch.device | None) -> torch.device | None:
    """The device to train on, after a tensor was put there; ``None`` where none was named."""
    if name is None:
        return None
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: expected a device that torch can use here, got {name!r} ({reason})."
        ) from error
    return chosen


def require_cpu(chosen: torch.device | None) -> None:
    """Refuse another device where the ladder serves."""
    if chosen is not None and chosen.type != "cpu":
        raise ValueError(
            f"device: expected None or 'cpu', got {str(chosen)!r}: the ladder of guides for stories without "
            f"networks runs on the CPU. A guide program, optim or batch_size is fitted by SVI, anywhere."
        )


def rows_of(data: Any, batch_size: int | None, held_out: Any) -> tuple[Any, Any]:
    """The loader, where data come from one, and all of its rows; else ``None`` and the data."""
    if not is_loader(data):
        return None, data
    if batch_size is not None:
        raise ValueError("batch_size: the loader makes the batches, expected None, got a number.")
    if held_out is not None and not isinstance(held_out, Mapping):
        raise ValueError(
            "held_out: a loader hands out all of its rows, expected a mapping of other rows, got a share."
        )
    with isolated(0, torch.get_default_dtype()):
        return data, collected(data)


def require_data(structure: Structure, data: Mapping[str, Any]) -> None:
    """Require that something is observed."""
    if not data and not any(site.observed for site in structure.sites.values()):
        raise ValueError(
            "data: expected at least one observed site, got none, and the story observes nothing "
            "itself: there is nothing to learn from. For the story as it stands, use inference.prior."
        )
