"""The pieces that a report page is made of, in the order in which an experiment adds them."""

from __future__ import annotations

import csv
import inspect
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from experiments.report.script import name_of

__all__ = ["Block", "Fit", "Metric", "Picture", "Section", "Story", "Table", "Text"]


@dataclass(frozen=True)
class Section:
    """A heading, with an optional first paragraph."""

    title: str
    text: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph; an empty line starts another, backticks mark code."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A PNG file and its caption."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Table:
    """Columns and rows, the caption, and the file that holds the whole of it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    file: str = ""

    @classmethod
    def of(cls, rows: Any, caption: str = "", file: str = "") -> Table:
        """From a DataFrame (its index is kept when it says something) or a list of dicts."""
        if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
            return cls(*_frame(rows), caption, file)
        if isinstance(rows, (Mapping, str)) or not isinstance(rows, Iterable):
            kind = type(rows).__name__
            raise ValueError(f"rows: expected a DataFrame or a list of dicts, got {kind}")
        records = list(rows)
        if not all(isinstance(record, Mapping) for record in records):
            raise ValueError("rows: expected a DataFrame or a list of dicts, got other items")
        columns = list(dict.fromkeys(key for record in records for key in record))
        cells = [[record.get(key) for key in columns] for record in records]
        return cls([str(key) for key in columns], cells, caption, file)

    def csv(self) -> str:
        """The whole table as CSV, numbers in full precision."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return stream.getvalue()


@dataclass(frozen=True)
class Metric:
    """One measured number, its Monte Carlo error and its unit."""

    value: float
    error: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Fit:
    """A posterior: what its certificate says, and ArviZ's summary."""

    name: str
    trusted: bool
    certificate: str
    reasons: Sequence[str]
    summary: Table


@dataclass(frozen=True)
class Story:
    """A generative story: its name, joint, documentation, source, and graph (SVG, or nothing)."""

    name: str
    joint: str
    documentation: str
    source: str
    graph: str = ""

    @classmethod
    def of(cls, story: Callable[..., Any], joint: str = "") -> Story:
        """Read name and source; a story that bears its module's name is documented and drawn from there."""
        code = story if inspect.isroutine(story) or inspect.isclass(story) else type(story)
        module = sys.modules.get(getattr(code, "__module__", ""))
        alone = name_of(getattr(module, "__file__", None) or "") == code.__name__
        documentation = inspect.getdoc(module) or "" if module and alone else ""
        try:
            source = inspect.getsource(code)
        except (OSError, TypeError):
            source = ""
        example = getattr(module, "EXAMPLE", None) if alone else None
        return cls(code.__name__, joint, documentation, source, _graph(story, example))


Block = Union[Section, Text, Picture, Table]  # noqa: UP007  (evaluated by Python 3.10 too)


def _graph(story: Callable[..., Any], example: Any) -> str:
    if example is None:
        return ""
    # Torch is loaded here and not with the page, which `ppl --help` loads.
    from experiments.report.drawn import drawn

    return drawn(story, example)


def _frame(frame: Any) -> tuple[list[str], list[list[Any]]]:
    columns = [
        " ".join(str(part) for part in name) if isinstance(name, tuple) else str(name)
        for name in frame.columns
    ]
    cells = [list(row) for row in frame.itertuples(index=False, name=None)]
    numbered = frame.index.nlevels == 1 and list(frame.index) == list(range(len(frame)))
    if numbered and frame.index.name is None:
        return columns, cells
    names = ["" if name is None else str(name) for name in frame.index.names]
    keys = [list(key) if isinstance(key, tuple) else [key] for key in frame.index]
    return names + columns, [key + row for key, row in zip(keys, cells, strict=True)]
