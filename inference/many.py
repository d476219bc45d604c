"""Fit one story to many data sets of one shape at once: what calibration and simulation studies need.

The data sets' densities are one batched function, so that many of them take a natural-gradient step with one
call, and batches of them share the cores. All look at the same places, which are spread over their common
prior; each climbs from its own peaks among them, and has one restart, its own modes, importance weights and
certificate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference.answers.completion import KEPT_NUMBERS, completed, unfinished
from inference.answers.result import Fit
from inference.checks.certificate import Certificate
from inference.checks.holes import holes_beside
from inference.checks.importance import POOL, Replicate, Weighed, weigh
from inference.checks.modes import MANY, missed_masses, mixed, sought, uncovered_masses
from inference.checks.stein import departures_of_each
from inference.checks.tails import MEAN, carried
from inference.checks.verdict import verdict
from inference.density.prior_starts import many_prior_starts, prior_starts
from inference.density.stacked import Stacked, stack
from inference.guides import full_rank
from inference.guides.gaussian import Gaussian
from inference.guides.lbfgs import Climb, climb
from inference.guides.mixture import Mixture
from inference.guides.starts import NoStartError, climbs
from inference.guides.survey import FEW, REACHING, SEVERAL, Survey
from inference.ladder import mixture_elbos
from inference.posterior.posterior import Posterior
from inference.runtime.arguments import check_counts
from inference.runtime.isolation import one_thread
from inference.runtime.progress import Progress
from inference.runtime.workers import mix, run_each, workers

_BATCH = 128  # data sets that are moved together, by one worker
_STARTS = 2  # near 0, of each; the others are peaks of a survey that all share
_PLACES = 512  # of the survey; a quarter beyond three unknowns, fewer beyond ten
_PEAKS = 8  # of each data set, that all are climbed from at once ...
_CLOSER = 8  # times as many are looked at once more where a data set has several modes
_UNTRACED = 32  # places where plain Pyro takes a millisecond for each
_MORE = 128  # ... and in few unknowns afterwards, where there are more of them, so many
_EASY = 0.5  # k-hat up to which proposals are left as they are: the weights' variance is finite
_NAMED = 5  # data sets in a message, at most
_CHECKED = 250  # draws of each that Stein's identity is asked about
_AHEAD = 9 / 8  # pools of that many times twice the draws can mostly be resampled as they are


@dataclass(frozen=True)
class Posteriors:
    """One posterior per data set, in the order of the data sets; ``len``, indexing and iteration work.

    Attributes:
        draws: site -> (data sets, draws, *site shape), deterministic sites too.
        log_p: (data sets, draws) log joint density of draw and data in unconstrained space, in nats.
        certificates: one for each data set. There is one restart, so that nothing is compared between
            restarts: trusted means that weights, their tails and Stein's identity pass, and that no mode was
            found, by climbs from all over the prior, which the draws lack.
        seconds: wall-clock time of all.
    """

    draws: Mapping[str, Tensor]
    log_p: Tensor
    certificates: tuple[Certificate, ...]
    seconds: float
    _stacked: Stacked
    _guides: Sequence[Mixture]  # of each batch
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
        return Posterior(self._known(index), self.certificates[index], self._guide(index), [])

    def _known(self, index: int) -> Fit:
        """What is known of one data set."""
        values = {name: value[index, None] for name, value in self.draws.items()}
        stats = {"lp": self.log_p[index, None], "log_q": self._log_q[index, None]}
        return Fit.of_density(self._stacked.density(index), values, stats)

    def _guide(self, index: int) -> Gaussian | Mixture:
        return self._guides[index // _BATCH].component(index % _BATCH)

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
            cannot be traced, or with more unknowns than a dense covariance holds; where data sets have no
            finite log density at any start.

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
    check_counts(draws=draws)
    if not len(data):
        raise ValueError("data: expected at least one data set, got none.")
    stacked = stack(story, data, args, kwargs, each=each)
    if not 0 < stacked.size <= full_rank.LARGEST:
        raise ValueError(
            f"story: expected between 1 and {full_rank.LARGEST} continuous unknowns, got {stacked.size}. Fit "
            f"the data sets one by one with inference.fit."
        )
    count = workers() if stacked.batched else 1  # plain Pyro holds a lock
    survey = _survey(stacked, seed, several=each is not None)
    parts = [
        DataSets(stacked, rows, [torch.Generator().manual_seed(mix(seed, p)) for p in rows.tolist()])
        for rows in torch.arange(stacked.count).split(_BATCH)
    ]
    fitted = []
    with one_thread(), Progress(stacked.count, progress, "data set") as bar:
        for one in run_each(lambda part: _fitted(part, survey, draws), parts, count):
            fitted.append(one)
            bar.restart_done(len(one.certificates))
        values = stacked.constrain(torch.cat([one.z for one in fitted]))
        posteriors = Posteriors(
            values,
            torch.cat([one.log_p for one in fitted]),
            tuple(certificate for one in fitted for certificate in one.certificates),
            time.perf_counter() - began,
            stacked,
            [one.guides for one in fitted],
            torch.cat([one.log_q for one in fitted]),
        )
        return _completed(posteriors, seed, began)


def _survey(stacked: Stacked, seed: int, *, several: bool) -> Survey:
    """Places all over the prior, for all data sets; where priors differ by arguments, over those of some."""
    size = stacked.size
    count = _PLACES if size <= FEW else _PLACES // 4 if size <= SEVERAL else _PLACES // 16
    count = count if stacked.traced else _UNTRACED
    some = sorted({0, stacked.count // 3, 2 * stacked.count // 3, stacked.count - 1}) if several else [0]
    drawn = [prior_starts(stacked.density(p), REACHING // len(some), mix(seed, p)) for p in some]
    proper = [one.nan_to_num(0.0) for one in drawn if one is not None]
    return Survey.of(torch.cat(proper) if proper else None, size, count, mix(seed, -1))


def _completed(posteriors: Posteriors, seed: int, began: float) -> Posteriors:
    """Draw what the density leaves out, data set by data set."""
    if not unfinished(posteriors._known(0)):
        return posteriors
    count, certificates = len(posteriors), []
    columns: dict[str, list[Tensor]] = {}
    for index, certificate in enumerate(posteriors.certificates):
        known, undrawn = completed(posteriors._known(index), mix(seed, index), KEPT_NUMBERS // count)
        certificates.append(replace(certificate, notes=(*certificate.notes, *undrawn)))
        for name, value in known.values.items():
            columns.setdefault(name, []).append(value[0])
    draws = {name: torch.stack(parts) for name, parts in columns.items() if len(parts) == count}
    seconds = time.perf_counter() - began
    return replace(posteriors, draws=draws, certificates=tuple(certificates), seconds=seconds)


class DataSets:
    """Some data sets of many, as problems of their own.

    Args:
        stacked: all of them.
        rows: indices of those meant.
        generators: one for each.

    Attributes:
        gradient_calls: batched gradients taken so far.
    """

    def __init__(self, stacked: Stacked, rows: Tensor, generators: list[torch.Generator]) -> None:
        self.stacked, self.rows, self.generators = stacked, rows, generators
        self.count, self.size, self.cost = len(rows), stacked.size, stacked.cost
        self.gradient_calls = 0

    def _rows(self, which: Tensor | None) -> Tensor:
        return self.rows if which is None else self.rows[which]

    def log_prob(self, z: Tensor, which: Tensor | None = None) -> Tensor:
        """(problems, draws, size) -> (problems, draws), in nats."""
        return self.stacked.log_prob(z, self._rows(which))

    def value_and_grad(self, z: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, with gradients (problems, draws, size)."""
        self.gradient_calls += 1
        return self.stacked.value_and_grad(z, self._rows(which))

    def of(self, which: Tensor) -> DataSets:
        """Some of them."""
        return DataSets(self.stacked, self.rows[which], [self.generators[p] for p in which.tolist()])

    def rescue(self, problem: int) -> Tensor | None:
        """Many draws from the prior of a data set that has no start."""
        density = self.stacked.density(int(self.rows[problem]))
        return many_prior_starts(density, self.generators[problem])


@dataclass(frozen=True)
class _Fitted:
    """What became of a batch: as in :class:`Posteriors`, with ``z`` (data sets, draws, size)."""

    z: Tensor
    log_p: Tensor
    log_q: Tensor
    guides: Mixture
    certificates: list[Certificate]


def _fitted(part: DataSets, survey: Survey, draws: int) -> _Fitted:
    """Fit, weigh and check one batch of data sets."""
    began, generators = time.perf_counter(), part.generators
    first, ends = _climbed(part, survey)
    found = full_rank.fit(part, first, generators, _quiet)
    mixture = mixed(part, found, ends, generators, _quiet, replicates=False)
    least = max(POOL // 2, math.ceil(_AHEAD * draws) * 2)
    elbo = mixture_elbos(found.elbo, mixture)
    weighed = weigh(part, mixture, elbo, draws, generators, least, easy=_EASY)
    replicates = weighed.replicates
    modes = torch.isfinite(mixture.log_weight).sum(1)
    missed = _missed(part, weighed, mixture.parts.loc, modes, ends, survey)
    z = torch.stack([r.z for r in replicates])
    departed = departures_of_each(z[:, :_CHECKED], part.value_and_grad(z[:, :_CHECKED])[1])
    for row, own, reasons in zip(part.rows.tolist(), replicates, departed, strict=True):
        if part.stacked.holes(row).points:
            reasons += holes_beside(part.stacked.density(row), part.stacked.holes(row), own.z, own.log_p)
    seconds = (time.perf_counter() - began) / part.count
    notes = [sought(k, survey, share) for k, share in zip(modes.tolist(), missed.tolist(), strict=True)]
    certificates = [
        _certificate(*one, part, seconds)
        for one in zip(replicates, found.converged.tolist(), departed, missed.tolist(), notes, strict=True)
    ]
    log_p, log_q = (torch.stack([getattr(r, name) for r in replicates]) for name in ("log_p", "log_q"))
    return _Fitted(z, log_p, log_q, mixture, certificates)


def _missed(
    part: DataSets, weighed: Weighed, centres: Tensor, modes: Tensor, ends: Climb, survey: Survey
) -> Tensor:
    """What each data set's draws lack (data sets,), told by climbs, and by places where modes are many."""
    evidence = torch.tensor([r.log_evidence for r in weighed.replicates], dtype=torch.float64)
    missed = missed_masses(part, weighed.proposal, centres, evidence, ends, part.generators)
    many = (modes >= MANY).nonzero()[:, 0]
    if len(many) and part.size <= FEW:
        places = survey.even(_CLOSER * len(survey.points), seed=1)
        log_p = part.log_prob(places.expand(len(many), *places.shape), many)
        proposal = weighed.proposal.of(many)
        unseen = uncovered_masses(log_p, proposal, evidence[many], places, survey.log_volume)
        missed[many] = torch.maximum(missed[many], unseen)
    return missed


def _climbed(part: DataSets, survey: Survey) -> tuple[Climb, Climb]:
    """Climb from starts of every data set: the first climbs, with their paths, and the ends of all.

    Data sets that have no start are named.
    """
    peaks = survey.peaks(part, _MORE if part.size <= FEW else _PEAKS)
    try:
        starts, strides = peaks.points[:, :_PEAKS], peaks.strides[:, :_PEAKS]
        first = climbs(part, part.generators, _STARTS, starts, strides, part.rescue)
    except NoStartError as error:
        rows = part.rows[error.problems].tolist()
        names = ", ".join(f"data[{row}]" for row in rows[:_NAMED]) + (", ..." if len(rows) > _NAMED else "")
        raise NoStartError(f"{names}: {error} Or leave these data sets out.", rows) from None
    more = (peaks.count > _PEAKS).nonzero()[:, 0]
    if peaks.points.shape[1] <= _PEAKS or not len(more):
        return first, first
    starts, strides = peaks.points[more, _PEAKS:], peaks.strides[more, _PEAKS:]
    farther = climb(part.of(more), starts, strides=strides)
    points, values = (
        first.points[:, :1].repeat(1, farther.points.shape[1], 1),
        farther.values.new_full((part.count, farther.values.shape[1]), -torch.inf),
    )
    points[more], values[more] = farther.points, farther.values
    return first, Climb(torch.cat([first.points, points], 1), torch.cat([first.values, values], 1), [])


def _quiet(rung: str, step: int, elbo: float | None) -> None:
    """Report nothing: the ELBO of one of many data sets says little."""


def _certificate(
    replicate: Replicate,
    converged: bool,
    departed: list[str],
    missed: float,
    notes: list[str],
    part: DataSets,
    seconds: float,
) -> Certificate:
    """One data set's verdict; that nothing was compared between restarts is a note here."""
    thin, stacked = [], part.stacked
    if replicate.heavy is not None and replicate.certified:
        z, log_weights = replicate.heavy
        shape = float(carried({"z": z}, log_weights)["z"].max())
        if shape >= MEAN:
            thin = [f"Too few weighted draws carry the spread of an unknown (Pareto shape {shape:.2f})."]
    plain = [f"{stacked.note}; plain Pyro was used, draw by draw."] if stacked.note else []
    return verdict(
        [replicate],
        rung=full_rank.NAME,
        converged=[converged or replicate.certified],
        gradient_calls=part.gradient_calls,
        seconds=seconds,
        flaws=[stacked.flaw] if stacked.flaw else [],
        notes=[*plain, *notes, "One restart: nothing was compared between restarts."],
        reasons=[*departed, *thin],
        compared=False,
        missed=lambda log_evidence: missed,
    )
