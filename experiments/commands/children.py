"""Experiments as child processes: what starts one, what stops them, and how each ended."""

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
from experiments.report.script import FOLDER, Script

__all__ = ["Child", "Outcome", "stop", "terminated"]

PATIENCE = 10.0  # seconds that children have, together, to put their things away once they are told to stop
ROOT = str(FOLDER.parent)
# `python -m` would look into the current folder first, and run a stranger's package of the name experiments.
PPL = (
    f"import sys; sys.path[:1] = [] if {ROOT!r} in sys.path[1:] else [{ROOT!r}]; "
    "from experiments.cli import main; raise SystemExit(main())"
)
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


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
        command = [sys.executable, "-c", PPL, "run", target, *flags]
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
        last = f"{self._last()} (see {self.log})"
        if status == 2:
            return Outcome(self.script.name, f"not run: {last}", self.seconds, refused=True)
        return Outcome(self.script.name, f"CRASHED, {last}", self.seconds, crashed=True)

    def interrupt(self) -> None:
        """Do to it, and to whatever it started, what Ctrl-C does."""
        self._signal(signal.SIGINT)

    def wait(self, until: float) -> None:
        """Wait until it has put its things away, at most until ``monotonic()`` says so."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, until - monotonic()))

    def kill(self) -> None:
        """End it, and whatever it left behind."""
        self._signal(signal.SIGKILL)

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


def stop(children: Sequence[Child]) -> None:
    """Interrupt all, give them ``PATIENCE`` together, kill what is left; a second Ctrl-C changes nothing."""
    with _handled(signal.SIG_IGN):
        for child in children:
            child.interrupt()
        until = monotonic() + PATIENCE
        for child in children:
            child.wait(until)
        for child in children:
            child.kill()
        for child in children:
            child.process.wait()


@contextmanager
def terminated() -> Iterator[None]:
    """Inside the block SIGTERM and SIGHUP interrupt as Ctrl-C does, so that no child outlives its parent.

    Only the first of these signals does: those that follow must not disturb the clearing up.
    """
    told = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    with _handled(interrupt):
        yield


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Inside the block one handler for all signals that stop; what is ignored, as by nohup, stays so."""
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number, was in before.items():
            if was is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, signal.SIG_DFL if was is None else was)
