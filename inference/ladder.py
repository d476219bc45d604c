"""The ladder: all restarts of a fit climb together, and weights decide whether to stop, climb on or refuse.

Start, full-rank Gaussian, one component for every further mode, importance weights. Where these do not pass:
many short Hamiltonian chains, in the space that the Gaussian whitens, or where they do not get along there,
that a flow does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from inference.checks.adaptive_proposal import mixture_around
from inference.checks.even_places import misplaced
from inference.checks.holes import holes_beside
from inference.checks.importance import EASY, POOL, Replicate, nowhere, weigh
from inference.checks.modes import MANY, missed_mass, mixed, sought, uncovered_masses
from inference.checks.psis import resample
from inference.checks.stein import departures_from
from inference.checks.tail_mass import short_tails
from inference.checks.tails import uncarried
from inference.density.log_density import LogDensity
from inference.density.prior_starts import many_prior_starts, prior_starts
from inference.density.problems import Replicates, draws_of
from inference.guides import flow, flow_training, full_rank, mean_field, rungs
from inference.guides.blend import Blend
from inference.guides.flow import Flow
from inference.guides.gaussian import Gaussian
from inference.guides.lbfgs import Climb
from inference.guides.mixture import Mixture
from inference.guides.starts import FROM_PRIOR, climbs
from inference.guides.survey import FEW, SEVERAL, Survey
from inference.hmc.short_chains import Polished, polish
from inference.runtime.progress import Report

_PER_UNKNOWN = 10  # draws that a covariance needs, for each unknown
_DENSE = 300  # unknowns up to which a dense covariance is fitted unasked; a step takes their number cubed
_CHAINS = 64  # of each restart
_OVERLAP = 256  # draws that tell how far the components of a mixture overlap
_BUDGET = 6000  # batched gradients that the chains may take
_SHORT = 4500  # the same before a flow is tried
_TOTAL = 2**27  # elements per gradient of all chains that are worth it
_PLACES = 1024  # all over the prior, that are looked at
_CLOSER = 16  # times as many are looked at once more where there are several modes
_PEAKS = 128  # of them, that are climbed from at most


_FLOW_KHAT = 0.6  # at which a flow has been trained enough
_FLOW = 50  # unknowns up to which a flow is trained before chains are run
_FLOW_COST = 2**24  # elements per gradient of all its draws that are worth it


@dataclass(frozen=True)
class Climbed:
    """What the ladder has found so far.

    Attributes:
        replicates: each restart's draws and what its weights say.
        proposal: what was weighed, of all restarts.
        guides: each restart's guide.
        rung: the name of their family.
        converged: by restart, whether its loop ended by itself.
        reasons: against the draws, beside their weights and the chains'.
        polished: what the chains say, where they made the draws.
        missed: share of the mass in modes that some restart does not cover.
        notes: that do not bear on trust: how modes were sought, tails that chains hardly enter.
    """

    replicates: list[Replicate]
    proposal: Any
    guides: list[Any]
    rung: str
    converged: list[bool]
    reasons: tuple[str, ...] = ()
    polished: Polished | None = None
    missed: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether weights, or chains, certify the draws."""
        if self.polished is not None:
            return self.polished.converged
        return not self.reasons and all(r.certified for r in self.replicates)

    @property
    def best(self) -> int:
        """The restart with the best ELBO."""
        elbos = [r.elbo for r in self.replicates]
        return elbos.index(max(elbos))


@dataclass(frozen=True)
class Climber:
    """One density, all restarts, and what they draw with.

    Args:
        density: the target.
        own: one generator for each restart.
        shared: for what the restarts share.
        draws: equally weighted, of each restart.
        steps: cap on the steps of each loop.
        report: called with (rung, step, elbo).
    """

    density: LogDensity
    own: list[torch.Generator]
    shared: torch.Generator
    draws: int
    steps: int | None
    report: Report

    @property
    def problems(self) -> Replicates:
        """The restarts as problems."""
        return Replicates(self.density, len(self.own))

    def climb(self, guide: str) -> Climbed:
        """Fit all restarts: up to the named rung, or with "auto" until weights or chains pass."""
        rung, problems = named(guide, self.density), self.problems
        starts, strides, survey = searched(problems, self.shared)
        ends = climbs(problems, self.own, prior=starts, strides=strides, rescue=self._rescue)
        fitted = rung.fit(problems, ends, self.own, self.report, self.steps)
        mixture = Mixture.single(fitted.guide, fitted.exact)
        if rung is full_rank and guide != full_rank.NAME:  # by its name it is one Gaussian, as its name says
            mixture = mixed(problems, fitted, ends, self.own, self.report, replicates=True)
        guides = [mixture.component(p) for p in range(problems.count)]
        found = self._weighed(
            mixture,
            guides,
            mixture_elbos(fitted.elbo, mixture),
            rung.NAME,
            fitted.converged,
            adaptive=guide == "auto" and rung is full_rank,
        )
        if guide == flow.NAME:
            found = self._flow(fitted.guide, found.proposal, stop=True)
        elif guide == "auto" and not found.passed:
            found = self._further(found, fitted.guide)
        found = self._challenged(found, ends)
        if found.passed and self.density.size <= FEW:
            missed = max(found.missed, self._uncovered(found, survey, mixture.most))
            found = replace(found, missed=missed, reasons=(*found.reasons, *self._misplaced(found, survey)))
        return replace(found, notes=(*sought(mixture.most, survey, found.missed), *found.notes))

    def _rescue(self, restart: int) -> Tensor | None:
        """Many draws from the prior, for a restart that has no start."""
        return many_prior_starts(self.density, self.own[restart])

    def _further(self, found: Climbed, gaussians: Gaussian) -> Climbed:
        """Chains where weights do not pass; a flow where chains do not, and chains in its space."""
        if nowhere(found.replicates):
            return found
        flowing = self._may_flow()
        moved = self._polished(found, gaussians, _SHORT if flowing else _BUDGET)
        if moved.passed or not flowing:
            return moved
        flowed = self._flow(gaussians, found.proposal, stop=False)
        return flowed if flowed.passed else self._polished(flowed, gaussians, _BUDGET)

    def _weighed(
        self, proposal: Any, guides: list[Any], elbo: Tensor, name: str, converged: Tensor, *, adaptive: bool
    ) -> Climbed:
        """Weigh a guide's draws; weights that pass make up for a loop that did not end by itself."""
        problems, traced = self.problems, self.density.traced
        least = POOL if traced else POOL // 4
        weighed = weigh(
            problems, proposal, elbo, self.draws, self.own, least, easy=EASY if adaptive and traced else None
        )
        ended = [c or r.certified for c, r in zip(converged.tolist(), weighed.replicates, strict=True)]
        thin = tuple(uncarried(self.density, weighed.replicates))
        return Climbed(weighed.replicates, weighed.proposal, guides, name, ended, thin)

    def _may_flow(self) -> bool:
        cost = self.problems.cost * len(self.own) * flow_training.FLOW_DRAWS
        return self.density.size <= _FLOW and cost <= _FLOW_COST

    def _flow(self, guides: Gaussian, mixture: Mixture, *, stop: bool) -> Climbed:
        """Train flows in the spaces that the Gaussians whiten, until weights of their draws pass."""
        problems = self.problems

        def certify(flows: Flow) -> list[bool]:
            rows = torch.zeros(problems.count)
            pools = weigh(problems, Blend(flows.with_tails(), mixture), rows, 100, self.own).replicates
            return [r.certified and r.khat < _FLOW_KHAT for r in pools]

        trained = flow_training.train_flow(
            problems.value_and_grad, guides, self.own, self.report, self.steps, None if stop else certify
        )
        flows = [trained.guide[p] for p in range(problems.count)]
        wide = Blend(trained.guide.with_tails(), mixture)
        return self._weighed(wide, flows, trained.elbo, flow.NAME, trained.converged, adaptive=False)

    def _polished(self, found: Climbed, gaussians: Gaussian, budget: int) -> Climbed:
        """Run many short chains from each restart's draws, in the space that the best guide whitens."""
        problems, density = self.problems, self.density
        if problems.cost * problems.count * _CHAINS > _TOTAL:
            return found
        guide = found.guides[found.best]
        guide = guide if isinstance(guide, Flow) else gaussians[found.best]
        begin = torch.stack([_starts(r, g) for r, g in zip(found.replicates, self.own, strict=True)])
        value, slope = density.value_and_grad(begin.flatten(0, 1))
        there = (torch.isfinite(value) & torch.isfinite(slope).all(-1)).unflatten(0, begin.shape[:2])
        if not bool(there.any(1).all()):  # some restart has nowhere to begin
            return found
        start = torch.stack([guide.standardized(z) for z in begin])
        polished = polish(
            guide.pulled_back(density.value_and_grad), start, self.draws, self.shared, self.report, budget
        )
        z = guide.scaled(polished.draws.flatten(0, 1)).reshape(polished.draws.shape)
        replicates = [
            replace(
                r,
                z=own,
                log_p=density.log_prob(own),
                log_q=guide.log_prob(own),
                resampled=False,
                heavy=None,
            )
            for r, own in zip(found.replicates, z, strict=True)
        ]
        # From here on it is the chains' draws that may lack a mode, whatever the guide before them reached.
        certain = z.shape[1] >= _PER_UNKNOWN * density.size
        narrower = found.proposal if isinstance(guide, Flow) else Mixture.single(gaussians)
        proposal = mixture_around(z, self.own) if certain else narrower
        return replace(found, replicates=replicates, proposal=proposal, reasons=(), polished=polished)

    def _challenged(self, found: Climbed, ends: Climb) -> Climbed:
        """Look once more at draws that passed: for modes they miss, and at the density's gradient there."""
        drawn, log_p = (torch.stack([getattr(r, name) for r in found.replicates]) for name in ("z", "log_p"))
        holes = holes_beside(self.density, self.density.holes, drawn.flatten(0, 1), log_p.flatten())
        found = replace(found, reasons=(*found.reasons, *holes))
        if not found.passed:
            return found
        reasons = (*found.reasons, *departures_from(self.density, drawn))
        notes = found.notes
        if found.polished is not None:
            notes = (*notes, *short_tails(self.density, drawn, self.shared))
        missed = 0.0
        if self.density.size <= full_rank.LARGEST:
            # Each restart's most probable draw; never the mean, which of several modes is in none.
            centres = torch.stack([r.z[r.log_p.argmax()][None] for r in found.replicates])
            if isinstance(found.proposal, Mixture) and found.polished is None:
                centres = torch.cat([centres, found.proposal.parts.loc], 1)
            missed = missed_mass(
                self.problems, found.proposal, centres, _log_evidence(found), ends, self.shared
            )
        return replace(found, reasons=reasons, missed=missed, notes=notes)

    def _uncovered(self, found: Climbed, survey: Survey, modes: int) -> float:
        """The share of the mass that fresh places find uncovered: many of them where modes are many."""
        count = len(survey.points) * (_CLOSER if modes >= MANY else 1)
        places = survey.even(count, seed=1)
        log_p, evidence = self.density.log_prob(places)[None], torch.tensor([_log_evidence(found)])
        return float(uncovered_masses(log_p, found.proposal, evidence, places, survey.log_volume).max())

    def _misplaced(self, found: Climbed, survey: Survey) -> list[str]:
        """Reasons against chains that keep wrong shares of mass on the sides of a dip, by fresh places."""
        if found.polished is None:
            return []
        places = survey.even(len(survey.points) * _CLOSER, seed=2)
        z = torch.cat([r.z for r in found.replicates])
        return misplaced(self.density, z, places, self.density.log_prob(places))


def searched(problems: Replicates, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None, Survey]:
    """Where to climb from, beside places near 0: starts, the strides of peaks among them, and the survey."""
    drawn = _from_prior(problems, generator)
    survey = _surveyed(problems.density, drawn)
    return *_starts_of(problems.density, drawn, survey, problems.count), survey


def _surveyed(density: LogDensity, drawn: Tensor | None) -> Survey:
    """Places all over the prior: many in few unknowns, none beyond some.

    Args:
        density: the target.
        drawn: (restarts, draws, size) from the prior, where it is proper.
    """
    count = _PLACES if density.size <= FEW else _PLACES // 4 if density.size <= SEVERAL else 0
    count = count if density.traced else count // 16
    return Survey.of(None if drawn is None else drawn.flatten(0, 1), density.size, count, seed=0)


def _starts_of(
    density: LogDensity, drawn: Tensor | None, survey: Survey, restarts: int
) -> tuple[Tensor | None, Tensor | None]:
    """Draws from the prior and the survey's peaks, dealt out (restarts, starts, size); strides of peaks."""
    if not len(survey.points):
        return drawn, None
    most = _PEAKS if density.size <= FEW else _PEAKS // 8
    peaks = survey.peaks(Replicates(density, 1), most)
    found = peaks.points.shape[1]
    hand = torch.arange(-(-found // restarts) * restarts).clamp(max=found - 1).reshape(-1, restarts).mT
    dealt, strides = peaks.points[0, hand], peaks.strides[0, hand]
    return dealt if drawn is None else torch.cat([drawn, dealt], 1), strides


def _from_prior(problems: Replicates, generator: torch.Generator) -> Tensor | None:
    """Starts from the prior (restarts, starts, size), where it is proper; missing elements start at 0."""
    each = draws_of(problems, FROM_PRIOR, 0)
    seed = int(torch.randint(2**31, (), generator=generator))
    points = prior_starts(problems.density, each * problems.count, seed) if each else None
    return None if points is None else points.nan_to_num(0.0).reshape(problems.count, each, -1)


def _log_evidence(found: Climbed) -> float:
    """Log evidence as far as it is known, in nats.

    After chains it is half way between the ELBO, logZ - KL(guide || posterior), and the median of
    log p - log q over their draws, which is as much above it; the mean would follow a few draws in a mode
    that the guide does not know.
    """
    if found.polished is None:
        return sum(r.log_evidence for r in found.replicates) / len(found.replicates)
    above = float(torch.stack([r.log_p - r.log_q for r in found.replicates]).median())
    return (above + max(r.elbo for r in found.replicates)) / 2


def _starts(replicate: Replicate, generator: torch.Generator) -> Tensor:
    """Where a restart's chains begin: draws picked by their weights, which keep out of far tails."""
    if replicate.heavy is None:
        return replicate.z[torch.arange(_CHAINS) % len(replicate.z)]
    z, log_weights = replicate.heavy
    return z[resample(log_weights, _CHAINS, generator)]


def mixture_elbos(elbo: Tensor, mixture: Mixture) -> Tensor:
    """Of mixtures of Gaussians (problems,) in nats, weighted as their own ELBOs weigh them.

    Far apart, each has its share: log-sum-exp. As far as they overlap, they give the same mass twice; that is
    taken off: the mean of log q(z) - log w_k q_k(z) over draws z of every component k.

    Args:
        elbo: (problems,) of the first components.
        mixture: whose log weights are the components' ELBOs, normalized.
    """
    apart = elbo - mixture.log_weight[:, 0]
    components = mixture.log_weight.shape[1]
    if components == 1:
        return apart
    gaussians = replace(mixture, tails=torch.zeros_like(mixture.tails))
    weight = mixture.log_weight.exp()
    noise = torch.Generator().manual_seed(0)
    e = torch.randn(_OVERLAP, mixture.size, generator=noise, dtype=torch.float64)
    for k in range(components):
        own = mixture.parts[:, k]
        z = own.scaled(e.expand(mixture.count, -1, -1))
        twice = gaussians.log_prob(z) - own.log_prob(z) - mixture.log_weight[:, k, None]
        apart = apart - torch.where(weight[:, k] > 0, weight[:, k] * twice.mean(1), 0.0)
    return apart


def named(guide: str, density: LogDensity) -> ModuleType:
    """The rung to fit.

    Raises:
        ValueError: for a name that is none, or a dense covariance of too many unknowns.
    """
    if guide == "auto":
        return full_rank if density.size <= _DENSE else mean_field
    if guide == flow.NAME:
        return named(full_rank.NAME, density)
    known = rungs()
    if guide not in known:
        raise ValueError(f"guide: expected 'auto' or one of {', '.join(sorted(known))}, got {guide!r}.")
    if guide != mean_field.NAME and density.size > full_rank.LARGEST:
        raise ValueError(
            f"guide: {guide!r} holds a dense covariance of {density.size} unknowns, expected at most "
            f"{full_rank.LARGEST}. Use guide='mean_field'."
        )
    return known[guide]
