"""A fresh interpreter: time and memory that no earlier work has touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["last_line"]

ROOT = Path(__file__).parents[2]


def last_line(*arguments: str, timeout: float | None = None) -> Any:
    """Call Python with arguments, on one thread, and read the last line that it prints as JSON.

    Parameters
    ----------
    arguments
        ``"-m", MODULE, ...`` or ``"-c", CODE``; the packages of this project can be imported.
    timeout
        Seconds after which the process is ended.

    Raises
    ------
    RuntimeError
        If it fails; the message ends with the last line of its error stream.
    subprocess.TimeoutExpired
        If it takes longer.

    Examples
    --------
    >>> last_line("-c", "print('words'); print([1, 2.5])")
    [1, 2.5]
    """
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, check=False,
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"python {' '.join(arguments)} failed: {last}")
    return json.loads(done.stdout.splitlines()[-1])
