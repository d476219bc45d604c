"""Tasks of the sbi benchmark whose likelihood is known, one per file, found by file name.

A file tells its ``story`` and poses an observation of its own, ``task(seed)``: parameters drawn from the
prior and data from the simulator. Definitions are the benchmark's to the last constant; its observations are
not used.

Source: Lueckmann, Boelts, Greenberg, Goncalves and Macke (2021), Benchmarking simulation-based inference,
AISTATS, and the tasks' code in the package sbibm.

Examples
--------
>>> from experiments.truth.sbi import task
>>> task("gaussian_linear", 1).reference(5, 0).shape
torch.Size([5, 10])
"""

import sys

from experiments.compare import found
from experiments.truth.benchmark_task import BenchmarkTask


def names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return found.names(sys.modules[__name__])


def task(name: str, seed: int) -> BenchmarkTask:
    """Return a task by the name of its file, with the observation of a seed.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those that there are.
    """
    posed: BenchmarkTask = found.part(sys.modules[__name__], name, "name").task(seed)
    return posed
