"""Simple to complex, pi -> g(pi): what does every deep story make of every density in the plane?

Every deep story starts from a simple distribution (a normal one, or a network's bells) and bends it until
it is like the data. Here each is fitted, without labels, to 10,000 rows of eight densities that are known
exactly, so that the distance between estimated and true is measured and not guessed.

Expected: stories with a tractable density come within a few hundredths of a nat, except where a density
ends at an edge (checkerboard) or has many modes that a continuous map cannot separate; the variational
stories know only a bound; the generators without a likelihood find the modes, with rows between them, and
cannot say how probable anything is. Above 0 even the true family stays by about (parameters) / (2 rows).

Source: Grathwohl et al. (2019), FFJORD, and Durkan et al. (2019), Neural spline flows, for fits to such
densities by eye; the numbers to reach, KL + 2 standard errors below 0.05 nats for the flow and 0.08 for
the autoregressive network on eight Gaussians and two moons, were set before any fit.
"""

from __future__ import annotations

import argparse
from typing import Any

from experiments.compare import Estimate
from experiments.report import Run, launch
from experiments.simple_to_complex import figures
from experiments.simple_to_complex.fits import EXACT, RECIPES, DensityFit, DensityTask, attempt
from experiments.training.pool import results
from experiments.truth.densities import names

ALONE = True  # has processes of its own, one for each core
TARGETS = {"normalizing_flow": 0.05, "autoregressive": 0.08}
JUDGED = ("eight_gaussians", "two_moons")


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what this experiment can be told."""
    parser.add_argument("--stories", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--truths", nargs="+", choices=names(), default=names())
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="processes of one thread each; 0: none but this one (default 2)",
    )


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    stories, truths = run.options.stories, run.options.truths
    if run.smoke:  # one law that is judged, and one that is not
        truths = sorted(truths, key=lambda truth: truth not in JUDGED)[:: max(1, len(truths) - 1)]
    found = all_results(run, stories, truths)
    the_table(run, stories, truths, found)
    the_pictures(run, stories, truths, found)
    for truth in JUDGED:
        for story, most in TARGETS.items():
            if (story, truth) in found:
                claim(run, found[story, truth], most)


def all_results(run: Run, stories: list[str], truths: list[str]) -> figures.Results:
    """Fit every story to every density; the slowest first, so that no process waits at the end."""
    few = {"rows": 300, "fresh": 300, "bounded": 50, "drawn": 200, "cells": 30, "steps": 20}
    effort = few if run.smoke else {}
    order = sorted(stories, key=lambda story: -RECIPES[story].steps)
    tasks = [DensityTask(story, truth, run.seed, **effort) for story in order for truth in truths]
    done = results(attempt, tasks, 0 if run.smoke else run.options.workers)
    return {(one.task.story, one.task.truth): one for one in done}


def the_table(run: Run, stories: list[str], truths: list[str], found: figures.Results) -> None:
    """Every number, then KL at a glance."""
    run.section(
        "Estimated against true",
        "KL(true || estimated) is an average over fresh rows of the truth: exact where the density is, an "
        "upper bound where the story knows only a lower bound of log p(x), and not to be had from a "
        "generator. All are measured on 1,000 draws beside 1,000 fresh rows.",
    )
    glance = [
        {"story": story, **{truth.replace("_", " "): at_a_glance(found[story, truth]) for truth in truths}}
        for story in stories
    ]
    run.table(
        "kl",
        glance,
        "KL(true || estimated) in nats; a generator without a likelihood shows its coverage instead.",
    )
    run.table(
        "fits",
        [row(found[story, truth]) for truth in truths for story in stories],
        "Every fit, failures included. Precision: share of draws near a mode; density and coverage: Naeem et "
        "al. (2020), 1 is perfect (coverage: nearly); seconds of one core, for the fit.",
    )
    for one in found.values():
        if one.kl is not None:
            bound = ", upper bound" if one.bound else ""
            run.metric(f"KL, {one.task.story}, {one.task.truth}{bound}", *one.kl, unit="nats")


def the_pictures(run: Run, stories: list[str], truths: list[str], found: figures.Results) -> None:
    """Draws of all, and densities of those that have one."""
    run.section("Side by side")
    run.figure(
        "drawn",
        figures.drawn(truths, stories, found),
        "Draws of the truth (black) and of every fitted story (blue), on the same square.",
    )
    tractable = [story for story in stories if RECIPES[story].likelihood == EXACT]
    if tractable:
        run.figure(
            "densities",
            figures.densities(truths, tractable, found),
            "Densities, root scale: the truth, and the stories that know theirs.",
        )


def at_a_glance(one: DensityFit) -> str:
    """One cell: the KL, or what stands for it."""
    if one.failure:
        return "failed"
    if one.kl is not None:
        return f"{'≤ ' if one.bound else ''}{one.kl}"
    return f"coverage {one.coverage}"


def row(one: DensityFit) -> dict[str, Any]:
    """One fit, all its numbers."""
    kl = None if one.kl is None else f"{'at most ' if one.bound else ''}{one.kl}"
    return {
        "truth": one.task.truth,
        "story": one.task.story,
        "KL (nats)": kl or ("" if one.failure else "no likelihood"),
        "modes": "" if one.modes is None else f"{one.modes[0]} of {one.modes[1]}",
        "precision": text(one.precision),
        "density": text(one.density),
        "coverage": text(one.coverage),
        "seconds": round(one.seconds, 1),
        "certified": "yes" if one.certified else "no",
        "failure": one.failure,
    }


def text(estimate: Estimate | None) -> str:
    """An estimate as a cell."""
    return "" if estimate is None else str(estimate)


def claim(run: Run, one: DensityFit, most: float) -> None:
    """Claim that KL + 2 standard errors stays below its target; a fit that failed meets none."""
    measured = float("nan") if one.kl is None else one.kl.value + 2 * one.kl.error
    run.claim(
        f"KL(true || estimated) + 2 standard errors in nats, {one.task.story}, {one.task.truth}",
        measured,
        most,
        relation="at most",
        source="target set before any fit",
    )


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
