"""Modes: those that a restart's own climbs found are mixed, those that no restart covers are counted.

Importance weights cannot see what no draw has reached: with half of the mass in a mode ten standard
deviations away, k-hat of the other half is excellent. So every end of every climb is compared with the
fitted guides. An end that its own restart's guide does not cover becomes a component of that restart's
mixture; after the fit, the mass around all ends that a guide does not cover is estimated by importance
sampling from Student t's around them, counting only points that are not covered.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.density.problems import Problems
from inference.guides import full_rank
from inference.guides.gaussian import Gaussian
from inference.guides.lbfgs import Climb
from inference.guides.mixture import Mixture
from inference.guides.natural_gradient import Fitted
from inference.guides.starts import laplace
from inference.guides.survey import SEVERAL, Survey
from inference.runtime.progress import Report

COVERED = math.log(100.0)  # a point is covered if the guide gives it a hundredth of its density
MANY = 3  # modes from which on there may be any number
MISSED = 0.01  # share of the posterior's mass in a missed mode that is not tolerated
_NEGLIGIBLE = math.log(1e-4)  # share of the mass below which a mode is not worth a component
_MOST = 32  # components of one restart's mixture; what is left out is counted as missed
_ROUNDS = 64  # ends that one restart looks at: some are copies of modes that it has, seen from farther away
_COPY = 0.05  # relative distance of ends that are taken for the same
_ON_THE_WAY = 16  # points between two places
_DIP = 1.0  # nats below both ends that make two modes of them
_SAME = 1.0  # nats of symmetrized KL below which two fits are of one mode
_WORTH_TELLING = 5e-4  # share of the mass in modes left out
_UNSEEN = 3.0  # over the number of places: a share of the prior that holds none of them in one case of 20
_DRAWS = 1024
_CANDIDATES = 64  # ends of one problem that are looked at closely, after the fit ...
_FEWER = 8  # ... beyond some unknowns, where a curvature costs much


def mixed(
    problems: Problems,
    fitted: Fitted,
    climbed: Climb,
    generators: list[torch.Generator],
    report: Report,
    *,
    replicates: bool,
) -> Mixture:
    """Give every restart a component for each mode that the climbs found.

    Args:
        problems: the targets.
        fitted: a Gaussian for each, from its best start.
        climbed: the ends of the climbs.
        generators: of the fixed draws of further fits.
        report: called with (rung, step, elbo).
        replicates: whether the problems are restarts of one fit: each is then told of all climbs' ends, and
            fits and weighs the modes by itself.
    """
    parts = [[fitted.guide[p]] for p in range(problems.count)]
    masses = [[float(e)] for e in fitted.elbo]
    climbed = _shared(climbed, problems.count) if replicates else climbed
    open_ends = torch.isfinite(climbed.values)
    for _ in range(_ROUNDS):
        mixture = _mixture(parts, masses)
        total = torch.tensor([_log_sum(m) for m in masses], dtype=torch.float64)
        density = climbed.values - total[:, None]
        open_ends &= mixture.log_prob(climbed.points) < density - COVERED
        open_ends &= torch.tensor([[len(p) < _MOST] for p in parts])
        which = open_ends.any(1).nonzero().squeeze(-1)
        if not len(which):
            break
        pick = torch.where(open_ends, climbed.values, -torch.inf)[which].argmax(1)
        end, value = climbed.points[which, pick], climbed.values[which, pick]
        local = laplace(problems, end, which)
        copies = _copies(climbed.points[which], end) & _within(local, climbed.points[which])
        open_ends[which] &= ~copies
        open_ends[which, pick] = False
        apart = _barrier(problems, end, value, mixture.of(which), which)
        which, pick, local = which[apart], pick[apart], local[apart]
        if not len(which):
            continue
        mass = climbed.values[which, pick] + local.log_det + 0.5 * local.size * math.log(2 * math.pi)
        worth = mass - total[which] > _NEGLIGIBLE
        if not bool(worth.any()):
            continue
        which, local = which[worth], local[worth]
        subset = [generators[p] for p in which.tolist()]
        found = full_rank.around(problems, local, subset, which, report)
        for i, p in enumerate(which.tolist()):
            new, elbo = found.guide[i], float(found.elbo[i])
            new_mode = all(_divergence(new, old) > _SAME for old in parts[p])
            if new_mode and math.isfinite(elbo) and elbo - _log_sum(masses[p]) > _NEGLIGIBLE:
                parts[p].append(new)
                masses[p].append(elbo)
    mixture = _mixture(parts, masses)
    alone = torch.tensor([len(p) == 1 for p in parts])
    return replace(mixture, tails=torch.where(alone & fitted.exact, 0.0, mixture.tails))


def _shared(climbed: Climb, count: int) -> Climb:
    """The ends of all climbs, for each of so many problems."""
    points, values = climbed.points.flatten(0, 1), climbed.values.flatten()
    return Climb(points.expand(count, *points.shape), values.expand(count, -1), [])


def _copies(points: Tensor, end: Tensor) -> Tensor:
    """Which of (problems, ends, size) are as good as one end (problems, size): climbs that met."""
    return ((points - end[:, None]).abs() <= _COPY * (1 + end[:, None].abs())).all(-1)


def _barrier(problems: Problems, end: Tensor, value: Tensor, mixture: Mixture, which: Tensor) -> Tensor:
    """Whether the density dips on the way from ends (one each) to every component of a mixture.

    Else the end is of the same mode.
    """
    loc = mixture.parts.loc  # (problems, components, size)
    steps = torch.linspace(0, 1, _ON_THE_WAY, dtype=torch.float64)[:, None]
    way = end[:, None, None] + steps * (loc - end[:, None])[:, :, None]
    log_p = problems.log_prob(way.flatten(1, 2), which).reshape(*way.shape[:3])
    lower = torch.minimum(value[:, None], log_p[..., -1])
    dips = log_p.nan_to_num(-torch.inf).amin(-1) < lower - _DIP
    return (dips | ~torch.isfinite(mixture.log_weight)).all(1)


def _mixture(parts: list[list[Gaussian]], masses: list[list[float]]) -> Mixture:
    most = max(len(p) for p in parts)
    padded = [Gaussian.stack(p + [p[0]] * (most - len(p))) for p in parts]
    weights = torch.tensor([m + [-math.inf] * (most - len(m)) for m in masses], dtype=torch.float64)
    if most == 1:
        weights = torch.zeros_like(weights)
    return Mixture.of_parts(Gaussian.stack(padded), weights - weights.logsumexp(1, keepdim=True))


def _log_sum(masses: list[float]) -> float:
    return float(torch.tensor(masses, dtype=torch.float64).logsumexp(0))


def _divergence(a: Gaussian, b: Gaussian) -> float:
    """Symmetrized KL divergence of two dense Gaussians, in nats."""
    forth = torch.linalg.solve_triangular(a.scale, b.scale, upper=False)
    back = torch.linalg.solve_triangular(b.scale, a.scale, upper=False)
    shift = (b.loc - a.loc)[:, None]
    moved = sum(
        float(torch.linalg.solve_triangular(g.scale, shift, upper=False).square().sum()) for g in (a, b)
    )
    return (float(forth.square().sum() + back.square().sum()) - 2 * a.size + moved) / 4


def missed_mass(
    problems: Problems,
    guides: Any,
    centres: Tensor,
    log_evidence: float,
    climbed: Climb,
    generator: torch.Generator,
) -> float:
    """Estimate the share of posterior mass in modes that some restart's guide does not cover.

    Each restart is judged by itself: what one has found the draws of another may lack.

    Args:
        problems: the restarts of one fit; each is told of all climbs' ends.
        guides, centres, climbed: as in :func:`missed_masses`.
        log_evidence: as the restarts estimated it, in nats.
        generator: of the draws.

    Returns:
        That of the restart that lacks most; between 0 and 1.
    """
    count = problems.count
    evidence = torch.full((count,), log_evidence, dtype=torch.float64)
    shares = missed_masses(problems, guides, centres, evidence, _shared(climbed, count), [generator] * count)
    return float(shares.max())


def missed_masses(
    problems: Problems,
    guides: Any,
    centres: Tensor,
    log_evidence: Tensor,
    climbed: Climb,
    generators: list[torch.Generator],
) -> Tensor:
    """Estimate for each problem the share of posterior mass in all modes that its guide does not cover.

    One standard error is taken off: a mass for which a single draw stands is no evidence.

    Args:
        problems: the targets.
        guides: of all problems.
        centres: (problems, places, size) where they sit: an end from which the density does not dip on the
            way to one of them is of the same mode.
        log_evidence: (problems,) as far as it is known, in nats.
        climbed: the ends of each problem's climbs.
        generators: of the draws, one for each problem.

    Returns:
        (problems,) between 0 and 1, relative to the mass found and missed together.
    """
    shares = torch.zeros(problems.count, dtype=torch.float64)
    ends, values = climbed.points, climbed.values
    open_ends = torch.isfinite(values)
    open_ends &= guides.log_prob(ends) < values - log_evidence[:, None] - COVERED
    which, index = open_ends.nonzero(as_tuple=True)
    if len(which):
        centre = _places(centres).of(which)
        open_ends[which, index] = _barrier(problems, ends[which, index], values[which, index], centre, which)
    rows = open_ends.any(1).nonzero()[:, 0]
    if not len(rows):
        return shares
    around = _around(problems, ends, values, open_ends)
    some = [generators[p] for p in rows.tolist()]
    z = around.sample(_DRAWS, some)
    log_p = problems.log_prob(z, rows)
    relative = log_p - log_evidence[rows, None]
    low = torch.isfinite(log_p) & (guides.of(rows).log_prob(z) < relative - COVERED)
    weights = torch.where(low, relative - around.log_prob(z), -torch.inf).clamp(max=700.0).exp()
    missed = (weights.mean(1) - weights.std(1) / math.sqrt(_DRAWS)).clamp(min=0)
    shares[rows] = missed / (1 + missed)
    return shares


def uncovered_masses(
    log_p: Tensor, guides: Any, log_evidence: Tensor, places: Tensor, log_volume: float
) -> Tensor:
    """Estimate the share of posterior mass that each problem's guide does not cover, from even places alone.

    It needs no climb, and so tells of modes too narrow, or too many, for climbs to have found them all. One
    standard error is taken off, as in :func:`missed_masses`.

    Args:
        log_p: log densities at the places (problems, places), in nats; (1, places) for restarts of one fit.
        guides: of all problems.
        log_evidence: (problems,) as far as it is known, in nats.
        places: (places, size), even in a box.
        log_volume: of the box.

    Returns:
        (problems,) between 0 and 1.
    """
    relative = log_p - log_evidence[:, None]
    there = guides.log_prob(places.expand(guides.count, *places.shape))
    low = torch.isfinite(relative) & (there < relative - COVERED)
    weights = torch.where(low, relative + log_volume, -torch.inf).clamp(max=700.0).exp()
    missed = (weights.mean(1) - weights.std(1) / math.sqrt(len(places))).clamp(min=0)
    return missed / (1 + missed)


def sought(modes: int, survey: Survey, missed: float) -> list[str]:
    """Notes on how modes were sought, where that may matter: there are several, or no prior tells how far.

    Args:
        modes: that were found.
        survey: the places that were looked at.
        missed: share of the mass in those left out.
    """
    told = []
    if modes > 1:
        told.append(f"The posterior has several modes: {modes} were found.")
        told += [f"Those left out hold about {missed:.1%} of its mass."] if missed >= _WORTH_TELLING else []
        if len(survey.points) and survey.proper:
            told.append(
                f"{len(survey.points)} places all over the prior were looked at; a mode whose surroundings "
                f"hold less than {_UNSEEN / len(survey.points):.1%} of the prior may be missing."
            )
    if not survey.proper:
        told.append(
            f"No draws from a prior tell how far away modes may lie (it is improper, or a run of the story "
            f"costs much): they were sought within {survey.reach:g} of 0 in unconstrained space."
        )
    return [" ".join(told)] if told else []


def _around(problems: Problems, ends: Tensor, values: Tensor, open_ends: Tensor) -> Mixture:
    """Mixtures of Laplace approximations at the open ends of the problems that have some, the highest first.

    Ends that lie inside of one already there are left out.
    """
    parts: dict[int, list[Gaussian]] = {}
    masses: dict[int, list[float]] = {}
    for _ in range(_CANDIDATES if problems.size <= SEVERAL else _FEWER):
        rows = open_ends.any(1).nonzero()[:, 0]
        if not len(rows):
            break
        pick = torch.where(open_ends, values, -torch.inf)[rows].argmax(1)
        local = laplace(problems, ends[rows, pick], rows)
        open_ends[rows] &= ~_within(local, ends[rows])
        open_ends[rows, pick] = False
        mass = values[rows, pick] + local.log_det
        for i, p in enumerate(rows.tolist()):
            parts.setdefault(p, []).append(local[i])
            masses.setdefault(p, []).append(float(mass[i]))
    return _mixture([parts[p] for p in sorted(parts)], [masses[p] for p in sorted(parts)])


def _within(local: Gaussian, ends: Tensor) -> Tensor:
    """Which ends (problems, ends, size) lie in the bulk of a Gaussian for each problem, or just beyond."""
    return local.standardized(ends).square().sum(-1) < 2 * local.size + 10


def _places(centres: Tensor) -> Mixture:
    """Unit Gaussians at (problems, places, size), for the barrier test."""
    parts = Gaussian(centres, torch.ones_like(centres))
    return Mixture.of_parts(parts, torch.zeros(centres.shape[:2], dtype=torch.float64))
