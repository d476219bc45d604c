"""``ppl check``: print what a check found, and draw what the story implies."""

from __future__ import annotations

import argparse

from experiments.commands.check import POINTS, Checked, check
from experiments.commands.prior_figure import prior_figure
from experiments.commands.story_file import StoryFile, parse_arguments, story_file
from experiments.report.launch import Settings, execute
from experiments.report.numbers import aligned
from experiments.report.run import Run

__all__ = ["check_command"]


def check_command(options: argparse.Namespace, command: list[str]) -> int:
    """0 if the story is well formed, 1 if it is not.

    ``options`` holds ``story, args, seed, out``.

    Raises
    ------
    InputError
        If there is no such story, or it cannot be called with these arguments.
    """
    with story_file(options.story) as file:
        args, kwargs = parse_arguments(options.args) if options.args else ((), {})
        checked = check(file, args, kwargs, options.seed)
        print(_text(checked))
        if checked.sites and checked.finite:
            settings = Settings(
                f"check_{file.name}", f"Is the story {file.name} well formed?", options, command
            )
            _, folder = execute(settings, lambda run: _report(run, file, checked))
            print(f"prior predictive figure: {folder.final / 'prior_predictive.png'}")
            print(f"report: {folder.final / 'report.html'}")
            if folder.previous is not None:
                print(f"the run that stood there is now {folder.previous}")
    print(f"{file.name} is {'' if checked.well_formed else 'NOT '}well formed")
    return 0 if checked.well_formed else 1


def _text(checked: Checked) -> str:
    lines = []
    if checked.sites:
        names = list(checked.sites[0])
        rows = [names, *([row[name] for name in names] for row in checked.sites)]
        lines += [aligned(rows), "", _density(checked)]
    for title, sentences in (("problems", checked.problems), ("warnings", checked.warnings)):
        if sentences:
            lines += ["", f"{title}:", *(f"  - {sentence}" for sentence in sentences)]
    return "\n".join([*lines, ""])


def _density(checked: Checked) -> str:
    return f"log density and gradients: finite at {checked.finite} of {POINTS} draws of the prior"


def _report(run: Run, file: StoryFile, checked: Checked) -> None:
    compared = " beside the data of its `EXAMPLE`" if checked.given else ""
    run.figure(
        "prior_predictive",
        prior_figure(checked, run.seed),
        f"Drawn from the prior{compared}: all elements of each site together, the 98 % in the "
        "middle. A story whose prior cannot reach the data, or reaches far beyond, is worth a "
        "second look.",
    )
    run.section("Sites", _density(checked) + ".")
    run.table("sites", checked.sites, "In the order of the story.")
    if checked.warnings:
        run.section("Warnings", "\n\n".join(checked.warnings))
    run.story(file.story)
