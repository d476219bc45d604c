"""The run folder: written beside its final place, and swapped in only when it is complete.

A run writes to ``<name>.partial-<time>``. When it has finished, a run folder that already stands at
``<name>`` is renamed to ``<name>.before-<time>`` and the new one takes its place. Nothing is ever
deleted or overwritten: a run that fails leaves the earlier result as it was.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.report.errors import InputError
from experiments.report.numbers import jsonable
from inference.runtime.files import sync_folder, write_bytes

__all__ = ["RunFolder", "write_json", "write_text"]

# What makes a folder a run folder, and is written first.
MARK = "config.json"


class RunFolder:
    """The place of one run.

    Parameters
    ----------
    out
        The folder that holds run folders; made when it is missing.
    name
        The name of the run.

    Raises
    ------
    InputError
        If the folder cannot be written, or ``out/name`` holds something that no run has written.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.final = out / name
        self.previous: Path | None = None
        try:
            _refuse_foreign(self.final)
            out.mkdir(parents=True, exist_ok=True)
            self.partial = _make(_names(self.final, "partial"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot write to {self.final}: {reason}") from error

    def publish(self) -> None:
        """Swap the finished run in; what stood there is kept, and named by ``previous``."""
        if self.final.is_dir() and not any(self.final.iterdir()):
            self.final.rmdir()
        if self.final.exists():
            free = (name for name in _names(self.final, "before") if not name.exists())
            self.previous = self.final.rename(next(free))
        try:
            os.rename(self.partial, self.final)
        except OSError:
            if self.previous is not None:
                os.rename(self.previous, self.final)
            raise
        sync_folder(self.final.parent)

    def abandon(self) -> Path | None:
        """After a failure: the partial folder, or None (and no folder) if nothing is in it."""
        if all(path.name == MARK for path in self.partial.iterdir()):
            (self.partial / MARK).unlink(missing_ok=True)
            self.partial.rmdir()
            return None
        return self.partial


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary file beside it, synced, then renamed."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, indented; NaN and infinities as strings."""
    write_text(path, json.dumps(jsonable(value), indent=2, ensure_ascii=False) + "\n")


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / MARK).is_file():
            raise InputError(
                f"{folder} holds files that no run has written (it has no {MARK}); "
                "choose another folder with --out"
            )
    elif folder.exists():
        raise InputError(f"{folder} is a file, not a run folder; choose another folder with --out")


def _names(final: Path, kind: str) -> Iterator[Path]:
    """Names for a sibling folder: the time, then numbered where a second is not enough."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    yield final.with_name(f"{final.name}.{kind}-{stamp}")
    for number in itertools.count(2):
        yield final.with_name(f"{final.name}.{kind}-{stamp}-{number}")


def _make(names: Iterator[Path]) -> Path:
    for folder in names:
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder
