"""``launch``: from a module with ``main(run)`` to a run folder and its report."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from experiments.report.claims import claims_text, count
from experiments.report.errors import InputError
from experiments.report.folder import RunFolder, write_json, write_text
from experiments.report.page import render
from experiments.report.run import Run
from experiments.report.script import called, load, name_of, question_of
from experiments.report.style import style
from experiments.report.versions import versions
from inference.runtime.files import no_room

__all__ = ["INTERRUPTED", "OneLineParser", "Settings", "digest", "execute", "launch", "positive"]

INTERRUPTED = 130
COMMON = ("seed", "out", "smoke")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, raised as ``InputError``."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise InputError(f"{message} (see {self.prog} --help)")


@dataclass(frozen=True)
class Settings:
    """What one run is called with, beside the experiment itself.

    ``arguments`` are the flags as they were given, and ``file`` is the experiment's file: what
    ``ppl run --from`` needs to run it again.
    """

    name: str
    question: str
    options: argparse.Namespace
    command: Sequence[str]
    arguments: Sequence[str] = ()
    file: Path | None = None

    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        options = {k: v for k, v in vars(self.options).items() if k not in COMMON}
        again: dict[str, Any] = {"arguments": list(self.arguments)}
        if self.file is not None:
            again |= {"file": str(self.file.resolve()), "file sha256": digest(self.file)}
        return {
            "name": self.name,
            "question": self.question,
            "seed": self.options.seed,
            "smoke": self.options.smoke,
            "options": options,
            "command line": shlex.join(self.command),
            **again,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        }


def launch(experiment: str | Path | ModuleType, argv: Sequence[str] | None = None, *, prog: str = "") -> int:
    """Run an experiment: parse its flags, call ``main(run)``, write everything, print the claims.

    Parameters
    ----------
    experiment
        A file (``__file__``), a dotted module name, or a module.
    argv
        The flags; those of the process by default.
    prog
        How the command is called in messages; by default its file, or the folder of a ``__main__.py``.

    Returns
    -------
    int
        0 if no claim failed (or ``--smoke``, which judges none), 1 if one failed, 2 if the input
        cannot be used or the disk is full (one line on the error stream says why), 130 after Ctrl-C.

    Notes
    -----
    An exception inside the experiment is raised on, after its partial folder was named.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    speaker = prog.split()[0] if prog else _name(experiment)
    try:
        with _no_windows():
            module = load(experiment)
            settings = _settings(module, _name(experiment), argv, prog)
            run, folder = execute(settings, module.main)
    except InputError as error:
        print(f"{speaker}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not no_room(error):
            raise
        print(f"{speaker}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{speaker}: interrupted", file=sys.stderr)
        return INTERRUPTED
    _conclude(run, folder)
    met, judged = count(run.claims)
    return 0 if run.smoke or met == judged else 1


def execute(settings: Settings, body: Callable[[Run], object]) -> tuple[Run, RunFolder]:
    """Call ``body(run)`` in the house style and write its run folder, whole or not at all.

    ``settings.options`` holds at least ``seed``, ``out`` and ``smoke``. The folder appears at
    ``<out>/<name>`` when the run has finished; before that, and after a failure, its files lie in
    a folder beside it, which the error stream names.
    """
    options = settings.options
    folder = RunFolder(Path(options.out), settings.name)
    config = settings.config()
    run = Run(
        settings.name,
        settings.question,
        folder.partial,
        options.seed,
        options.smoke,
        options,
    )
    try:
        write_json(folder.partial / "config.json", config)
        with style():
            body(run)
        _write(run, config)
        folder.publish()
    except BaseException:
        partial = folder.abandon()
        if partial is not None:
            print(f"the run did not finish; what it wrote is in {partial}", file=sys.stderr)
        raise
    run.folder = folder.final
    return run, folder


def digest(file: Path) -> str:
    """The SHA-256 of an experiment's files: whether it has changed since a run.

    Of a script in a folder of its own, its helpers' too.
    """
    files = sorted(file.parent.glob("*.py")) if file.name == "__main__.py" else [file]
    return hashlib.sha256(b"".join(one.read_bytes() for one in files)).hexdigest()


def positive(text: str) -> int:
    """An argparse type for counts: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {value}")
    return value


def _write(run: Run, config: dict[str, Any]) -> None:
    config["seconds"] = round(run.seconds, 2)
    software = versions()
    metrics = {name: vars(metric) for name, metric in run.metrics.items()}
    write_json(run.folder / "config.json", config)
    write_json(run.folder / "metrics.json", metrics)
    write_json(run.folder / "claims.json", [claim.record(run.smoke) for claim in run.claims])
    write_json(run.folder / "versions.json", software)
    write_json(run.folder / "contents.json", run.contents())
    write_text(run.folder / "report.html", render(run, config, software))


def _conclude(run: Run, folder: RunFolder) -> None:
    print(claims_text(run.claims, run.smoke))
    met, judged = count(run.claims)
    print(f"\n{'not judged' if run.smoke else f'{met} of {judged} claims met'}", end="")
    print(f", {run.seconds:.1f} s, seed {run.seed}")
    for fit in run.fits:
        if not fit.trusted:
            print(f"the posterior of {fit.name} is not trusted:")
            print("\n".join(f"  - {reason}" for reason in fit.reasons))
    print(f"report: {folder.final / 'report.html'}")
    if folder.previous is not None:
        print(f"the run that stood there is now {folder.previous}")


def _settings(module: ModuleType, name: str, argv: Sequence[str], prog: str) -> Settings:
    question = question_of(module.__doc__, name)
    file = getattr(module, "__file__", None)
    own = called(file or f"{name}.py").name or name
    parser = OneLineParser(
        prog=prog or own,
        description=inspect.cleandoc(module.__doc__ or question),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results"),
        help=f"write OUT/{name}/ (default results); an earlier run there is kept, renamed",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny settings, seconds; claims are not judged")
    if hasattr(module, "options"):
        module.options(parser)
    command = [*(prog.split() or ["python", own]), *argv]
    return Settings(name, question, parser.parse_args(argv), command, argv, Path(file) if file else None)


def _name(experiment: str | Path | ModuleType) -> str:
    if isinstance(experiment, ModuleType):
        file = getattr(experiment, "__file__", None)
        return name_of(file) if file else experiment.__name__.rpartition(".")[2]
    text = str(experiment)
    return name_of(text) if text.endswith(".py") else text.rpartition(".")[2]


@contextmanager
def _no_windows() -> Iterator[None]:
    """Where matplotlib is not loaded yet, it shall draw to files, not to a screen."""
    if "MPLBACKEND" in os.environ or "matplotlib" in sys.modules:
        yield
        return
    os.environ["MPLBACKEND"] = "agg"
    try:
        yield
    finally:
        os.environ.pop("MPLBACKEND", None)
