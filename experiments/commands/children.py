"""Experiments as child processes: what starts one, what stops it, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

from experiments.report.gather import LOG, finished
from experiments.report.script import Script

__all__ = ["Child", "Outcome", "terminated"]

PATIENCE = 10.0  # seconds that a child has to put its things away once it is told to stop


@dataclass(frozen=True)
class Outcome:
    """How one experiment ended.

    ``failed``: a claim is not met. ``refused``: what it needs is not here, which it said in one line.
    ``crashed``: anything else but success.
    """

    name: str
    words: str
    seconds: float
    crashed: bool = False
    failed: bool = False
    refused: bool = False

    @property
    def line(self) -> str:
        """Name, seconds and verdict, for the terminal."""
        return f"{self.name:<24} {self.seconds:7.1f} s  {self.words}"


@dataclass
class Child:
    """One experiment, running in a process of its own; its output goes to ``OUT/NAME.log``."""

    script: Script
    out: Path
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=monotonic)
    began_ns: int = field(default_factory=time_ns)

    @classmethod
    def start(
        cls, script: Script, target: str, flags: Sequence[str], out: Path, threads: int | None
    ) -> Child:
        """Start ``ppl run TARGET``; ``threads`` for torch, None for as many as it likes."""
        environment = dict(os.environ, PYTHONUNBUFFERED="1")
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        command = [sys.executable, "-m", "experiments.cli", "run", target, *flags]
        began_ns = time_ns()
        with open(out / f"{script.name}.log", "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
        return cls(script, out, process, began_ns=began_ns)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return monotonic() - self.began

    @property
    def log(self) -> Path:
        """Where its output goes while it runs, and stays if it does not finish."""
        return self.out / f"{self.script.name}.log"

    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs. The log of a finished run moves into its folder."""
        status = self.process.poll()
        if status is None:
            return None
        folder = self.out / self.script.name
        run = finished(folder) if status in (0, 1) and self._is_new(folder / "config.json") else None
        if run is not None:
            os.replace(self.log, folder / LOG)
            return Outcome(self.script.name, run.words, self.seconds, failed=status == 1)
        last = self._last()
        if status == 2:
            self.log.unlink()
            return Outcome(self.script.name, f"not run: {last}", self.seconds, refused=True)
        return Outcome(self.script.name, f"CRASHED, {last} (see {self.log})", self.seconds, crashed=True)

    def interrupt(self) -> None:
        """Do to it, and to whatever it started, what Ctrl-C does."""
        self._signal(signal.SIGINT)

    def stop(self) -> None:
        """Wait until it has put its things away; kill what does not go."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def _is_new(self, config: Path) -> bool:
        # A crash leaves the earlier run's folder where it was.
        return config.is_file() and config.stat().st_mtime_ns >= self.began_ns

    def _last(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line for line in lines if line.strip() and not line.startswith("the run did not finish")]
        return told[-1].strip() if told else f"exit status {self.process.returncode}"


@contextmanager
def terminated() -> Iterator[None]:
    """Inside the block SIGTERM interrupts as Ctrl-C does, so that no child outlives its parent."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
