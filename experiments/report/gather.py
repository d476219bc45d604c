"""What a folder of runs holds: finished run folders, and what is left of runs that did not finish.

A run folder is one with a ``config.json``. ``NAME.before-TIME`` is an earlier run that was kept; it is not
gathered. ``NAME.partial-TIME`` and the log ``NAME.log`` are left by a run that did not finish, and count
unless ``NAME`` has finished since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.report.errors import InputError

__all__ = ["LOG", "Finished", "Unfinished", "finished", "gather", "read_json"]

LOG = "log.txt"  # of a finished run, in its folder
TAIL = 25  # lines of a log that are kept


@dataclass(frozen=True)
class Finished:
    """One finished run, as its folder says it."""

    folder: Path
    config: Mapping[str, Any]
    claims: Sequence[Mapping[str, Any]]
    versions: Mapping[str, str]
    contents: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.config.get("name", self.folder.name))

    @property
    def smoke(self) -> bool:
        """Whether its claims were not judged."""
        return bool(self.config.get("smoke"))

    @property
    def seconds(self) -> float:
        """How long it took; 0 if that was not written down."""
        value = self.config.get("seconds", 0.0)
        return float(value) if isinstance(value, (int, float)) else 0.0

    @property
    def judged(self) -> list[Mapping[str, Any]]:
        """The claims that are judged, met or not."""
        return [claim for claim in self.claims if claim.get("met") is not None]

    @property
    def missed(self) -> list[Mapping[str, Any]]:
        """The claims that are not met."""
        return [claim for claim in self.claims if claim.get("met") is False]

    @property
    def distrusted(self) -> list[Mapping[str, Any]]:
        """The posteriors that are not trusted."""
        return [fit for fit in self.contents.get("posteriors", ()) if not fit.get("trusted")]

    @property
    def words(self) -> str:
        """The verdict in a few words."""
        if self.smoke:
            return f"not judged, {len(self.claims)} claims"
        if self.judged:
            return f"{len(self.judged) - len(self.missed)} of {len(self.judged)} claims met"
        if self.contents.get("posteriors"):
            return "NOT trusted" if self.distrusted else "trusted"
        return "no claims"


@dataclass(frozen=True)
class Unfinished:
    """What is left of a run that crashed, was stopped, or is running."""

    name: str
    place: Path
    tail: str

    @property
    def last(self) -> str:
        """The last line that it said."""
        lines = [line for line in self.tail.splitlines() if line.strip()]
        # The very last one only says where the partial folder is.
        told = [line for line in lines if not line.startswith("the run did not finish")]
        return told[-1].strip() if told else "it left no log"


def gather(folder: Path) -> tuple[list[Finished], list[Unfinished]]:
    """All runs in a folder, by name.

    Raises
    ------
    InputError
        If there is no such folder, or it holds no run.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one that holds run folders")
    runs = [run for path in sorted(folder.iterdir()) if (run := finished(path)) is not None]
    whole = [run for run in runs if ".partial-" not in run.folder.name and ".before-" not in run.folder.name]
    left = _unfinished(folder, {run.folder.name: run for run in whole})
    if not whole and not left:
        hint = "it is a run folder itself: name the folder above it" if finished(folder) else (
            f"`ppl run NAME --out {folder}` writes one"
        )  # fmt: skip
        raise InputError(f"{folder} holds no run folders; {hint}")
    return whole, left


def finished(folder: Path) -> Finished | None:
    """Read one run folder; None where there is no readable ``config.json``."""
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        return None
    claims, versions = read_json(folder / "claims.json"), read_json(folder / "versions.json")
    contents = read_json(folder / "contents.json")
    return Finished(
        folder,
        config,
        [claim for claim in claims if isinstance(claim, dict)] if isinstance(claims, list) else [],
        versions if isinstance(versions, dict) else {},
        contents if isinstance(contents, dict) else {},
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _unfinished(folder: Path, done: Mapping[str, Finished]) -> list[Unfinished]:
    """Logs and partial folders of runs that have not finished since, one for each name."""
    places: dict[str, Path] = {}
    for path in sorted(folder.glob("*.partial-*")):
        name = path.name.partition(".partial-")[0]
        began = str((read_json(path / "config.json") or {}).get("started", ""))
        if name not in done or began > str(done[name].config.get("started", "")):
            places[name] = path
    tails = {path.stem: _tail(path) for path in sorted(folder.glob("*.log"))}
    names = sorted(places.keys() | tails.keys())
    return [Unfinished(name, places.get(name, folder / f"{name}.log"), tails.get(name, "")) for name in names]


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
