"""What does a step of SVI cost, beside the same model written by hand in torch?

A story, a guide and an ELBO are run by Pyro's handlers, which cost some milliseconds a step however small
the networks are. ``fit`` runs them once per shape of batch, records the step as a graph of tensor
operations, and puts one optimizer over all parameters.

Expected: at most 1.25 times the hand-written step for a variational autoencoder of 784-256-16 units on
batches of 128, measured in interleaved pairs in one run, both with torch's fused Adam; more for a network so
small that nothing but overhead is left. Pyro's own SVI, on its defaults, is measured beside them.

Source: the target is this project's own; Kingma and Welling (2014), "Auto-encoding variational Bayes",
for the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, stdev
from time import process_time
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, TRUE
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations
from inference.svi.minibatch import Rows
from inference.svi.request import Request
from inference.svi.restart import restarted
from inference.svi.target import Target

BATCH, EPOCH = 128, 8  # rows per step, and batches per epoch
ALONE = True  # it measures time
TARGET = 1.25
SIZES = {"784-256-16": (784, 256, 16), "2-32-2": (2, 32, 2)}
COLOURS = {"by hand": TRUE, "fit": ESTIMATED, "Pyro's SVI": OTHER}
WARM = 15  # steps before the clock starts: fit records its graph after ten


class Story(PyroModule):
    """z ~ Normal(0, 1), x | z ~ Bernoulli(decoder(z))."""

    def __init__(self, features: int, hidden: int, latents: int) -> None:
        super().__init__()
        self.features, self.hidden, self.latents = features, hidden, latents
        self.decoder = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, features))

    def forward(self, n: int) -> None:
        """Tell the story of ``n`` rows."""
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([self.latents]).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1))


class Guide(PyroModule):
    """q(z | x), independent Gaussians."""

    def __init__(self, story: Story) -> None:
        super().__init__()
        units, latents = story.hidden, story.latents
        self.encoder = nn.Sequential(
            nn.Linear(story.features, units), nn.ReLU(), nn.Linear(units, 2 * latents)
        )

    def forward(self, n: int, data: Mapping[str, Tensor]) -> None:
        """Draw z for the rows of ``data["x"]``."""
        mean, log_stddev = self.encoder(data["x"]).chunk(2, -1)
        with pyro.plate("row", n, dim=-1):
            pyro.sample("z", dist.Normal(mean, log_stddev.exp()).to_event(1))


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds per step, one entry per round, and the ratio to the hand-written step."""

    size: str
    way: str
    milliseconds: list[float]
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """Median over rounds."""
        return median(self.ratios)

    @property
    def error(self) -> float:
        """Standard error of that median (of a sample that is about Gaussian)."""
        return math.sqrt(math.pi / 2) * stdev(self.ratios) / math.sqrt(len(self.ratios))


def main(run: Run) -> None:
    """Time interleaved steps of each way, for both sizes."""
    rounds, steps = (3, 2) if run.smoke else (40, 10)
    run.section(
        "What is compared", f"{rounds} rounds of {steps} steps of each way in turn, one thread, CPU time."
    )
    costs: list[Cost] = []
    for size, widths in SIZES.items():
        x = rows_of(widths[0], run.seed)
        with ways(widths, x, run.seed) as (steppers, gap):
            costs += measure(size, steppers, rounds, steps)
        text = f"{size}: loss of the recorded step less plain Pyro's at the same noise, relative"
        run.claim(text, gap, 0.0, numerical=1e-5, source="the same sum, in float32")
    run.figure("cost", picture(costs), "CPU time per step. Boxes span rounds.")
    run.table("cost", [row(c) for c in costs], "Ratios are medians over rounds, to the hand-written step.")
    for one in costs:
        run.metric(f"{one.size} {one.way}", one.ratio, one.error, "times the hand-written step")
    ours = next(c for c in costs if c.size == "784-256-16" and c.way == "fit")
    run.claim("784-256-16: a step of fit / a step by hand", ours.ratio, TARGET, error=ours.error,
              relation="at most", source="this project's target")  # fmt: skip


def rows_of(features: int, seed: int) -> Tensor:
    """Black and white rows; what they show does not matter here."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(BATCH * EPOCH, features, generator=generator) < 0.3).float()


@contextmanager
def ways(
    widths: tuple[int, int, int], x: Tensor, seed: int
) -> Iterator[tuple[dict[str, Callable[[], Any]], float]]:
    """The steps to be timed, and how far the recorded loss is from plain Pyro's."""
    module = Story(*widths)
    structure, observations = inspect_rows(Call.bind(module), as_observations({"x": x}))
    target = Target(structure, observations)
    rows = Rows(structure, observations, target.plan, BATCH)
    with restarted(target, rows, Request(Guide, steps=10_000), seed) as one:
        batches, stepper = rows.epochs(), one.stepper
        if stepper is None:
            raise RuntimeError("the story has no parameters")
        found = {"by hand": by_hand(widths, x), "fit": lambda: stepper.take(next(batches)),
                 "Pyro's SVI": by_pyro(widths, x)}  # fmt: skip
        for _ in range(WARM):
            for step in found.values():
                step()
        yield found, agreement(stepper.traced, rows.take(torch.arange(BATCH)))


def agreement(traced: Any, batch: Any) -> float:
    """Relative difference between the recorded loss and plain Pyro's, at the same noise."""
    losses = []
    for by in (traced.plain, traced):
        torch.manual_seed(1)
        found = by(batch, None)
        if found is None:
            raise RuntimeError(f"the step could not be recorded: {traced.refused}")
        losses.append(float(found[0]))
    return abs(losses[1] - losses[0]) / abs(losses[0])


def by_hand(widths: tuple[int, int, int], x: Tensor) -> Callable[[], None]:
    """The same model, loss and optimizer in plain torch."""
    module = Story(*widths)
    encoder, decoder = Guide(module).encoder, module.decoder
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)

    def step() -> None:
        with torch._C.DisableTorchFunction():  # the room that fit runs in listens to every call
            batch = x[torch.randint(len(x), (BATCH,))]
            mean, log_stddev = encoder(batch).chunk(2, -1)
            stddev = log_stddev.exp()
            logits = decoder(mean + stddev * torch.randn_like(stddev))
            loss = binary_cross_entropy_with_logits(logits, batch, reduction="sum")
            loss = loss + (0.5 * (stddev.square() + mean.square()) - log_stddev - 0.5).sum()
            adam.zero_grad()
            (EPOCH * loss).backward()
            adam.step()

    return step


def by_pyro(widths: tuple[int, int, int], x: Tensor) -> Callable[[], None]:
    """Pyro's SVI on its defaults: parameters by name in its store, one optimizer for each."""
    module = Story(*widths)
    beside = Guide(module)

    def model(batch: Tensor) -> None:
        pyro.condition(module, data={"x": batch})(BATCH)

    adam = PyroOptim(torch.optim.Adam, {"lr": 1e-3})
    svi = SVI(model, lambda batch: beside(BATCH, {"x": batch}), adam, Trace_ELBO())

    def step() -> None:
        with torch._C.DisableTorchFunction(), pyro.settings.context(module_local_params=False):
            svi.step(x[torch.randint(len(x), (BATCH,))])

    return step


def measure(size: str, steppers: Mapping[str, Callable[[], Any]], rounds: int, steps: int) -> list[Cost]:
    """Time the ways in turn, round after round."""
    times: dict[str, list[float]] = {way: [] for way in steppers}
    for _ in range(rounds):
        for way, step in steppers.items():
            began = process_time()
            for _ in range(steps):
                step()
            times[way].append(1e3 * (process_time() - began) / steps)
    base = times["by hand"]
    return [Cost(size, way, t, [a / b for a, b in zip(t, base, strict=True)]) for way, t in times.items()]


def row(cost: Cost) -> dict[str, Any]:
    """One row of the table."""
    return {"network": cost.size, "step": cost.way, "CPU ms": round(median(cost.milliseconds), 2),
            "ratio": round(cost.ratio, 3), "its error": round(cost.error, 3)}  # fmt: skip


def picture(costs: list[Cost]) -> Any:
    """Times of each way, one panel per size."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SIZES), figsize=(9, 3.6), layout="constrained")
    for axis, size in zip(axes, SIZES, strict=True):
        for place, one in enumerate(c for c in costs if c.size == size):
            colour = COLOURS[one.way]
            box = axis.boxplot(
                [one.milliseconds], positions=[place], widths=0.6, patch_artist=True, whis=(5, 95),
                showfliers=False, medianprops={"color": "black"},
            )  # fmt: skip
            box["boxes"][0].set(facecolor=colour, alpha=0.7)
            label = f"{one.ratio:.2f}"
            axis.annotate(
                label, (place, max(one.milliseconds)), (0, 4), textcoords="offset points", ha="center"
            )
        axis.set_xticks(range(len(COLOURS)), list(COLOURS))
        axis.set_ylim(0, 1.2 * max(max(c.milliseconds) for c in costs if c.size == size))
        axis.set(title=f"{size}, batch {BATCH} (ratio above)", ylabel="CPU time of a step (ms)")
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
