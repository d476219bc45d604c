"""What a story says that may not be meant: each hint is a sentence with the way out."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterator
from typing import Any

from experiments.commands.story_file import first_line
from inference.density.log_density import LogDensity
from inference.story.observations import Observation
from inference.story.structure import Site, Structure

__all__ = ["fitting_hints", "improper", "story_hints"]

# Names that ArviZ gives to dimensions of its own.
RESERVED = {"chain", "draw", "sample"}


def story_hints(
    structure: Structure, trace: Any, data: Collection[str], story: Callable[..., Any]
) -> list[str]:
    """All hints that a run of the story and its source give, in the order of the sites."""
    hints = [
        *_plates(trace, story),
        *(hint for site in structure.sites.values() for hint in _names(site, structure)),
    ]
    for site in structure.sample_sites.values():
        hints.extend(_site(site, structure, data))
    return hints


def fitting_hints(structure: Structure, observations: dict[str, Observation]) -> list[str]:
    """What ``inference.fit`` would stumble over, or be slowed down by."""
    try:
        density = LogDensity(structure, observations)
    except ValueError as error:
        return [f"It cannot be fitted as it stands: {error}"]
    except Exception as error:  # whatever a user's program does that a density cannot hold
        return [f"It cannot be fitted as it stands: {first_line(error)}"]
    return [f"A fit runs plain Pyro, slowly: {density.note}."] if density.note else []


def improper(fn: Any) -> bool:
    """Whether a distribution is flat without end, so that nothing can be drawn from it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__ == "ImproperUniform"


def _site(site: Site, structure: Structure, data: Collection[str]) -> Iterator[str]:
    name = site.name
    if site.observed:
        yield (
            f"{name} is observed inside the story (obs=), so it can be neither generated nor "
            f"inverted. Leave obs= out and hand it over as data={{'{name}': ...}}."
        )
    elif improper(site.fn):
        yield (
            f"{name} has an improper prior (ImproperUniform): there is no prior predictive and no "
            "evidence. A proper prior, wide in the units of the data, gives both."
        )
    elif name not in data:
        yield from _latent(site, structure, data)
    loose = _loose(site)
    if loose:
        yield (
            f"{name} has the batch shape {list(site.fn.batch_shape)}, and its dimension "
            f"{loose[0]} lies in no plate. Put it in a plate, or write .to_event({-loose[0]})."
        )


def _latent(site: Site, structure: Structure, data: Collection[str]) -> Iterator[str]:
    rows = structure.row_plate(data) if data else None
    if not structure.children(site.name):
        yield f"Nothing depends on {site.name}: data can teach nothing about it."
    elif rows is not None and site.within(rows) and not site.discrete:
        common = "" if site.parents else ", with the same prior in every row"
        yield (
            f"{site.name} is drawn inside the data plate {rows.name}: {rows.size} unknowns, one a "
            f"row{common}. If one is meant for all rows, draw it before the plate."
        )


def _loose(site: Site) -> list[int]:
    held = {plate.dim for plate in site.plates}
    shape = site.fn.batch_shape
    return [d for d in range(-len(shape), 0) if shape[d] > 1 and d not in held]


def _names(site: Site, structure: Structure) -> Iterator[str]:
    plates = {plate.name for s in structure.sites.values() for plate in s.plates}
    if site.name in plates:
        yield f"{site.name} is the name of a site and of a plate; ArviZ needs them to differ."
    if site.name in RESERVED:
        yield f"{site.name} is a dimension's name in ArviZ; call the site otherwise."
    if "/" in site.name:
        yield f"{site.name} cannot be saved: a '/' makes a group in netCDF; use '_'."


def _plates(trace: Any, story: Callable[..., Any]) -> Iterator[str]:
    frames = [f for node in trace.nodes.values() for f in node.get("cond_indep_stack", ())]
    for name in dict.fromkeys(f.name for f in frames if not f.vectorized):
        yield (
            f"The plate {name} is a loop in Python, slow to trace. If its rounds are alike, "
            "write `with pyro.plate(...)` instead."
        )
    named = {f.name for f in frames if f.vectorized}
    for name in _without_dim(story) if len(named) > 1 else ():
        yield (
            f"The plate {name} has no dim=. Beside other plates, say which dimension it is, "
            "such as dim=-1, so that none moves when one is added."
        )


def _without_dim(story: Callable[..., Any]) -> Iterator[str]:
    """Names of the plates that the story's source opens with ``with`` and without ``dim``."""
    code = story if inspect.isroutine(story) else type(story)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        for item in node.items if isinstance(node, ast.With) else ():
            call = item.context_expr
            if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("plate"):
                continue
            # dim is the fifth argument of pyro.plate.
            said = len(call.args) > 4 or any(word.arg in ("dim", None) for word in call.keywords)
            if not said and call.args:
                yield ast.unparse(call.args[0]).strip("'\"")
