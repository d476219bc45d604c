"""Where does the time of a fit go, and how far is it from the cost of its gradients alone?

A fit imports, reads the story, traces it, climbs, fits its guide, weighs, and maps the draws back. Three
stories are fitted twice in one process, the second time with what the first one traced; a third fit is
profiled. Then 500 data sets of a story with ten unknowns are fitted at once, and some of them one after
another. Beside them stands the limit: as many batched gradients as the fit took, each as dear as one of 64
draws written by hand in torch.

Expected: a batch of 64 gradients costs no more than a single step of Pyro's own SVI on the same story, and
a second fit less than a first. 500 data sets at once are at least 20 times faster than one after another.

Source: the targets are this project's own; one plain Pyro step on eight schools takes about 5 ms.
"""

from __future__ import annotations

import cProfile
import math
import pstats
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, stdev
from time import process_time
from typing import Any

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from experiments.fit_cost.many import DRAWS, timed_many
from experiments.fit_cost.stories import Case, cases
from experiments.report import Run, launch
from experiments.report.style import PALETTE, style
from experiments.training.fresh import last_line
from inference import fit
from inference.density.log_density import LogDensity
from inference.runtime.isolation import isolated, one_thread
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations

ALONE = True  # it measures time
BATCH = 64  # draws of a batched gradient
SETS, FASTER = 500, 20.0  # data sets, and how much faster they are to be at once
SAME = 1e-9  # nats, relative: rounding of a sum in another order
# Phase -> (file, function) whose time it is, callees included; the first that matches.
PHASES = {
    "read the story": ("inspection.py", "inspect_rows"),
    "trace": ("log_density.py", "__init__"),
    "starts": ("starts.py", "climbs"),
    "guide": ("full_rank.py", "fit"),
    "modes": ("modes.py", "mixed"),
    "weights": ("importance.py", "weigh"),
    "flow": ("flow_training.py", "train_flow"),
    "chains": ("short_chains.py", "polish"),
    "missed modes": ("modes.py", "missed_mass"),
    "map back": ("log_density.py", "constrain"),
}


@dataclass(frozen=True)
class Cost:
    """Processor seconds of one story: fits, phases of the third, and gradients in milliseconds."""

    case: Case
    first: float
    second: float
    phases: dict[str, float]
    certificate: Any
    gradients: dict[str, list[float]]
    gap: float

    def ratio(self, way: str, other: str) -> tuple[float, float]:
        """Median of one way's cost over another's, round by round, and its standard error."""
        ratios = [a / b for a, b in zip(self.gradients[way], self.gradients[other], strict=True)]
        return median(ratios), math.sqrt(math.pi / 2) * stdev(ratios) / math.sqrt(len(ratios))

    @property
    def limit(self) -> float:
        """Seconds of the gradients alone, by hand; those of ours where nothing is written by hand."""
        way = "by hand" if self.case.by_hand else "traced"
        return self.certificate.gradient_calls * median(self.gradients[way]) / 1e3


def main(run: Run) -> None:
    """Time imports, fits and gradients, and lay them side by side."""
    rounds = 3 if run.smoke else 30
    imports = import_seconds()
    chosen = cases()[:1] if run.smoke else cases()
    costs = [measured(case, run.seed, rounds, run.smoke) for case in chosen]
    run.section("Where the time goes", f"Importing `inference.fit` takes {imports:.1f} s, once a process.")
    run.metric("import", imports, unit="s")
    run.figure("fit_cost", picture(costs), "Left: a fit by its phases. Right: one gradient of 64 draws.")
    run.table(
        "fits",
        [row(c) for c in costs],
        "Seconds of processor time; the first fit traces.",
    )
    run.table(
        "phases",
        [{"story": c.case.name, **c.phases} for c in costs],
        "Seconds of each phase of a third fit, in proportion to its profile.",
    )
    for cost in costs:
        claims(run, cost)
    many(run)


def many(run: Run) -> None:
    """Lay many data sets at once beside one after another."""
    found = timed_many(16, 1, 2, draws=200) if run.smoke else timed_many(SETS, 8, 5)
    run.section(
        "Many data sets at once",
        f"{found.sets} simulated data sets of a regression with ten unknowns and 50 rows; {DRAWS:,} draws of "
        f"each restart. `fit` takes four restarts unless it is told otherwise; `fit_many` takes one of each "
        f"data set, and trusted {found.trusted:.1%}. Batches of data sets share the cores. Seconds by the "
        f"clock, medians over rounds in which both take turns; one after another in proportion to a few.",
    )
    run.table("many", found.rows(), f"Seconds for {found.sets} data sets, once traced.")
    ratio, error = found.ratio(restarts=4)
    run.claim(f"{found.sets} data sets one after another / at once", ratio, FASTER, error=error,
              relation="at least", source="this project's design")  # fmt: skip
    run.metric("the same with a single restart", *found.ratio(restarts=1))


def import_seconds() -> float:
    """Seconds that a fresh process needs to import what fits."""
    code = "import time; t = time.perf_counter(); from inference import fit; print(time.perf_counter() - t)"
    return float(last_line("-c", code))


def measured(case: Case, seed: int, rounds: int, smoke: bool) -> Cost:
    """Fit three times, and time gradients in turn."""

    def one() -> tuple[float, Any]:
        began = process_time()
        found = fit(case.story, case.data, case.args, seed=seed, draws=200 if smoke else 1000)
        return process_time() - began, found.certificate

    first, _ = one()
    second, certificate = one()
    gradients, gap = gradient_costs(case, rounds)
    return Cost(case, first, second, phases(one, second), certificate, gradients, gap)


def phases(one: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Shares of a profiled fit, as seconds of one that is not."""
    profile = cProfile.Profile(process_time)
    profile.runcall(one)
    stats: Any = pstats.Stats(profile)
    total, found = stats.total_tt, {}
    for phase, (file, function) in PHASES.items():
        spent = [
            cumulative
            for (path, _, name), (_, _, _, cumulative, _) in stats.stats.items()
            if path.endswith(f"inference/{file}") or path.endswith(f"guides/{file}")
            if name == function
        ]
        found[phase] = max(spent, default=0.0) / total * seconds
    return {**found, "rest": max(seconds - sum(found.values()), 0.0)}


def gradient_costs(case: Case, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of a gradient of 64 draws and of a step of Pyro's SVI; gap to what is written by hand."""
    structure, observations = inspect_rows(Call.bind(case.story, case.args), as_observations(case.data))
    density = LogDensity(structure, observations)
    generator = torch.Generator().manual_seed(1)
    z = 0.5 * torch.randn(BATCH, density.size, generator=generator, dtype=torch.float64)
    ways: dict[str, Callable[[], Any]] = {
        "traced": lambda: density.value_and_grad(z),
        "Pyro's SVI, 1 draw": svi_step(case),
    }
    gap = 0.0
    if case.by_hand is not None:
        hand = case.by_hand
        ways["by hand"] = lambda: by_hand(hand, z)
        differ = density.log_prob(z) - hand(z)
        gap = float((differ - differ.mean()).abs().max() / differ.abs().max())
    found: dict[str, list[float]] = {name: [] for name in ways}
    with one_thread(), isolated(0):
        for turn in range(rounds + 2):
            for name, step in ways.items():
                began = process_time()
                for _ in range(5):
                    step()
                if turn >= 2:  # the first two warm up
                    found[name].append((process_time() - began) * 200)
    return found, gap


def by_hand(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Gradient of a log density written in torch, at all draws at once."""
    point = z.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(point).sum(), point)[0]


def svi_step(case: Case) -> Callable[[], Any]:
    """Loss and gradient of Pyro's mean-field guide, without an optimizer."""
    conditioned = poutine.condition(case.story, dict(case.data))
    guide = AutoNormal(conditioned)
    elbo = Trace_ELBO()
    return lambda: elbo.loss_and_grads(conditioned, guide, *case.args)


def row(cost: Cost) -> dict[str, Any]:
    """Write one story as a row."""
    return {
        "story": cost.case.name, "first fit": cost.first, "second fit": cost.second,
        "trusted": cost.certificate.trusted, "draws by": cost.certificate.method,
        "gradient calls": cost.certificate.gradient_calls, "these by hand": cost.limit,
        **{f"{way}, ms": median(values) for way, values in cost.gradients.items()},
    }  # fmt: skip


def claims(run: Run, cost: Cost) -> None:
    """Claim what one run can judge: ratios."""
    name = cost.case.name
    ratio, error = cost.ratio("traced", "Pyro's SVI, 1 draw")
    run.claim(f"{name}: 64 traced gradients / one step of Pyro's SVI", ratio, 1.0, error=error,
              relation="at most", source="this project's design")  # fmt: skip
    run.claim(f"{name}: second fit / first fit", cost.second / cost.first, 1.0, relation="at most",
              source="what was traced is kept")  # fmt: skip
    run.metric(f"{name}: second fit / its gradients alone", cost.second / cost.limit)
    if cost.case.by_hand:
        run.claim(f"{name}: traced less hand-written log density, relative", cost.gap, 0.0, numerical=SAME)
        run.metric(f"{name}: traced / hand-written gradient", *cost.ratio("traced", "by hand"))


def picture(costs: list[Cost]) -> Any:
    """Phases of every fit, and gradients."""
    import matplotlib.pyplot as plt

    names = [c.case.name for c in costs]
    colours = (*PALETTE[:6], "#777777", "#F0E442", "#8c564b", "#c7c7c7", "#222222")
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 1.0 * len(costs) + 2.6))
        start = [0.0] * len(costs)
        for colour, phase in zip(colours, costs[0].phases, strict=True):
            values = [c.phases[phase] for c in costs]
            left.barh(names, values, left=start, color=colour, label=phase, edgecolor="white", height=0.6)
            start = [a + b for a, b in zip(start, values, strict=True)]
        for i, cost in enumerate(costs):
            marks = [(cost.first, "o", "first fit"), (cost.limit, "|", "its gradients, by hand or alone")]
            for value, marker, label in marks:
                left.plot(value, i, marker, color="black", ms=8 if marker == "o" else 22, mew=2,
                          label=label if i == 0 else None)  # fmt: skip
        left.set(xlabel="seconds of processor time", title="A second fit by its phases")
        left.invert_yaxis()
        left.legend(ncol=4, loc="upper left", bbox_to_anchor=(-0.25, -0.2))
        for shift, (way, colour) in enumerate(
            {"by hand": "#222222", "traced": PALETTE[0], "Pyro's SVI, 1 draw": PALETTE[1]}.items()
        ):
            spots = [i + 0.26 * (shift - 1) for i, c in enumerate(costs) if way in c.gradients]
            values = [median(c.gradients[way]) for c in costs if way in c.gradients]
            right.barh(spots, values, height=0.24, color=colour, label=way)
        right.set_yticks(range(len(names)), names)
        right.invert_yaxis()
        right.set(xlabel="milliseconds", title="A gradient of 64 draws")
        right.legend(loc="upper left", ncol=3, bbox_to_anchor=(0.0, -0.22))
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
