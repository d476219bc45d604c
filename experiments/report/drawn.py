"""The graph of a story that has an example beside it, for the report page."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from experiments.report.graph import graph_svg
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import as_observations

__all__ = ["drawn"]


def drawn(story: Callable[..., Any], example: tuple[Any, Any]) -> str:
    """Draw a story as called with ``EXAMPLE = (args, data)``: SVG, or "" where it cannot be traced.

    A class is constructed with its defaults. No random state changes.

    Examples
    --------
    >>> from ppl_models import two_causes
    >>> drawn(two_causes.two_causes, two_causes.EXAMPLE).count("<ellipse")
    3
    """
    args, data = example
    # A report is worth having without the graph; `ppl show` says what is wrong with the story.
    try:
        with torch.random.fork_rng(devices=[]):
            made: Any = story() if inspect.isclass(story) else story
        rows = next((len(value) for value in data.values() if getattr(value, "ndim", 0)), 3)
        structure, _ = inspect_story(
            Call.bind(made, args).with_rows(rows), as_observations(data, "EXAMPLE"), "EXAMPLE"
        )
    except ValueError:
        return ""
    return graph_svg(structure, data)
