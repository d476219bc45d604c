"""Many tasks, each done by one function, in processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import torch

__all__ = ["results"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def results(perform: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """Do all tasks, in so many processes of one thread each, or in this one for 0; as they are done.

    Parameters
    ----------
    perform
        A function that a fresh process can import: it stands in a module, and not in ``__main__``.
    tasks
        What it is called with, one after another; with workers in the order in which they are begun.
    workers
        How many processes; for 0 the results come in the order of the tasks.

    Examples
    --------
    >>> list(results(abs, [-1, 2, -3], workers=0))
    [1, 2, 3]
    """
    if workers == 0:
        yield from map(perform, tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for done in as_completed([pool.submit(perform, task) for task in tasks]):
            yield done.result()
