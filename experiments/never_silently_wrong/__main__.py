"""Never silently wrong: how often does a fit that is wrong call itself trusted?

Posteriors that are hard, each in its own way, and known all the same (``experiments/truth/posteriors``) are
fitted from several seeds; then faults are planted inside the fit on purpose: a forgotten Jacobian, standard
deviations times .8 in three places, dropped modes, a restart stuck in a local optimum. An estimate is right
if all means are within .05 true standard deviations and all standard deviations within 5 %, beyond four
Monte Carlo errors (``experiments/compare/right.py``). A fit may be right or refused; one that is wrong and
trusted is silently wrong.

Expected: none is. Where two modes are so far apart, and one so light, that no start leads to it, nothing that
looks at the density at finitely many points can know of it: the map of weights and distances shows how far
this fit sees, and modes drawn at random (``experiments/truth/random_modes``) how often it misses some. Starts
come from the prior, too, so that a proper prior which knows where modes may lie is the best help. Batches of
data sets whose posteriors have several modes (``experiments/truth/several_modes``) are judged alike.

Source: Yao, Vehtari, Simpson and Gelman (2018), "Yes, but did it work? Evaluating variational inference", for
the question; the interval: Clopper and Pearson (1934), Biometrika 26.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from experiments.never_silently_wrong import faults
from experiments.never_silently_wrong.outcomes import OUTCOMES, JudgedFit, interval
from experiments.report import Run, launch
from experiments.report.launch import positive
from experiments.report.style import style
from experiments.truth.known_posterior import KnownPosterior
from experiments.truth.posteriors import names, posterior, two_modes
from experiments.truth.random_modes import PRIORS, random_modes
from experiments.truth.several_modes import MANY, outcomes
from inference import fit

WEIGHTS = (0.5, 0.3, 0.1, 0.03, 0.01)  # of the lighter mode
DISTANCES = (4.0, 8.0, 16.0, 32.0, 64.0, 256.0)  # between two modes, in standard deviations
MOST_REFUSED = 2  # of the posteriors, for a seed
RANDOM, FIRST_RANDOM = 40, 20_000  # random modes for each prior, and the first one's seed


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what this experiment can be told."""
    parser.add_argument("--seeds", type=positive, default=3, help="fits of every posterior (default 3)")


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    seeds = range(run.seed, run.seed + (1 if run.smoke else run.options.seeds))
    chosen = ["label_switching", "two_modes"] if run.smoke else names()
    truths = {name: posterior(name) for name in chosen}
    clean = [fitted(run, n, truth, "", seed) for seed in seeds for n, truth in truths.items()]
    planted = [fitted(run, *case, seed) for seed in seeds for case in plants(run.smoke)]
    far = far_modes(run)
    drawn = {prior: drawn_modes(run, prior) for prior in PRIORS}
    results = [*clean, *planted]

    run.section(
        "How every fit came out",
        "Each posterior without a fault, then with planted ones. A fault that weights or chains can mend, "
        "such as a guide too narrow whose density is known, may end in a right posterior.",
    )
    run.figure(
        "outcomes", picture(results, far, drawn),
        "Left: fits by outcome. Right above: two round modes; does the fit find the lighter one, refuse, or "
        "miss it in silence? Right below: two or three modes drawn at random, narrow and wide, under a prior "
        "that knows them, a broad one, and none. No fault is planted there.",
    )  # fmt: skip
    run.table("fits", [r.row() for r in results], "Every fit. Errors are the largest over all quantities.")
    run.table("far_modes", [r.row() for r in far], "Two modes: weight of the lighter one, and distance.")
    random_rows = [r.row() for found in drawn.values() for r in found]
    run.table("random_modes", random_rows, "Modes drawn at random, by prior.")
    claims(run, results, clean, far)
    claim_drawn(run, drawn)
    claim_batches(run)


def fitted(run: Run, name: str, truth: KnownPosterior, fault: str, seed: int) -> JudgedFit:
    """Fit one posterior, with a fault or without, and judge it."""
    draws, restarts = (200, 2) if run.smoke else (1000, 4)
    with FAULTS[fault]():
        found = fit(truth.story, truth.data, truth.args, seed=seed, draws=draws, restarts=restarts)
    judged = truth.judge(found.draws, found.certificate.ess)
    return JudgedFit(name, fault, seed, found.certificate, judged)


def plants(smoke: bool) -> list[tuple[str, KnownPosterior, str]]:
    """Posterior and fault of every planted case."""
    labels, two = posterior("label_switching"), posterior("two_modes")
    if smoke:
        return [("label_switching", labels, "forgotten Jacobian"), ("two_modes", two, "dropped modes")]
    narrow = [f for f in FAULTS if ".8" in f]
    easy = {"label_switching": labels, "gaussian_100": posterior("gaussian_100")}
    cases = [(name, truth, fault) for name, truth in easy.items() for fault in narrow]
    cases += [("label_switching", labels, "forgotten Jacobian"), ("label_switching", labels, "dropped modes")]
    cases += [("two_modes", two, fault) for fault in ("dropped modes", "stuck restart")]
    light = two_modes.apart(0.02, 10.0)
    return [*cases, *(("modes .02 and .98", light, fault) for fault in ("dropped modes", "stuck restart"))]


def far_modes(run: Run) -> list[JudgedFit]:
    """Fit two modes over weights and distances."""
    weights, distances = (WEIGHTS[1:2], DISTANCES[:2]) if run.smoke else (WEIGHTS, DISTANCES)
    return [
        fitted(run, f"{weight:g} at {distance:g} sd", two_modes.apart(weight, distance), "", run.seed)
        for weight in weights
        for distance in distances
    ]


def drawn_modes(run: Run, prior: str) -> list[JudgedFit]:
    """Fit modes drawn at random."""
    seeds = range(FIRST_RANDOM, FIRST_RANDOM + (1 if run.smoke else RANDOM))
    return [fitted(run, f"{prior} {seed}", random_modes(seed, prior), "", run.seed) for seed in seeds]


def claim_drawn(run: Run, drawn: dict[str, list[JudgedFit]]) -> None:
    """Claim that no mode which the prior knows is missed in silence; report the rates of the others."""
    for prior, found in drawn.items():
        wrong = sum(r.silently_wrong for r in found)
        low, high = interval(wrong, len(found))
        run.text(
            f"Random modes, {prior} prior: {wrong} of {len(found)} silently wrong, a rate of "
            f"{wrong / len(found):.1%}, 95 % interval {low:.1%} to {high:.1%}."
        )
        run.metric(f"random modes silently wrong, {prior} prior", wrong / len(found))
        if prior == "own":
            run.claim("random modes that the prior knows, missed in silence", wrong, 0,
                      source="this project's aim")  # fmt: skip


def claim_batches(run: Run) -> None:
    """Claim that in batches with several modes none is wrong and trusted, and most are right."""
    chosen = ["squares"] if run.smoke else list(MANY)
    found = {name: outcomes(name, 20 if run.smoke else None) for name in chosen}
    rows = [{"story": name, **{word: counts[word] for word in OUTCOMES}} for name, counts in found.items()]
    run.table("batches", rows, "Several modes, by `fit_many`: data sets of every story, against quadrature.")
    wrong = sum(counts["SILENTLY WRONG"] for counts in found.values())
    run.claim("data sets of a batch that are wrong and call themselves trusted", wrong, 0,
              source="this project's aim")  # fmt: skip
    for name, counts in found.items():
        share = counts["trusted and right"] / sum(counts.values())
        run.claim(f"{name}: data sets of a batch trusted and right", share, 0.5, relation="at least",
                  source="this project's aim: a refused set is no success")  # fmt: skip


def claims(
    run: Run, results: Sequence[JudgedFit], clean: Sequence[JudgedFit], far: Sequence[JudgedFit]
) -> None:
    """Claim that nothing is silently wrong, and that little is refused."""
    wrong = [r for r in results if r.silently_wrong]
    low, high = interval(len(wrong), len(results))
    run.text(
        f"{len(wrong)} of {len(results)} fits are silently wrong: a rate of {len(wrong) / len(results):.1%}, "
        f"95 % interval {low:.1%} to {high:.1%}. Of {len(far)} pairs of modes, "
        f"{sum(r.silently_wrong for r in far)} are; the heaviest mode missed in silence has the weight "
        f"{max((weight_of(r) for r in far if r.silently_wrong), default=0.0):g}."
    )
    run.metric("upper end of the 95 % interval of the rate", high)
    run.metric("pairs of modes silently wrong", sum(r.silently_wrong for r in far) / len(far))
    run.claim("fits that are wrong and call themselves trusted", len(wrong), 0, source="this project's aim")
    for seed in sorted({r.seed for r in clean}):
        refused = sum(not r.certificate.trusted for r in clean if r.seed == seed)
        run.claim(f"seed {seed}: posteriors refused", refused, MOST_REFUSED, relation="at most",
                  source="this project's aim")  # fmt: skip


def weight_of(result: JudgedFit) -> float:
    """Weight of the lighter mode."""
    return float(result.posterior.split()[0])


def picture(results: Sequence[JudgedFit], far: Sequence[JudgedFit], drawn: dict[str, list[JudgedFit]]) -> Any:
    """Bars of outcomes, the map of weights and distances, and random modes by prior."""
    import matplotlib.pyplot as plt

    keys = list(dict.fromkeys(label(r) for r in results))
    with style():
        figure = plt.figure(figsize=(13, 0.32 * len(keys) + 2.2))
        grid = figure.add_gridspec(2, 2, height_ratios=(3, 1), hspace=0.42, wspace=0.3)
        left = figure.add_subplot(grid[:, 0])
        bars(left, keys, [[r for r in results if label(r) == key] for key in keys])
        left.set(xlabel="fits", title="Without a fault, and with planted ones")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, ncol=4, loc="lower center", bbox_to_anchor=(0.5, -0.05))
        the_map(figure.add_subplot(grid[0, 1]), far)
        below = figure.add_subplot(grid[1, 1])
        bars(below, [f"{prior} prior" for prior in drawn], list(drawn.values()))
        below.set(xlabel="fits", title="Modes drawn at random")
    return figure


def bars(axis: Any, names: Sequence[str], groups: Sequence[Sequence[JudgedFit]]) -> None:
    """Stack the outcomes of groups of fits."""
    start = torch.zeros(len(names))
    for outcome, colour in OUTCOMES.items():
        count = torch.tensor([sum(r.outcome == outcome for r in group) for group in groups])
        axis.barh(list(names), count, left=start, color=colour, label=outcome, edgecolor="white")
        start = start + count
    axis.invert_yaxis()
    axis.xaxis.get_major_locator().set_params(integer=True)


def the_map(axis: Any, far: Sequence[JudgedFit]) -> None:
    """Mark the outcome for every weight of the lighter mode and distance."""
    for r in far:
        weight, distance = weight_of(r), float(r.posterior.split()[2])
        axis.plot(distance, weight, "s", ms=15, color=OUTCOMES[r.outcome])
    axis.set(xscale="log", yscale="log", xlabel="distance of the modes, standard deviations",
             ylabel="weight of the lighter mode", title="Two modes: how far the fit sees")  # fmt: skip
    for one, ticks in ((axis.xaxis, DISTANCES), (axis.yaxis, WEIGHTS)):
        one.set_ticks(ticks, [f"{v:g}" for v in ticks])
        one.set_ticks([], minor=True)
    axis.set(xlim=(DISTANCES[0] / 1.5, DISTANCES[-1] * 1.5), ylim=(WEIGHTS[-1] / 1.8, WEIGHTS[0] * 1.8))


def label(result: JudgedFit) -> str:
    """Name of a bar."""
    return result.posterior + (f": {result.fault}" if result.fault else "")


FAULTS: dict[str, Callable[[], Any]] = {
    "": nullcontext,
    "forgotten Jacobian": faults.missing_jacobian,
    "guide .8 as wide": faults.narrow_guide,
    "draws .8 as wide as said": faults.narrow_sampler,
    "narrowed to .8 after weighing": faults.narrowed_after_weighing,
    "dropped modes": faults.dropped_modes,
    "stuck restart": faults.stuck_restart(
        torch.tensor([-4.5, -1.5], dtype=torch.float64), torch.eye(2, dtype=torch.float64), -1.2
    ),
}


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
