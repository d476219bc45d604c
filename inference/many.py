"""Fit one story to many data sets of one shape at once: what calibration and simulation studies need.

The data sets' densities are one batched function, so that all of them take a natural-gradient step with one
call. Each data set has one restart, its own starts and its own importance weights, and its own certificate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference import options
from inference.certificate import Certificate, verdict
from inference.fitted import Fit
from inference.guides import full_rank
from inference.guides.gaussian import Gaussian
from inference.guides.start import climbs
from inference.isolation import one_thread
from inference.ladder import mixture_elbos
from inference.modes import mixed
from inference.posterior import Posterior
from inference.progress import Progress
from inference.stacked import Stacked, stack
from inference.stein import departures
from inference.tails import carried
from inference.weighing import POOL, Replicate, weigh

_BATCH = 128  # data sets that are moved together
_STARTS = 2  # of each: there are many data sets to try others in
_EASY = 0.5  # k-hat up to which proposals are left as they are: the weights' variance is finite
_CHECKED = 250  # draws of each that Stein's identity is asked about
_THIN = 0.7  # Pareto shape of weight x square from which too few draws carry a spread


@dataclass(frozen=True)
class Posteriors:
    """One posterior per data set, in the order of the data sets; ``len``, indexing and iteration work.

    Attributes:
        draws: site -> (data sets, draws, *site shape), deterministic sites too.
        log_p: (data sets, draws) log joint density of draw and data in unconstrained space, in nats.
        certificates: one for each data set. There is one restart, so that nothing is compared between
            restarts: trusted means that weights, their tails and Stein's identity pass.
        seconds: wall-clock time of all.
    """

    draws: Mapping[str, Tensor]
    log_p: Tensor
    certificates: tuple[Certificate, ...]
    seconds: float
    _stacked: Stacked
    _guides: Sequence[Any]
    _log_q: Tensor

    @property
    def trusted(self) -> Tensor:
        """(data sets,) whether each is to be believed."""
        return torch.tensor([c.trusted for c in self.certificates])

    def __len__(self) -> int:
        return len(self.certificates)

    def __getitem__(self, index: int) -> Posterior:
        """The posterior of one data set, with one restart."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"data set: expected an index below {len(self)}, got {index}.")
        index %= len(self)
        density = self._stacked.density(index)
        values = {name: value[index, None] for name, value in self.draws.items()}
        stats = {"lp": self.log_p[index, None], "log_q": self._log_q[index, None]}
        fit = Fit.of_density(density, values, stats)
        return Posterior(fit, self.certificates[index], self._guides[index], [])

    def __iter__(self) -> Iterator[Posterior]:
        return (self[i] for i in range(len(self)))


def fit_many(
    story: Callable[..., Any],
    data: Sequence[Mapping[str, Any]],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    each: Sequence[tuple[Any, ...]] | None = None,
    draws: int = 1000,
    seed: int = 0,
    progress: bool | None = None,
) -> Posteriors:
    """Fit a story to many data sets of one shape, batched.

    Args:
        story, args, kwargs: as in :func:`inference.fit`, for all data sets.
        data: one mapping (site name -> array) per data set.
        each: the arguments of each data set in place of ``args``, where they differ (covariates).
        draws: equally weighted posterior draws of each data set.
        seed: the same seed gives the same draws on the same machine.
        progress: show a bar; by default on a terminal only.

    Returns:
        :class:`Posteriors`. Data sets whose weights do not pass are marked in their certificates; fit those
        by themselves with :func:`inference.fit`, which climbs further.

    Raises:
        ValueError: naming the data set and the site, what was expected and what came; for a story that
            cannot be traced, or with more unknowns than a dense covariance holds.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> sets = [{"x": torch.tensor([3.0, 5.0, 4.0, 8.0]) + shift} for shift in range(3)]
        >>> posteriors = fit_many(story, sets, draws=200)
        >>> posteriors.draws["mu"].shape, posteriors.trusted.tolist()
        (torch.Size([3, 200]), [True, True, True])
    """
    began = time.perf_counter()
    options.check_counts(draws=draws)
    if not len(data):
        raise ValueError("data: expected at least one data set, got none.")
    stacked = stack(story, data, args, kwargs, each=each)
    if not 0 < stacked.size <= full_rank.LARGEST:
        raise ValueError(
            f"story: expected between 1 and {full_rank.LARGEST} continuous unknowns, got {stacked.size}. Fit "
            f"the data sets one by one with inference.fit."
        )
    generators = [torch.Generator().manual_seed(_mix(seed, p)) for p in range(stacked.count)]
    parts = []
    with one_thread(), Progress(stacked.count, progress, "data set") as bar:
        for start in range(0, stacked.count, _BATCH):
            part = Part(stacked, torch.arange(start, min(start + _BATCH, stacked.count)))
            parts.append(_fitted(part, generators[start : start + _BATCH], draws, bar))
    replicates: list[Replicate] = [r for part in parts for r in part[0]]
    guides: list[Any] = [g for part in parts for g in part[1]]
    converged: list[bool] = [c for part in parts for c in part[2]]
    departed: list[list[str]] = [d for part in parts for d in part[3]]
    values = stacked.constrain(torch.stack([r.z for r in replicates]))
    seconds = time.perf_counter() - began
    certificates = [
        _certificate(r, c, d, stacked, seconds / stacked.count)
        for r, c, d in zip(replicates, converged, departed, strict=True)
    ]
    return Posteriors(
        values, torch.stack([r.log_p for r in replicates]), tuple(certificates), seconds, stacked, guides,
        torch.stack([r.log_q for r in replicates]),
    )  # fmt: skip


class Part:
    """Some data sets of many, as problems of their own.

    Args:
        stacked: all of them.
        rows: indices of those meant.
    """

    def __init__(self, stacked: Stacked, rows: Tensor) -> None:
        self.stacked, self.rows = stacked, rows
        self.count, self.size, self.cost = len(rows), stacked.size, stacked.cost

    @property
    def gradient_calls(self) -> int:
        """Batched gradients taken so far."""
        return self.stacked.gradient_calls

    def _rows(self, which: Tensor | None) -> Tensor:
        return self.rows if which is None else self.rows[which]

    def log_prob(self, z: Tensor, which: Tensor | None = None) -> Tensor:
        """(problems, draws, size) -> (problems, draws), in nats."""
        return self.stacked.log_prob(z, self._rows(which))

    def value_and_grad(self, z: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, with gradients (problems, draws, size)."""
        return self.stacked.value_and_grad(z, self._rows(which))


_Columns = tuple[list[Replicate], list[Any], list[bool], list[list[str]]]


def _fitted(part: Part, generators: list[torch.Generator], draws: int, bar: Progress) -> _Columns:
    """Replicates, guides, convergence and departures of some data sets."""
    ends = climbs(part, generators, _STARTS)
    found = full_rank.fit(part, ends, generators, bar.step)
    mixture = mixed(part, found, ends, generators, bar.step, replicates=False)
    guides: list[Gaussian | Any] = [mixture.component(p) for p in range(part.count)]
    weighed = weigh(
        part, mixture, mixture_elbos(found.elbo, mixture), draws, generators, POOL // 2, easy=_EASY
    )
    some = torch.stack([r.z[:_CHECKED] for r in weighed.replicates])
    _, grad = part.value_and_grad(some)
    departed = [departures(z, g) for z, g in zip(some, grad, strict=True)]
    for _ in range(part.count):
        bar.restart_done()
    return weighed.replicates, guides, found.converged.tolist(), departed


def _certificate(
    replicate: Replicate, converged: bool, departed: list[str], stacked: Stacked, seconds: float
) -> Certificate:
    """One data set's verdict; that nothing was compared between restarts is a note here."""
    thin = []
    if replicate.heavy is not None and replicate.certified:
        z, log_weights = replicate.heavy
        shape = carried({"z": z}, log_weights)["z"]
        if shape >= _THIN:
            thin = [f"Too few weighted draws carry the spread of an unknown (Pareto shape {shape:.2f})."]
    certificate = verdict(
        [replicate],
        rung=full_rank.NAME,
        converged=[converged or replicate.certified],
        gradient_calls=stacked.gradient_calls,
        seconds=seconds,
        flaws=[stacked.flaw] if stacked.flaw else [],
        notes=[f"{stacked.note}; plain Pyro was used, draw by draw."] if stacked.note else [],
        reasons=[*departed, *thin],
        compared=False,
    )
    alone = "One restart: nothing was compared between restarts."
    return replace(certificate, notes=(*certificate.notes, alone))


def _mix(seed: int, index: int) -> int:
    """A seed for one data set, far from those of neighbouring seeds (a 64-bit multiplicative hash)."""
    return ((seed * 1_000_003 + index + 1) * 0x9E3779B97F4A7C15) % 2**63
