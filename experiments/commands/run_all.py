"""``ppl run --all``: every experiment, each in a process of its own, and an index page of what came out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from experiments.commands.children import Child, Outcome, stop, terminated
from experiments.report.errors import InputError
from experiments.report.gather import Finished, finished
from experiments.report.index import write_index
from experiments.report.launch import digest
from experiments.report.script import FOLDER, Script, scan
from experiments.report.versions import DISTRIBUTION, own_version

__all__ = ["cores", "run_all"]

INTERRUPTED = 130
POLL = 0.2  # seconds between looks at the children


def run_all(
    out: Path, folder: Path | None = None, *, seed: int = 0, smoke: bool = False,
    jobs: int | None = None, resume: bool = False,
) -> int:  # fmt: skip
    """Run every experiment of a folder, ``jobs`` at a time, and write ``out/index.html``.

    Those that declare ``ALONE = True`` measure time or use every core by themselves: they run last, one at a
    time (in a smoke run, where nothing is judged, beside the others). The rest start with the one
    that took longest in an earlier run in ``out``.

    Parameters
    ----------
    out
        Holds the run folders, and the log of each: ``NAME/log.txt``, or ``NAME.log`` if it did not finish.
    folder
        Of the experiments; those of this project by default.
    seed, smoke
        As for a single run.
    jobs
        Processes at a time, the number of cores by default; of one torch thread each if above 1.
    resume
        Leave out what ``out`` holds already, of this seed, this ``smoke``, this version and this script.

    Returns
    -------
    int
        0 if every claim is met, 1 if one is not, an experiment crashed or none could run here, 130 after
        Ctrl-C, which keeps what is done.

    Raises
    ------
    InputError
        If the folder holds no experiments or ``out`` cannot be written.
    """
    scripts = _scripts(folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    earlier = {script.name: finished(out / script.name) for script in scripts}
    done = [s for s in scripts if resume and _complete(earlier[s.name], s, seed, smoke)]
    for script in done:
        print(f"{script.name:<24} is there already: {earlier[script.name].words}")  # type: ignore[union-attr]
    flags = [f"--seed={seed}", f"--out={out}", *(["--smoke"] if smoke else [])]
    longest = sorted(
        (script for script in scripts if script not in done),
        key=lambda script: -run.seconds if (run := earlier[script.name]) is not None else -float("inf"),
    )
    work = _Work(out, flags, jobs or cores(), folder is not None, smoke)
    work.waiting = longest if smoke else sorted(longest, key=lambda script: script.alone)
    began = monotonic()
    try:
        with terminated():
            work.finish()
    except KeyboardInterrupt:
        with suppress(OSError):  # after SIGHUP there is no terminal to write on
            print("ppl: interrupted; what is done is kept, --resume goes on from here", file=sys.stderr)
        with suppress(OSError):
            _conclude(work.outcomes, out, monotonic() - began)
        return INTERRUPTED
    _conclude(work.outcomes, out, monotonic() - began)
    # What was left out because it was done counts as what it is.
    missed = any(run is not None and run.missed for s in done for run in [earlier[s.name]])
    nothing = not done and all(one.refused for one in work.outcomes)
    return 1 if missed or nothing or any(one.failed or one.crashed for one in work.outcomes) else 0


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Work:
    """What waits, what runs, and what has ended."""

    out: Path
    flags: Sequence[str]
    jobs: int
    by_file: bool
    crowded: bool
    waiting: list[Script] = field(default_factory=list)
    running: list[Child] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def finish(self) -> None:
        """Start and await everything; when interrupted, stop what runs."""
        try:
            while self.waiting or self.running:
                self._start()
                self._await()
        finally:
            stop(self.running)
            _live("")

    def _start(self) -> None:
        while self.waiting and len(self.running) < self.jobs:
            alone = self.waiting[0].alone and not self.crowded
            if alone and self.running:
                return
            script = self.waiting.pop(0)
            target = str(script.path) if self.by_file else script.name
            threads = None if alone or self.jobs == 1 else 1
            self.running.append(Child.start(script, target, self.flags, self.out, threads))
            if alone:
                self._alone()

    def _alone(self) -> None:
        while self.running:
            self._await()

    def _await(self) -> None:
        for child in list(self.running):
            outcome = child.outcome()
            if outcome is not None:
                self.running.remove(child)
                self.outcomes.append(outcome)
                _live("")
                print(outcome.line, flush=True)
        if self.running:
            names = ", ".join(f"{child.script.name} {child.seconds:.0f} s" for child in self.running)
            _live(f"{len(self.outcomes)} done, {len(self.waiting)} waiting, running: {names}")
            sleep(POLL)


def _scripts(folder: Path | None) -> list[Script]:
    if folder is not None and not folder.is_dir():
        raise InputError(f"run --all: expected a folder of experiments, or nothing, got {folder}")
    scripts = scan(FOLDER if folder is None else folder)
    if not scripts:
        raise InputError(
            f"run --all: {folder} holds no experiment (a Python file with a function main(run), or a folder "
            f"with such a __main__.py)"
        )
    return scripts


def _complete(run: Finished | None, script: Script, seed: int, smoke: bool) -> bool:
    """Whether a finished run is the one that would be made now, with no flags of its own."""
    if run is None or (run.config.get("seed"), run.smoke) != (seed, smoke):
        return False
    if run.config.get("file sha256") != digest(script.path):
        return False  # edited since
    arguments = run.config.get("arguments", ["?"])
    common = ("--seed=", "--out=", "--smoke")
    plain = all(str(argument).startswith(common) for argument in arguments)
    return plain and run.versions.get(DISTRIBUTION) == own_version()


def _live(text: str) -> None:
    """On a terminal, a line that is written over; elsewhere nothing."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size((100, 24)).columns - 1
        print(f"\r\x1b[K{text[:width]}", end="", flush=True)


def _conclude(outcomes: Sequence[Outcome], out: Path, seconds: float) -> None:
    kinds = {
        "without a claim that failed": [o for o in outcomes if not (o.failed or o.crashed or o.refused)],
        "with claims not met": [o for o in outcomes if o.failed],
        "crashed": [o for o in outcomes if o.crashed],
        "could not run here": [o for o in outcomes if o.refused],
    }
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items() if found)
    try:
        index = f"index: {write_index(out)}"
    except InputError as error:
        index = f"no index: {error}"
    print(f"\n{len(outcomes)} experiments in {seconds:.0f} s: {counts or 'nothing was left to do'}\n{index}")
