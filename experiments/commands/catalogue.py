"""The catalogue of stories, read from their files without importing them (or torch)."""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ppl_models
from experiments.report.errors import InputError

__all__ = ["StoryEntry", "markdown", "parse", "scan_stories", "terminal"]

FOLDER = Path(ppl_models.__file__).parent
HEADING = re.compile(r"^[A-Z][A-Za-z ]+$")


@dataclass(frozen=True)
class StoryEntry:
    """One story of the catalogue.

    Attributes
    ----------
    name
        Of the module, and of the story in it.
    docstring
        Of the module.
    sections
        Heading -> text, its indentation removed.
    exact
        Whether its posterior, or that of some sites given others, is known in closed form.
    given
        Sites that have to be given for that.
    guide
        Whether a guide stands beside it.
    loss
        Whether a loss on samples stands beside it, because it has no likelihood.
    deep
        Whether it is a class, which holds networks.
    """

    name: str
    docstring: str
    sections: dict[str, str]
    exact: bool
    given: tuple[str, ...]
    guide: bool
    loss: bool
    deep: bool

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return self.docstring.splitlines()[0].strip()

    @property
    def joint(self) -> str:
        """The factorization: the first paragraph under Joint, on one line."""
        first = self.sections.get("Joint", "").split("\n\n")[0]
        return re.sub(r",? with( .*)?$", "", " ".join(first.split()).rstrip(":")).rstrip(",")

    @property
    def answers(self) -> list[str]:
        """What it can be asked, and what it cannot answer: the lines under Answers."""
        lines = self.sections.get("Answers", "").splitlines()
        joined: list[str] = []
        for line in lines:
            text = line.strip().removeprefix("- ")
            if text.startswith(("p(", "not ")):
                joined.append(text)
            elif text and joined:
                joined[-1] += f" {text}"
        return joined

    @property
    def posterior(self) -> str:
        """How its posterior is known: exactly, through its own guide, or by whatever fits it."""
        if self.exact:
            return "exact" if not self.given else f"exact given {', '.join(self.given)}"
        if self.loss:
            return "no likelihood"
        return "own guide" if self.guide else "fitted"

    @property
    def source(self) -> str:
        """The first reference under Source, on one line."""
        text = " ".join(self.sections.get("Source", "").split())
        return re.split(r";|(?<! al)\.(?= |$)", text)[0]

    @property
    def cited(self) -> str:
        """Author and year of the first reference."""
        return " ".join(re.split(r"(?<=\(\d{4}\))", self.source)[0].split())


def scan_stories(folder: Path = FOLDER) -> list[StoryEntry]:
    """All stories in a folder, by name; nothing is imported or executed.

    A story is a function or a class that bears its file's name.

    Examples
    --------
    >>> "linear_regression" in [entry.name for entry in scan_stories()]
    True
    """
    paths = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
    found = [parse(path) for path in paths]
    return [entry for entry in found if entry is not None]


def parse(path: Path) -> StoryEntry | None:
    """Read one file; None if it holds no story.

    Raises
    ------
    InputError
        If the file cannot be read or is not Python.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Python: {error}") from error
    own = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    if path.stem not in own:
        return None
    docstring = ast.get_docstring(tree) or path.stem
    deep = isinstance(own[path.stem], ast.ClassDef)
    beside = ("exact" in own, _given(tree), "guide" in own, "loss" in own)
    return StoryEntry(path.stem, docstring, _sections(docstring), *beside, deep)


def _given(tree: ast.Module) -> tuple[str, ...]:
    """The module constant ``GIVEN``, a tuple of site names."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GIVEN":
            return tuple(ast.literal_eval(node.value))
    return ()


def _sections(docstring: str) -> dict[str, str]:
    """The text under every heading: a line that starts at the margin, its text indented below."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in docstring.splitlines()[1:]:
        if HEADING.match(line):
            heading = line.strip()
            found[heading] = []
        elif heading:
            found[heading].append(line)
    return {name: textwrap.dedent("\n".join(lines)).strip("\n") for name, lines in found.items()}


def terminal(entries: Sequence[StoryEntry]) -> str:
    """The catalogue for a terminal: a block per story, designed ones first."""
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    blocks = []
    headings = {False: "designed by people", True: "deep: a simple distribution, mapped by networks"}
    for deep, heading in headings.items():
        chosen = [entry for entry in entries if entry.deep == deep]
        if chosen:
            blocks.append(f"{heading.upper()}\n\n" + "\n\n".join(_block(entry, width) for entry in chosen))
    return "\n\n".join(blocks)


def _block(entry: StoryEntry, width: int) -> str:
    rows = [("joint", entry.joint), *(("answers" if i == 0 else "", a) for i, a in enumerate(entry.answers))]
    rows += [("posterior", entry.posterior), ("source", entry.source)]
    lines = [f"{entry.name}: {entry.title}"]
    for label, text in rows:
        lines += textwrap.wrap(
            text, width, initial_indent=f"  {label:<10}", subsequent_indent=" " * 14, break_long_words=False
        )
    return "\n".join(lines)


def markdown(entries: Sequence[StoryEntry]) -> str:
    """The catalogue as a table for the README; its cells are those of the docstrings."""
    head = "| story | joint | answers | posterior | source |\n|---|---|---|---|---|"
    return "\n".join([head, *(_row(entry) for entry in entries)])


def _row(entry: StoryEntry) -> str:
    asked = dict.fromkeys(re.split(r":|(?<=\)) ", a)[0] for a in entry.answers)  # each once, in order
    yes = [a for a in asked if not a.startswith("not ")]
    no = [a for a in asked if a.startswith("not ")]
    cells = [f"`{entry.name}`", entry.joint, "; ".join([*yes, *no]), entry.posterior, entry.cited]
    return "| " + " | ".join(cell.replace("|", "∣") for cell in cells) + " |"
