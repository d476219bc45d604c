"""``ppl report DIR``: an index page of the runs in a folder."""

from __future__ import annotations

from pathlib import Path

from experiments.report.gather import gather
from experiments.report.index import write_index

__all__ = ["report_command"]


def report_command(folder: Path) -> int:
    """Write ``folder/index.html`` and print a line for each run; the exit status is 0.

    Raises
    ------
    InputError
        If the folder holds no runs.
    """
    runs, unfinished = gather(folder)
    for run in runs:
        print(f"{run.folder.name:<24} {run.words}")
    for left in unfinished:
        print(f"{left.name:<24} did not finish: {left.last}")
    print(f"index: {write_index(folder)}")
    return 0
