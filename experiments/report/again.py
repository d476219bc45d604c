"""Two runs of one experiment laid beside each other: are the numbers the same?

Compared are ``metrics.json``, ``claims.json`` and every CSV file. Seconds, and what else a clock or a memory
gauge says, differ from run to run: they are told by a unit or a clear word, counted, and not compared.
What a claim says, and what it is held against, is always compared.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.report.gather import read_json

__all__ = ["FileComparison", "compare_runs"]

# Words that only a clock or a memory gauge has: "second", "times", "speed" and "memory" stand in prose too.
WORDS = (
    r"\b(?:milli|micro|nano)?seconds\b(?!['’])|\b(?:wall[- ]clock|(?:wall|cpu|processor|run)[- ]time|runtime|"
    r"speed-?up|peak memory|(?:faster|slower) than)\b"
)
UNIT = r"(?:[mµun]s|[kmg]i?b)"
LONE = rf"(?:(?-i:s)|minutes|hours|{UNIT})"  # s may be a site, and hours be data: only after a mark
CLOCK = re.compile(rf"{WORDS}|[,/(\[]\s*{LONE}[)\]]?$|(?:^|\s){UNIT}$", re.IGNORECASE)
CLOCK_UNIT = re.compile(rf"{WORDS}|^{LONE}(?:$| of | per |/)", re.IGNORECASE)
ALWAYS = ("text", "known", "relation")  # of a claim
# Sums in another order differ in their last digits: 1e-9 of a number in double precision is rounding.
ROUNDING = 1e-9
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")

Key = tuple[str, ...]
Cells = Mapping[Key, Any]


@dataclass
class FileComparison:
    """One file of two runs: how much of it is the same."""

    file: str
    equal: int = 0
    clocks: int = 0
    different: list[str] = field(default_factory=list)
    largest: float = 0.0

    @property
    def same(self) -> bool:
        """Whether everything but times is equal."""
        return not self.different

    @property
    def compared(self) -> int:
        """How many values were compared at all."""
        return self.equal + len(self.different)

    def __str__(self) -> str:
        clocks = f", {self.clocks} measured by a clock not compared" if self.clocks else ""
        if self.same:
            return f"{self.file}: {self.equal} values equal{clocks}"
        by = f", numbers by up to {self.largest:.2g} of their size" if self.largest else ""
        first = "; ".join(self.different[:3])
        of = f"{len(self.different)} of {self.compared} values differ"
        return f"{self.file}: {of}{by}{clocks}: {first}"


def compare_runs(old: Path, new: Path) -> list[FileComparison]:
    """Compare the numbers of two run folders of one experiment, file by file."""
    files = {path.name for folder in (old, new) for path in folder.glob("*.csv")}
    found = []
    for file in ["claims.json", "metrics.json", *sorted(files)]:
        missing = [str(folder) for folder in (old, new) if not (folder / file).is_file()]
        if missing:
            found.append(FileComparison(file, different=[f"there is none in {' and '.join(missing)}"]))
        else:
            found.append(_compare(file, old / file, new / file))
    return found


def _compare(file: str, before: Path, after: Path) -> FileComparison:
    old, new, result = _cells(before), _cells(after), FileComparison(file)
    clocks = {key for key in [*old, *new] if _by_clock(file, key)}
    for key in dict.fromkeys([*old, *new]):
        label = " ".join(key)
        if key not in old or key not in new:
            result.different.append(f"{label}: only in the {'earlier' if key in old else 'new'} run")
        elif key in clocks:
            result.clocks += 1
        else:
            apart = _apart(old[key], new[key])
            if apart <= ROUNDING:
                result.equal += 1
            else:
                result.different.append(f"{label}: was {old[key]}, is {new[key]}")
                result.largest = max(result.largest, apart if math.isfinite(apart) else 0.0)
    return result


def _by_clock(file: str, key: Key) -> bool:
    """Whether a value is a clock's: by the words of its row or column, its claim, its metric or the unit."""
    if file == "claims.json" and key:
        return key[-1] not in ALWAYS and any(map(CLOCK.search, key[:-1]))
    if file == "metrics.json" and len(key) > 2:  # name, unit, field
        return bool(CLOCK.search(key[0]) or CLOCK_UNIT.search(key[1]))
    return any(map(CLOCK.search, key))


def _apart(old: Any, new: Any) -> float:
    """The relative difference of two numbers; infinite between texts that differ."""
    if old == new:
        return 0.0
    try:
        a, b = float(old), float(new)
    except (TypeError, ValueError):
        return math.inf
    if math.isnan(a) and math.isnan(b):
        return 0.0
    size = max(abs(a), abs(b))
    return abs(a - b) / size if math.isfinite(size) else math.inf


def _cells(path: Path) -> dict[Key, Any]:
    return dict(_rows_of_csv(path) if path.suffix == ".csv" else _leaves(read_json(path)))


def _rows_of_csv(path: Path) -> Iterator[tuple[Key, Any]]:
    """A key is the row's number, the words in it, and the column: "row 3", "kl (nats)", "value"."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    for number, row in enumerate(rows[1:], 1):
        words = [cell for cell in row if cell and not NUMBER.search(cell) and len(cell) < 60]
        for column, cell in zip(rows[0], row, strict=False):
            yield (f"row {number}", *words[:1], column), cell


def _leaves(value: Any, *path: str) -> Iterator[tuple[Key, Any]]:
    """Claims are told apart by their text, metrics by their name and unit."""
    if isinstance(value, list):
        for number, item in enumerate(value, 1):
            name = str(item["text"]) if isinstance(item, dict) and "text" in item else str(number)
            yield from _leaves(item, *path, f"{number}. {name}" if path or name != str(number) else name)
    elif isinstance(value, dict):
        unit = [str(value["unit"])] if value.get("unit") else []
        for key, item in value.items():
            yield from _leaves(item, *path, *unit, str(key))
    else:
        yield path, value
