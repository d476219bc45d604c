"""Scoreboard: does `fit` find posteriors that others have drawn at great length, and in what time?

Thirty-four posteriors of posteriordb: regressions, hierarchies, recursions in time, a Gaussian process,
hidden Markov models, differential equations. For each there are 10,000 reference draws, checked by its
makers. Every one is fitted by `fit` with nothing tuned, 40,000 draws; the largest errors of means and
standard deviations stand beside k-hat, the rung that was kept, and the time. On eight of them, chosen
beforehand, NumPyro's NUTS, nutpie (a PyMC model) and NumPyro's SVI with a full-rank Gaussian are timed in
the same run, to 4,000 draws: every fit in a process of its own, imports excluded, tracing and compiling
included, then once more with another seed. A fit that is wrong or refused counts as infinitely long, for
all alike.

Expected: every mean within .05 reference standard deviations and every standard deviation within 5 % on all
but one, at most one refused, none silently wrong; a median below 2 seconds, a fifth of nutpie's and half of
the first fit of NUTS; a second fit below .3 seconds. Two quantities of one_comp_mm_elim_abs have no variance
(the likelihood is flat along V_m / K_m, so their tails fall as the cube): no standard deviation of theirs is
right, and what is asked is that the certificate says so; such a fit is "warned", and not counted as right.

Source: Magnusson et al. (2024), posteriordb: testing, benchmarking and developing Bayesian inference
algorithms, arXiv:2407.04967. The targets are this project's own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from statistics import median

from experiments.compare.chain_moments import TAIL
from experiments.peers.fresh import OURS, absent, peers, title
from experiments.peers.posed import EIGHT
from experiments.posteriordb import figures
from experiments.posteriordb.measures import (
    PeerTiming,
    ScoreboardEntry,
    beside_each_other,
    entry,
    markdown,
    ratio,
    timed_peer,
)
from experiments.report import Run, launch
from experiments.report.errors import InputError
from experiments.report.folder import write_text
from experiments.report.launch import positive
from experiments.truth import posteriordb

ALONE = True  # it measures time
TARGETS = "this project's targets"
TINY = ("mesquite-logmesquite_logvash", "sblri-blr")
NUTS, NUTPIE = "numpyro_nuts", "nutpie"
DRAWS = 1000  # of each of four chains, where libraries are compared


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what this experiment can be told."""
    parser.add_argument("--draws", type=positive, default=10_000, help="of each restart (default 10000)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these posteriors, not all 34")
    parser.add_argument("--without-peers", action="store_true", help="leave the other libraries out")


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    names = chosen(run)
    draws = 500 if run.smoke else run.options.draws
    errors(run, [entry(name, draws, run.seed) for name in names], draws)
    eight = [name for name in EIGHT if name in names][: 1 if run.smoke else None]
    if not eight:
        return
    asked = [] if run.smoke or run.options.without_peers else peers()
    there = [peer for peer in asked if not absent(peer)]
    libraries = (OURS, *there)
    timings = [timed_peer(peer, title(peer), name, DRAWS, run.seed) for name in eight for peer in libraries]
    times(run, timings)
    judge(run, timings, len(eight))
    for peer in peers():
        if peer not in there:
            missing = ", ".join(absent(peer))
            why = f"{missing} not installed (`pip install -e '.[peers]'`)" if missing else "left out"
            run.text(f"Claims about {title(peer)}: not measured, {why}.")


def chosen(run: Run) -> list[str]:
    """Names of the posteriors to fit."""
    try:
        names = posteriordb.names()
    except ValueError as error:
        raise InputError(str(error)) from error
    asked = list(TINY) if run.smoke else run.options.only or names
    if unknown := sorted(set(asked) - set(names)):
        raise InputError(f"--only: expected names such as {names[0]}, got {', '.join(unknown)}")
    return [name for name in names if name in asked]


def errors(run: Run, entries: Sequence[ScoreboardEntry], draws: int) -> None:
    """Lay all posteriors beside their reference draws."""
    run.section(
        "Beside reference draws",
        f"`fit` with its defaults and 4 restarts of {draws:,} draws. Errors are the largest over all "
        "quantities of a posterior: of means in reference standard deviations, of standard deviations in "
        "percent; of tails the largest factor by which the share of draws beyond the reference's 1 % and "
        "99 % quantiles is off. The references are 10,000 draws each, with a Monte Carlo error of their own: "
        ".01 standard deviations, .7 % or more, and 10 % of the mass of a tail.",
    )
    rows = [one.row() for one in entries]
    run.figure(
        "errors",
        figures.errors(entries),
        "Largest error of a mean (left) and of a standard deviation (right). Shaded: beyond the tolerance.",
    )
    run.table("scoreboard", rows, "Every posterior: errors, certificate, cost.")
    write_text(run.folder / "scoreboard.md", markdown(rows))
    for one in entries:
        if one.verdict != "right":
            worst = " and ".join(dict.fromkeys((one.found.worst_mean, one.found.worst_stddev)))
            why = " ".join(one.facts.get("reasons", ()))
            run.text(f"{one.name}: {one.verdict}; largest errors in {worst}. {why}")
    count(run, entries)
    for which in ("first", "second"):
        seconds = median(getattr(one, f"{which}_seconds") for one in entries)
        run.metric(f"median of the {which} fit, {4 * draws:,} draws", seconds, unit="s")


def count(run: Run, entries: Sequence[ScoreboardEntry]) -> None:
    """Claim how many are right, refused, and wrong."""
    verdicts = [one.verdict for one in entries]
    total = len(entries)
    text = f"posteriors trusted, every mean within .05 sd and every sd within 5 %, of {total}"
    run.claim(text, verdicts.count("right"), total - 1, relation="at least", source=TARGETS)
    run.claim("posteriors refused", verdicts.count("refused"), 1, relation="at most", source=TARGETS)
    text = "posteriors trusted and wrong without a warning that names the quantity"
    run.claim(text, verdicts.count("WRONG"), 0, relation="at most", source=TARGETS)
    text = (
        f"posteriors trusted, the mass beyond a reference quantile of 1 % off by {TAIL} or more, not a word"
    )
    run.claim(text, sum(bool(one.untold_tails) for one in entries), 0, relation="at most", source=TARGETS)
    for verdict in ("right", "refused", "warned", "WRONG"):
        number = sum(one.verdict_again == verdict for one in entries)
        run.metric(f"second fits, with another seed: {verdict}", number, unit=f"of {total}")


def times(run: Run, timings: Sequence[PeerTiming]) -> None:
    """Lay the libraries' times side by side."""
    run.section(
        "Beside other libraries",
        "Seconds to 4 x 1,000 draws in memory. Right means: every mean within .05 reference standard "
        "deviations and every standard deviation within 5 %, plus 3 Monte Carlo errors, from effective sizes "
        "of at least 100, for all libraries alike; `fit` must also be trusted by its certificate. "
        "NumPyro's chains run in parallel, each wholly compiled; its full-rank SVI is one compiled function. "
        "Caches of compilers on disk are empty.",
    )
    run.figure(
        "times",
        figures.times(timings),
        "First and second fit of one model in one process. A cross is a fit that is wrong or refused.",
    )
    rows = beside_each_other(timings, [title(peer) for peer in (OURS, *peers())])
    run.table("beside", rows, "Seconds of the first / second fit; what is not right is said.")
    run.table("libraries", [one.row() for one in timings], "The same with the errors of both fits.")
    write_text(run.folder / "beside.md", markdown(rows))


def judge(run: Run, timings: Sequence[PeerTiming], total: int) -> None:
    """Claim what the times should be."""
    libraries = dict.fromkeys(one.library for one in timings)
    of = {library: [one for one in timings if one.library == library] for library in libraries}
    ours = of.pop(title(OURS))
    first, second = [one.first for one in ours], [one.second for one in ours]
    text = f"median seconds of the first fit, {total} posteriors"
    run.claim(text, median(first), 2.0, relation="at most", source=TARGETS)
    for peer, most in ((NUTPIE, 0.2), (NUTS, 0.5)):
        if theirs := of.get(title(peer)):
            text = f"first fit, median of seconds / seconds of {title(peer)}"
            run.claim(text, ratio(first, [t.first for t in theirs]), most, relation="at most", source=TARGETS)
    text = f"median seconds of the second fit, {total} posteriors"
    run.claim(text, median(second), 0.3, relation="at most", source=TARGETS)
    if of:
        fastest = [min(one.second for one in row) for row in zip(*of.values(), strict=True)]
        won = sum(a < b for a, b in zip(second, fastest, strict=True))
        text = f"second fits faster than the fastest right peer's, of {total}"
        run.claim(text, won, math.ceil(total * 5 / 8), relation="at least", source=TARGETS)


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
