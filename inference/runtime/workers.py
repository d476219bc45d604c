"""Independent pieces of work on several cores.

Torch lets go of Python's lock inside its operations, so that threads suffice. Every piece works on one of
torch's threads and draws from generators of its own: results do not depend on how many workers there are.
The seeds of those generators are mixed here, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def workers() -> int:
    """How many there may be: one for each core that this process may use, no more than torch may.

    Where torch was told to use one thread (``OMP_NUM_THREADS=1``, or work inside other work), it is one.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, torch.get_num_threads()))


def run_each(function: Callable[[_Item], _Result], items: Sequence[_Item], count: int) -> Iterator[_Result]:
    """The results of a function, in order, by so many workers; an error in one is raised here.

    Example:
        >>> list(run_each(lambda x: x + 1, [1, 2, 3], count=2))
        [2, 3, 4]
    """
    count = min(count, len(items))
    if count <= 1:
        yield from map(function, items)
        return
    # The pool's own threads would else start with as many of torch's as there are cores.
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(function, items)


def mix(seed: int, index: int) -> int:
    """A seed for one restart or data set, far from those of neighbours (a 64-bit multiplicative hash)."""
    if not isinstance(seed, Integral):
        raise ValueError(f"seed: expected an integer, got {seed!r}.")
    return ((int(seed) * 1_000_003 + index + 1) * 0x9E3779B97F4A7C15) % 2**63
