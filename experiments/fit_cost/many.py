"""What many data sets of one story cost at once, beside the same fits one after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, stdev
from time import perf_counter
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from inference import fit, fit_many

ROWS, WEIGHTS, DRAWS, SEED = 50, 9, 1_000, 20_240_506


@dataclass(frozen=True)
class ManyTiming:
    """Seconds for all data sets, one value for each round.

    ``restarts`` -> seconds one after another, in proportion to those of the data sets fitted so.
    """

    sets: int
    together: list[float]
    apart: dict[int, list[float]]
    trusted: float

    def ratio(self, restarts: int) -> tuple[float, float]:
        """Median over the rounds of seconds apart over seconds together, and its standard error."""
        ratios = [a / b for a, b in zip(self.apart[restarts], self.together, strict=True)]
        return median(ratios), math.sqrt(math.pi / 2) * stdev(ratios) / math.sqrt(len(ratios))

    def rows(self) -> list[dict[str, Any]]:
        """As rows of a table."""
        whole = median(self.together)
        first = {"fitted by": "fit_many", "seconds": whole, "times fit_many": 1.0, "standard error": None}
        others = []
        for restarts, seconds in self.apart.items():
            ratio, error = self.ratio(restarts)
            name = f"fit, one after another, restarts={restarts}"
            others.append({
                "fitted by": name, "seconds": median(seconds), "times fit_many": ratio,
                "standard error": error,
            })  # fmt: skip
        return [first, *others]


def line(covariates: Tensor) -> Tensor:
    """A regression with ten unknowns: nine weights and the standard deviation of the noise."""
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand([covariates.shape[1]]).to_event(1))
    noise = pyro.sample("noise", dist.HalfNormal(1.0))
    with pyro.plate("row", len(covariates), dim=-1):
        return pyro.sample("y", dist.Normal(covariates @ weights, noise))


def simulated(sets: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Covariates, and data sets of the story's own parameters, drawn from its prior."""
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = normal(ROWS, WEIGHTS)
    return x, [{"y": x @ normal(WEIGHTS) + normal(1).abs() * normal(ROWS)} for _ in range(sets)]


def timed_many(sets: int, alone: int, rounds: int, draws: int = DRAWS) -> ManyTiming:
    """Fit all data sets at once and a few of them one after another, in turn; the trace is there already.

    Args:
        sets: how many data sets.
        alone: how many of them are also fitted one after another; other ones each round.
        rounds: of both.
        draws: of each restart.
    """
    x, data = simulated(sets)
    fit_many(line, data[:2], args=(x,), draws=draws)
    fit(line, data[0], args=(x,), draws=draws)
    together: list[float] = []
    apart: dict[int, list[float]] = {4: [], 1: []}
    trusted = 0.0
    for turn in range(rounds):

        def whole(seed: int = turn) -> Any:
            return fit_many(line, data, args=(x,), draws=draws, seed=seed)

        seconds, found = clocked(whole)
        together.append(seconds)
        trusted = float(found.trusted.double().mean())
        some = [data[(turn * alone + i) % sets] for i in range(alone)]
        for restarts, times in apart.items():

            def single(restarts: int = restarts, some: list[dict[str, Tensor]] = some) -> None:
                for one in some:
                    fit(line, one, args=(x,), restarts=restarts, draws=draws)

            times.append(clocked(single)[0] * sets / alone)
    return ManyTiming(sets, together, apart, trusted)


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds by the clock on the wall, in which work on several cores counts once."""
    began = perf_counter()
    found = work()
    return perf_counter() - began, found
