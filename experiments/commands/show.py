"""``ppl show NAME``: what a story's file says, and its graph."""

from __future__ import annotations

import argparse
import textwrap
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from experiments.commands.catalogue import scan_stories
from experiments.commands.check import bind, prior_traces
from experiments.commands.sites import site_rows
from experiments.commands.story_file import StoryFile, story_file
from experiments.report.errors import InputError
from experiments.report.folder import write_text
from experiments.report.graph import graph_svg
from experiments.report.numbers import aligned
from inference.story.inspection import inspect_story
from inference.story.observations import as_observations

__all__ = ["show_command"]


def show_command(options: argparse.Namespace) -> int:
    """Print a story's documentation and its sites; draw its graph to OUT/NAME.svg.

    Raises
    ------
    InputError
        If there is no such story, or it cannot be called with its example's arguments.
    """
    with story_file(_place(options.story)) as file:
        documentation = file.docstring or file.story.__doc__ or file.name
        svg, table = _graph(file)
    path = options.out / f"{file.name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, svg)
    print(f"{documentation.strip()}\n\nSites\n{textwrap.indent(table, '    ')}\n\ngraph: {path}")
    return 0


def _place(name: str) -> str:
    """The module of a story of the catalogue, by its bare name; anything else stays as it is."""
    if not name.isidentifier() or Path(name).exists():
        return name
    names = [entry.name for entry in scan_stories()]
    if name in names:
        return f"ppl_models.{name}"
    close = get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else "ppl list --models shows them all"
    raise InputError(f"no story {name}; {hint}")


def _graph(file: StoryFile) -> tuple[str, str]:
    """The graph as SVG, and the sites as a table."""
    call = bind(file, file.args, {}, file.data)
    try:
        structure, _ = inspect_story(call, as_observations(file.data, "EXAMPLE"), "EXAMPLE")
        trace = next(prior_traces(call, 1, 0))
    except ValueError as error:
        raise InputError(f"{file.name}: {error}") from error
    sites = [row for row in site_rows(structure, trace, file.data) if row["kind"] != "param"]
    note = _trained(trace)
    table = aligned([list(sites[0]), *(list(row.values()) for row in sites)])
    return graph_svg(structure, file.data, note), "\n".join([table, *([note] if note else [])])


def _trained(trace: Any) -> str:
    """Trained parameters, by the part of the story that holds them, with their number."""
    counts: dict[str, int] = {}
    for name, node in trace.nodes.items():
        if node["type"] == "param":
            part = name.split("$$$")[-1].split(".")[0]
            counts[part] = counts.get(part, 0) + node["value"].numel()
    return "trained: " + ", ".join(f"{part} ({n:,} numbers)" for part, n in counts.items()) if counts else ""
