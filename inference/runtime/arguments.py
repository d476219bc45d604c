"""Arguments that are checked alike wherever they are taken: counts, devices."""

from __future__ import annotations

from numbers import Integral

import torch


def check_counts(**counts: int | None) -> None:
    """Require positive integers, numpy's too, or ``None``."""
    for name, value in counts.items():
        integer = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (integer and value >= 1):
            raise ValueError(f"{name}: expected a positive integer, got {value!r}.")


def device_named(name: str | torch.device | None) -> torch.device | None:
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
