"""A model fitted twice in one process: what it cost, and the draws of the second fit."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from inference.runtime.files import write_bytes

__all__ = ["CHAINS", "TimedFit", "failed", "read", "twice", "write"]

CHAINS = 4  # of every library; ours are restarts
Draws = Mapping[str, Any]


@dataclass(frozen=True)
class TimedFit:
    """Two fits of one model in one process.

    Attributes
    ----------
    first_seconds, second_seconds
        Wall-clock time from the model and the data to draws in memory: building, tracing, compiling, warm-up
        and sampling; imports are excluded. The second fit is of the same model and shapes with another seed.
        Infinite if the fit failed.
    draws
        Quantity -> (chains, draws, *shape), float64, of the first fit.
    again
        The same of the second fit.
    notes
        What else the library said: divergences, the certificate, why it failed. Plain values.
    """

    first_seconds: float
    second_seconds: float
    draws: Draws
    again: Draws
    notes: Mapping[str, Any] = field(default_factory=dict)


def twice(fit: Callable[[int], Draws], seed: int) -> TimedFit:
    """Call ``fit(seed)`` and ``fit(seed + 1)``, timing both; each must return finished arrays.

    Examples
    --------
    >>> import numpy as np
    >>> done = twice(lambda seed: {"mu": np.full((4, 10), float(seed))}, seed=3)
    >>> done.draws["mu"].shape, float(done.again["mu"][0, 0]), done.first_seconds < 1
    ((4, 10), 4.0, True)
    """
    found, seconds = [], []
    for k in range(2):
        began = perf_counter()
        draws = fit(seed + k)
        seconds.append(perf_counter() - began)
        found.append({name: np.asarray(values, dtype=float) for name, values in draws.items()})
    return TimedFit(seconds[0], seconds[1], found[0], found[1])


def failed(why: str) -> TimedFit:
    """Return a fit that never ended, with the reason."""
    return TimedFit(math.inf, math.inf, {}, {}, {"failed": why})


def write(path: Path, done: TimedFit) -> None:
    """Write to one ``.npz`` file, whole or not at all."""
    facts = {"first": done.first_seconds, "second": done.second_seconds, "notes": dict(done.notes)}
    arrays = {f"draws {k}": v for k, v in done.draws.items()} | {
        f"again {k}": v for k, v in done.again.items()
    }
    memory = io.BytesIO()
    np.savez(memory, facts=np.asarray(json.dumps(facts)), **arrays)
    write_bytes(path, memory.getbuffer())


def read(path: Path) -> TimedFit:
    """Read what :func:`write` wrote; nothing in the file is executed."""
    with np.load(path, allow_pickle=False) as stored:
        facts = json.loads(str(stored["facts"]))
        parts: dict[str, dict[str, Any]] = {"draws": {}, "again": {}}
        for key in stored.files:
            kind, _, name = key.partition(" ")
            if name:
                parts[kind][name] = stored[key]
    return TimedFit(facts["first"], facts["second"], parts["draws"], parts["again"], facts["notes"])
