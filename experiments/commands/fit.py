"""``ppl fit``: fit a story in a file to data in a file, and report it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import inference
from experiments.commands.arrays import argument_names, read_arrays, split, with_masks
from experiments.commands.fit_figures import posterior_figure, predictive_figure
from experiments.commands.story_file import (
    StoryFile,
    first_line,
    parse_arguments,
    place,
    story_file,
)
from experiments.report.blocks import Table
from experiments.report.errors import InputError
from experiments.report.launch import Settings, execute
from experiments.report.numbers import aligned
from experiments.report.run import Run
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations

__all__ = ["NOT_TRUSTED", "fit_command"]

# Exit status of a fit that has finished and says of itself that it is not to be trusted.
NOT_TRUSTED = 3
LINES = 12


@dataclass(frozen=True)
class Task:
    """A story, what it is called with, and what was seen."""

    file: StoryFile
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    data: Mapping[str, Any]


def fit_command(options: argparse.Namespace, command: list[str]) -> int:
    """Fit, save, report; 0 if the posterior is trusted, 3 if it is not.

    ``options`` holds ``story, data, args, guide, draws, restarts, seed, out, smoke``.

    Raises
    ------
    InputError
        If the story, its arguments or the data cannot be used.
    """
    arrays = with_masks(read_arrays(options.data))
    with story_file(options.story) as file:
        task = _task(file, arrays, options.args)
        question = f"What does {options.data.name} say about {file.name}?"
        settings = Settings(f"fit_{file.name}", question, options, command)
        run, folder = execute(settings, lambda run: _fit(run, task))
    (fit,) = run.fits
    print(f"{fit.certificate}\n\n{_first_rows(fit.summary)}\n\nsaved in {folder.final}")
    print(f"report: {folder.final / 'report.html'}")
    if folder.previous is not None:
        print(f"the run that stood there is now {folder.previous}")
    if fit.trusted:
        return 0
    print(f"This posterior is NOT TRUSTED, for the reasons above (exit status {NOT_TRUSTED}).")
    return NOT_TRUSTED


def _task(file: StoryFile, arrays: Mapping[str, Any], text: str | None) -> Task:
    args, kwargs = parse_arguments(text) if text else ((), {})
    names = argument_names(file.story)
    given, data = split(arrays, names, _sites(file, arrays, args, kwargs))
    twice = [*given.keys() & kwargs.keys(), *(n for n in list(names)[: len(args)] if n in given)]
    if twice:
        raise InputError(f"{twice[0]} is given by --args and in the data file; leave out one")
    task = Task(file, args, {**given, **kwargs}, data)
    _try(task)
    return task


def _sites(
    file: StoryFile, arrays: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[str]:
    """The story's sample sites when it is called with nothing more than it requires."""
    names = argument_names(file.story)
    given, _ = split({n: array for n, array in arrays.items() if names.get(n)}, names, ())
    data = {name: array for name, array in arrays.items() if name not in names}
    try:
        call = Call.bind(file.story, args, {**given, **kwargs})
        structure, _ = inspect_rows(call, {}, counting=as_observations(data))
    except Exception:
        # It cannot be called with so little: then every array that names an argument is one.
        return []
    return list(structure.sample_sites)


def _try(task: Task) -> None:
    """Run the story once: what fails here is the input's fault, not that of the fit."""
    try:
        call = Call.bind(task.file.story, task.args, task.kwargs)
        inspect_rows(call, as_observations(task.data))
    except Exception as error:
        if isinstance(error, ValueError) and not place(error):
            raise InputError(str(error)) from error
        message = f"{task.file.name} cannot be run with these arguments: {first_line(error)}"
        raise InputError(message) from error


def _fit(run: Run, task: Task) -> None:
    options = run.options
    try:
        posterior = inference.fit(
            task.file.written,
            task.data,
            task.args,
            task.kwargs,
            guide=options.guide,
            restarts=options.restarts,
            draws=options.draws,
            seed=options.seed,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    posterior.save(run.folder / "posterior")
    idata = posterior.to_arviz()
    _figures(run, posterior, idata)
    run.section("Data")
    run.table("data", [_described(*item) for item in task.data.items()], f"From {options.data}.")
    run.posterior(task.file.name, posterior, idata)
    run.story(task.file.story)


def _figures(run: Run, posterior: Any, idata: Any) -> None:
    figure = posterior_figure(posterior.draws, posterior.history)
    if figure is not None:
        caption = (
            "The evidence lower bound while fitting, and the posterior of the first unknowns, one "
            "line a restart: where the lines part, the restarts disagree."
        )
        run.figure("posterior", figure, caption)
    figure = predictive_figure(idata)
    if figure is not None:
        caption = (
            "New data drawn from the posterior beside the data that were seen, all elements of a "
            "site together: what the fitted story cannot imitate shows here."
        )
        run.figure("posterior_predictive", figure, caption)


def _described(name: str, array: Any) -> dict[str, Any]:
    shape = " x ".join(map(str, array.shape)) or "a number"
    missing = int(array.mask.sum()) if hasattr(array, "mask") else 0
    return {"site": name, "shape": shape, "missing": missing}


def _first_rows(table: Table) -> str:
    rows = [list(table.columns), *([str(cell) for cell in row] for row in table.rows[:LINES])]
    more = len(table.rows) - LINES
    return aligned(rows) + (f"\n... {more} more in {table.file}" if more > 0 else "")
