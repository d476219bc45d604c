"""Modes: those that a restart's own climbs found are mixed, those that no restart covers are counted.

Importance weights cannot see what no draw has reached: with half of the mass in a mode ten standard
deviations away, k-hat of the other half is excellent. So every end of every climb is compared with the
fitted guides. An end that its own restart's guide does not cover becomes a component of that restart's
mixture; after the fit, the mass around ends that no guide covers is estimated by importance sampling from
a Student t around them, counting only points that are not covered.
"""

from __future__ import annotations

import math
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
from inference.runtime.progress import Report

COVERED = math.log(100.0)  # a point is covered if the guide gives it a hundredth of its density
MISSED = 0.01  # share of the posterior's mass in a missed mode that is not tolerated
_NEGLIGIBLE = math.log(1e-4)  # share of the mass below which a mode is not worth a component
_MOST = 8  # components of one restart's mixture
_ROUNDS = 16  # ends that one restart looks at: some are copies of modes that it has, seen from farther away
_COPY = 0.05  # relative distance of ends that are taken for the same
_ON_THE_WAY = 16  # points between two places
_DIP = 1.0  # nats below both ends that make two modes of them
_SAME = 1.0  # nats of symmetrized KL below which two fits are of one mode
_DRAWS = 512
_CANDIDATES = 8  # ends looked at closely, after the fit


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
    climbed = _shared(climbed) if replicates else climbed
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
        open_ends[which] &= ~_copies(climbed.points[which], end)
        apart = _barrier(problems, end, value, mixture.of(which), which)
        which, pick = which[apart], pick[apart]
        if not len(which):
            continue
        local = laplace(problems, climbed.points[which, pick], which)
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
    return Mixture.single(fitted.guide, fitted.exact) if mixture.log_weight.shape[1] == 1 else mixture


def _shared(climbed: Climb) -> Climb:
    """All problems' ends, for each of them."""
    count = len(climbed.values)
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
    """Estimate the largest share of posterior mass in one mode that some restart's guide does not cover.

    Each restart is judged by itself: what one has found the draws of another may lack.

    Args:
        problems: the restarts of one fit.
        guides: of all restarts.
        centres: (restarts, places, size) where they sit: an end from which the density does not dip on the
            way to one of a restart's own is of the same mode.
        log_evidence: as the restarts estimated it, in nats.
        climbed: the ends of climbs.
        generator: of the draws.

    Returns:
        Between 0 and 1, relative to the mass found and missed together.
    """
    ends, values = climbed.points.flatten(0, 1), climbed.values.flatten()
    uncovered = torch.isfinite(values) & (_each(guides, ends) < values - log_evidence - COVERED)
    largest, first = -math.inf, torch.zeros(1, dtype=torch.long)
    for restart, open_ends in enumerate(uncovered):
        index = open_ends.nonzero().squeeze(-1)
        if len(index):
            apart = _barrier(problems, ends[index], values[index], _places(centres[restart]), 0 * index)
            open_ends[index] = apart
        for _ in range(_CANDIDATES):
            if not bool(open_ends.any()):
                break
            pick = int(torch.where(open_ends, values, -torch.inf).argmax())
            open_ends[pick] = False
            local = laplace(problems, ends[None, pick], first)
            around = Mixture.single(local)
            z = around.sample(_DRAWS, [generator])
            log_p = problems.log_prob(z, first)[0]
            low = _each(guides, z[0])[restart] < log_p - log_evidence - COVERED
            missed = torch.isfinite(log_p) & low
            if bool(missed.any()):
                log_w = (log_p - around.log_prob(z)[0])[missed]
                largest = max(largest, float(log_w.logsumexp(0)) - math.log(_DRAWS))
            near = local.standardized(ends[None])[0].square().sum(-1) < 2 * local.size + 10
            open_ends &= ~near
    share = math.exp(min(largest - log_evidence, 700.0))
    return share / (1 + share)


def _places(centres: Tensor) -> Mixture:
    """Unit Gaussians at (places, size), for the barrier test."""
    unit = torch.ones(1, *centres.shape, dtype=torch.float64)
    return Mixture.of_parts(Gaussian(centres[None], unit), torch.zeros(1, len(centres), dtype=torch.float64))


def _each(guides: Any, z: Tensor) -> Tensor:
    """The restarts' own log densities (restarts, draws) at (draws, size)."""
    density: Tensor = guides.log_prob(z.expand(guides.count, *z.shape))
    return density
