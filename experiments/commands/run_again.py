"""``ppl run --from DIR``: make a run again from its folder, and say whether the numbers are the same.

A run folder may come from anywhere, so what it says is data: which script is executed is decided by this
installation, or by the command line.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from experiments.report.again import compare_runs
from experiments.report.errors import InputError
from experiments.report.gather import Finished, finished
from experiments.report.launch import digest, launch
from experiments.report.script import FOLDER, Script, beside, called, name_of, scan

__all__ = ["run_again"]

AGAIN = "again"
SETTINGS = ("seed", "smoke", "options")


def run_again(folder: Path, out: Path | None = None, script: Path | None = None) -> int:
    """Run what a run folder holds once more, with the same settings, and compare the two.

    It is the experiment of this installation that bears the run's name, or the script that is handed in;
    never a script only because the folder names it.

    Parameters
    ----------
    folder
        A run folder; it is not touched.
    out
        Where the new run folder goes; ``again/`` beside the old one by default.
    script
        One's own script that made the run, or that takes its place.

    Returns
    -------
    int
        0 if all numbers are the same (times aside), 1 if some differ or there was nothing to compare,
        otherwise what the run returned.

    Raises
    ------
    InputError
        If the folder is no run folder, was not made by an experiment, or by a script that is neither of this
        installation nor handed in; or the script that is handed in bears another name.
    """
    old = _read(folder)
    out = folder.resolve().parent / AGAIN if out is None else out
    if (out / old.name).resolve() == folder.resolve():
        raise InputError(f"--out {out}: the earlier run stands there; choose another folder")
    experiment, file = _experiment(old, script)
    for warning in [*_other_script(old, file), *_other_software(old)]:
        print(f"ppl: warning: {warning}", file=sys.stderr)
    given = [str(argument) for argument in old.config["arguments"]]
    arguments = [*(flag for flag in given if not flag.startswith("--out=")), f"--out={out}"]
    inside = isinstance(experiment, str)
    prog = f"ppl run {old.name if inside else called(experiment)}"
    with nullcontext() if inside else beside(Path(experiment)):
        status = launch(experiment, arguments, prog=prog)
    new = finished(out / old.name) if status in (0, 1) else None
    return status if new is None else _compare(old, new, _other_script(old, file))


def _read(folder: Path) -> Finished:
    run = finished(folder)
    if run is None:
        raise InputError(f"{folder} is no run folder: it has no readable config.json")
    command = str(run.config.get("command line", ""))
    if command.startswith(("ppl fit ", "ppl check ")):
        raise InputError(f"{folder} was not made by an experiment; repeat it by its own command: {command}")
    missing = [name for name in ("name", "arguments", "file", *SETTINGS) if name not in run.config]
    if missing:
        lacks = f"{folder}/config.json lacks {', '.join(missing)}"
        raise InputError(f"{lacks}: an older version made it; repeat it by: {command}")
    if "seconds" not in run.config:
        raise InputError(
            f"{folder} did not finish, there is nothing to compare with; repeat it by: {command}"
        )
    return run


def _own(run: Finished) -> Script | None:
    """The experiment of this project that made a run, under its name and wherever it stood then."""
    file = Path(str(run.config["file"]))
    for script in scan():
        # Installed elsewhere, or moved since (a file may have become a folder), it is still found by name.
        at_home = file.resolve() == script.path.resolve() or called(file).parent.name == FOLDER.name
        if script.name == run.name and at_home:
            return script
    return None


def _experiment(run: Finished, script: Path | None) -> tuple[str | Path, Path]:
    """What makes a run again, and its file: a module of this project by its name, or the script handed in."""
    if script is not None:
        if not script.is_file():
            raise InputError(f"cannot read {script}: there is no such file")
        if name_of(script) != run.name:
            raise InputError(f"{run.folder} holds a run of {run.name}, got the script {called(script)}")
        installed = script in (one.path for one in scan())
        return f"experiments.{run.name}" if installed else script, script
    own = _own(run)
    if own is not None:
        return f"experiments.{run.name}", own.path
    file = called(str(run.config["file"]))
    raise InputError(
        f"{run.folder} was made by {file}, which is no experiment of this installation, and what a run "
        f"folder names is not executed. If you trust the script, name it: "
        f"{shlex.join(['ppl', 'run', str(file), '--from', str(run.folder)])}"
    )


def _other_script(run: Finished, file: Path) -> list[str]:
    same = digest(file) == run.config.get("file sha256")
    return [] if same else [f"{called(file)} is not the script that made the run: it has changed since"]


def _other_software(run: Finished) -> list[str]:
    from experiments.report.versions import versions

    found, now = [], versions()
    for name in dict.fromkeys([*run.versions, *now]):
        was, is_now = run.versions.get(name), now.get(name)
        # Before torch is loaded its threads are not known.
        if was != is_now and name != "torch threads":
            found.append(f"{name} was {was}, is {is_now}")
    return found


def _compare(old: Finished, new: Finished, notes: Sequence[str]) -> int:
    found = compare_runs(old.folder, new.folder)
    print(f"\nbeside the earlier run, {old.folder}:")
    for one in found:
        print(f"  {one}")
    told = _settings(old.config, new.config)
    for line in told:
        print(f"  {line}")
    for note in notes:
        print(f"  note: {note}")
    if not told and not any(one.compared for one in found):
        print("nothing was compared: the runs hold no numbers but those of a clock")
        return 1
    same = all(one.same for one in found) and not told
    print("the same numbers, times aside" if same else "NOT the same numbers")
    return 0 if same else 1


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ though the flags are the same: defaults that have changed since."""
    return [f"{key} was {old[key]}, is {new[key]}" for key in SETTINGS if old[key] != new.get(key)]
