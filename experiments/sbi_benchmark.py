"""SBI benchmark: where the likelihood is known, how near do fits come to the true posterior?

Simulation-based inference learns a posterior from simulations alone, for stories whose likelihood nobody can
write down. Some tasks of its benchmark have a likelihood after all. Told as stories they are fitted here
directly, and the draws are laid beside draws of the true posterior, which owe nothing to the fit: closed
forms, a grid, or long chains. A classifier is asked to tell the two apart; its accuracy on held-out draws
(C2ST) is .5 where they have one law.

Expected: at most .52 for every fit that is trusted, which 100,000 simulations do not reach on most tasks. Two
moons and SLCP are hard on purpose (a fold, four modes): a fit may refuse them, and then says so. SLCP is also
told folded, without the signs that no data can tell.

The benchmark's accuracies are means over ten observations of its own, with a network on 10,000 draws and
cross-validation; here the observations are others, fewer, and the classifier is a forest with a hold-out.

Source: Lueckmann, Boelts, Greenberg, Goncalves and Macke (2021), Benchmarking simulation-based inference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from experiments.compare import Comparison, two_sample
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, TRUE, style
from experiments.truth.benchmark_task import BenchmarkTask
from experiments.truth.sbi import names, task
from inference import fit

# Committed before any fit: the observations' seeds, the number of draws, and what is claimed.
OBSERVATIONS = (101, 102)
ONCE = ("slcp",)  # half a minute of CPU
DRAWS, MOST = 2_000, 0.52
SMOKE = ("gaussian_linear", "gaussian_mixture")
SHOWN = {"gaussian_mixture": (0, 1), "two_moons": (0, 1), "slcp_folded": (2, 3), "slcp": (2, 3)}
JOINT = "p(θ) p(x | θ), one story a task"


@dataclass(frozen=True)
class Found:
    """A fit of one observation: its draws and the reference's, (draws, d), and what a classifier sees."""

    name: str
    seed: int
    task: BenchmarkTask
    posterior: Any
    ours: Tensor
    known: Tensor
    told_apart: Comparison

    @property
    def trusted(self) -> bool:
        """What the certificate says."""
        return bool(self.posterior.certificate.trusted)


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    asked = [
        (name, seed)
        for name in (SMOKE if run.smoke else names())
        for seed in OBSERVATIONS[: 1 if run.smoke or name in ONCE else None]
    ]
    found = [one(run, name, seed) for name, seed in asked]
    for name in dict.fromkeys(name for name, _ in asked):
        run.story(next(each for each in found if each.name == name).task.story, JOINT)
    run.section("Told apart?", "Every fit's draws beside draws of the true posterior that owe it nothing.")
    run.figure(
        "accuracies",
        accuracies(found),
        "Accuracy of a classifier that tells fitted draws from true ones, with two standard errors; .5 is "
        "guessing. Crosses: published means of methods that know 100,000 simulations and no likelihood.",
    )
    run.figure("draws", scatter(found), "Fitted draws (blue) over true ones (grey), two parameters of each.")
    run.table("tasks", [row(each) for each in found], "Every task and observation.")
    for each in found:
        if not each.trusted:
            reasons = "; ".join(each.posterior.certificate.reasons)
            run.text(f"{each.name}, observation {each.seed}, was refused: {reasons}")
    claims(run, found)


def one(run: Run, name: str, seed: int) -> Found:
    """Fit one observation and lay it beside the truth."""
    posed = task(name, seed)
    number = 400 if run.smoke else DRAWS
    known = posed.reference(number, run.seed)
    posterior = fit(posed.story, posed.data, posed.args, draws=number // 4, seed=run.seed)
    ours = posed.parameters(posterior.draws)
    apart = two_sample(ours, known, test="classifier", seed=run.seed)
    return Found(name, seed, posed, posterior, ours, known, apart)


def row(each: Found) -> dict[str, Any]:
    """Write one fit as a row of the table."""
    certificate = each.posterior.certificate
    return {
        "task": each.name,
        "observation": each.seed,
        "C2ST": each.told_apart.value,
        "its error": each.told_apart.error,
        "trusted": each.trusted,
        "by": certificate.method,
        "seconds": certificate.seconds,
        "truth by": each.task.how,
        "published (100,000 simulations)": " / ".join(f"{v:.3f} {k}" for k, v in each.task.published.items()),
    }


def claims(run: Run, found: list[Found]) -> None:
    """Claim that trusted fits cannot be told from the truth; show published numbers beside the means."""
    for each in found:
        at = f"{each.name}, observation {each.seed}"
        run.metric(f"{at}: C2ST", each.told_apart.value, each.told_apart.error)
        if each.trusted:
            run.claim(
                f"{at}: C2ST of a trusted fit", each.told_apart.value, MOST,
                error=each.told_apart.error, relation="at most", source=f"truth by {each.task.how}",
            )  # fmt: skip
    for name in dict.fromkeys(each.name for each in found):
        group = [each for each in found if each.name == name]
        mean = sum(each.told_apart.value for each in group) / len(group)
        error = math.hypot(*(each.told_apart.error for each in group)) / len(group)
        for method, value in group[0].task.published.items():
            run.published(
                f"{name}: mean C2ST, beside {method} at 100,000 simulations", mean, value, error=error,
                source="Lueckmann et al. (2021); their observations",
            )  # fmt: skip


def accuracies(found: list[Found]) -> Any:
    """All accuracies on one axis, published ones beside them."""
    import matplotlib.pyplot as plt

    order = list(dict.fromkeys(each.name for each in found))
    with style():
        figure, axis = plt.subplots(figsize=(8.5, 1.2 + 0.55 * len(order)))
        axis.axvline(0.5, color=TRUE, lw=1)
        axis.axvspan(0.48, MOST, color="#eeeeee", lw=0)
        for each in found:
            place = order.index(each.name)
            fill = ESTIMATED if each.trusted else "white"
            axis.errorbar(
                each.told_apart.value, place, xerr=2 * each.told_apart.error, fmt="o", color=ESTIMATED,
                mfc=fill, ms=7, capsize=2, lw=1.2,
            )  # fmt: skip
            for value in each.task.published.values():
                axis.plot(value, place, "x", color=OTHER, ms=8, mew=2)
        axis.plot([], [], "o", color=ESTIMATED, label="fitted, trusted")
        axis.plot([], [], "o", color=ESTIMATED, mfc="white", label="fitted, refused")
        axis.plot([], [], "x", color=OTHER, mew=2, ls="", label="published, from simulations")
        axis.set_yticks(range(len(order)), [name.replace("_", " ") for name in order])
        axis.invert_yaxis()
        axis.set(xlabel="C2ST: accuracy of telling apart (.5 is guessing)", title="How near to the truth")
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def scatter(found: list[Found]) -> Any:
    """Two parameters of the tasks that are not Gaussian."""
    import matplotlib.pyplot as plt

    shown = {each.name: each for each in reversed(found) if each.name in SHOWN}
    with style():
        figure, axes = plt.subplots(1, len(shown), figsize=(4 * len(shown), 3.9), squeeze=False)
        for axis, name in zip(axes[0], (name for name in SHOWN if name in shown), strict=True):
            each, (i, j) = shown[name], SHOWN[name]
            axis.scatter(each.known[:, i], each.known[:, j], s=9, color="#bbbbbb", lw=0, label="true")
            axis.scatter(each.ours[:, i], each.ours[:, j], s=3, color=ESTIMATED, lw=0, label="fitted")
            verdict = "trusted" if each.trusted else "refused"
            axis.set(
                xlabel=f"θ{'₁₂₃₄₅'[i]}", ylabel=f"θ{'₁₂₃₄₅'[j]}",
                title=f"{name.replace('_', ' ')}: {verdict}",
            )  # fmt: skip
            axis.legend(loc="best", markerscale=2, fontsize=9)
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
