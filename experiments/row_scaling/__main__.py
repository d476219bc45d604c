"""Row scaling: do a hundred times as many rows cost a hundred times the time and memory, or more?

A linear and a logistic regression of five weights are fitted to 10,000 to 1,000,000 rows, every fit in a
process of its own, whose largest memory the system reports. Every batched gradient of the logistic one reads
every row once, so that its seconds grow in proportion to the rows, a slope of 1 on logarithmic axes, and less
where an overhead that does not depend on rows counts. The rows of the linear one are folded into a triangular
matrix of six rows, once: what then grows is the time to read and check the data. Memory holds the data and a
few columns of their length, whatever the number of draws.

Expected: slopes of at most 1, within the error of the fitted line.

Source: the target is this project's own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, style
from experiments.row_scaling.slope import slope
from experiments.training.fresh import last_line

ALONE = True  # it measures time
KINDS = {"linear": ESTIMATED, "logistic": OTHER}
SIZES = (10_000, 100_000, 1_000_000)
MARKERS = {"linear": "o", "logistic": "s"}
LINEAR = 0.05  # slope above 1 that is tolerated: caches hold 10,000 rows and not 1,000,000
TIMEOUT = 1_200  # seconds of one process
OVERHEAD = 20.0  # MB: what a process takes and gives back whatever it does; less is not told apart


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what this experiment can be told."""
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="leave out larger sizes")


def main(run: Run) -> None:
    """Fit every size in a process of its own, then lay lines through seconds and memory."""
    sizes = (1_000, 4_000) if run.smoke else tuple(n for n in SIZES if n <= run.options.largest)
    kinds = ["linear"] if run.smoke else list(KINDS)
    measured = {kind: [child(kind, rows, run.seed) for rows in sizes] for kind in kinds}
    run.section(
        "What grows with the rows",
        "Processor seconds of one fit, a small one having been made before it in the same process, so that "
        "nothing is loaded meanwhile; memory is the process's peak beyond what it held when the fit began. "
        "The data themselves are 48 bytes a row.",
    )
    run.figure("row_scaling", picture(measured), "Lines: least squares on logarithms. Dashed: slope 1.")
    rows = [{"story": kind, **one} for kind, found in measured.items() for one in found]
    run.table("row_scaling", rows, "Every fit; seconds, and peak memory before and after in MB.")
    for kind, found in measured.items():
        claims(run, kind, found)


def child(kind: str, rows: int, seed: int) -> dict[str, Any]:
    """Measure one fit in a fresh process."""
    command = ("-m", "experiments.row_scaling.child", kind, str(rows), str(seed))
    found: dict[str, Any] = last_line(*command, timeout=TIMEOUT)
    return {**found, "extra MB": max(found["peak"] - found["before"], OVERHEAD)}


def claims(run: Run, kind: str, found: Sequence[dict[str, Any]]) -> None:
    """Claim that both grow at most in proportion, and that every fit is trusted."""
    for what, key in (("seconds", "seconds"), ("peak memory", "extra MB")):
        measured, error, _ = slope([f["rows"] for f in found], [f[key] for f in found])
        run.claim(f"{kind}: slope of {what} on rows, logarithms", measured, 1.0, error=error,
                  numerical=LINEAR, relation="at most", source="every row is read once a call")  # fmt: skip
    refused = sum(not f["trusted"] for f in found)
    run.claim(f"{kind}: fits refused", refused, 0, source="a posterior close to Gaussian")


def picture(measured: dict[str, list[dict[str, Any]]]) -> Any:
    """Seconds and memory over rows."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, 2, figsize=(10, 4))
        for axis, key, text in zip(
            axes,
            ("seconds", "extra MB"),
            ("processor seconds of a fit", "peak memory beyond the start, MB"),
            strict=True,
        ):
            for kind, found in measured.items():
                rows, values = [f["rows"] for f in found], [f[key] for f in found]
                found_slope, error, level = slope(rows, values)
                text_of = f"{kind}: slope {found_slope:.2f} ± {error:.2f}"
                axis.plot(rows, values, MARKERS[kind], color=KINDS[kind], ms=7, label=text_of)
                axis.plot(rows, [math.exp(level) * n**found_slope for n in rows], color=KINDS[kind], lw=1.2)
            top = max(f[key] for found in measured.values() for f in found)
            axis.plot(rows, [2 * top * n / rows[-1] for n in rows], "--", color="#888888", lw=1.2)
            axis.set(xscale="log", yscale="log", xlabel="rows", ylabel=text)
            axis.legend(loc="upper left")
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
