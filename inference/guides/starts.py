"""Where a fit begins: climbs from overdispersed points, and the best of a few Gaussians along them.

Never the bare mode: in a hierarchical story it is degenerate, and the Gaussian with the best ELBO may be
much wider or narrower than the curvature there says (Zhang, Carpenter, Gelman and Vehtari 2022,
"Pathfinder", JMLR 23, chooses along the whole path for this reason).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inference.compiler.batched_function import undefined
from inference.density.problems import Problems, draws_of
from inference.guides.gaussian import Gaussian, standard_draws
from inference.guides.lbfgs import Climb, climb

_REACH = 2.0  # starts are uniform in (-2, 2), as in Stan
_FARTHER = (1, 1, 4, 2, 8, 4)  # times that: where modes lie about 0, the widest may draw all starts near it
_TRIES = 10
STARTS = 12  # for each restart, beside those from the prior; fewer where a gradient costs much
FROM_PRIOR = 6  # for each restart, where a story can be run forward
_DENSE = 100  # unknowns up to which the curvature is taken by gradient differences
_ELBO_DRAWS = 32
_FLAT = 1e-10  # curvature, relative to the largest, that counts as none


Rescue = Callable[[int], Tensor | None]


class NoStartError(ValueError):
    """No point of finite density was found for some problems.

    Args:
        message: what was tried, and what to try.
        problems: indices of those concerned.
    """

    def __init__(self, message: str, problems: list[int]) -> None:
        super().__init__(message)
        self.problems = problems


def overdispersed(problems: Problems, starts: int, generators: list[torch.Generator]) -> Tensor:
    """Draw starting points with a finite density and gradient, uniform in boxes of several widths.

    Args:
        problems: the targets.
        starts: how many for each.
        generators: one for each problem.

    Returns:
        (problems, starts, size).

    Raises:
        NoStartError: if a problem has none; it names what was tried.
    """
    return _stood_in(problems, *_boxed(problems, starts, generators))


def climbs(
    problems: Problems,
    generators: list[torch.Generator],
    starts: int = STARTS,
    prior: Tensor | None = None,
    strides: Tensor | None = None,
    rescue: Rescue | None = None,
) -> Climb:
    """Climb from several starts of every problem: overdispersed ones, and those given.

    Args:
        problems: the targets.
        generators: one for each problem.
        starts: overdispersed ones, for each problem.
        prior: (problems, more starts, size) from the prior, which knows how far away modes may lie; those
            at which the density or its gradient are not finite are left out.
        strides: (problems, more starts) lengths of their first steps; 1 by default, as of the others.
        rescue: given the index of a problem that has no start so far, many draws (draws, size) from its
            prior; ``None`` where there is no prior to draw from.

    Raises:
        NoStartError: if a problem has no start after all.
    """
    points, useful = _boxed(problems, draws_of(problems, starts, 2), generators)
    if prior is not None:
        points, useful = torch.cat([points, prior], 1), torch.cat([useful, _useful(problems, prior)], 1)
    for p in (~useful.any(1)).nonzero()[:, 0]:
        more = rescue(int(p)) if rescue is not None else None
        if more is None:
            continue
        more = more[_useful(problems, more[None], p[None])[0]][: points.shape[1]]
        points[p, : len(more)], useful[p, : len(more)] = more, True
    first = torch.ones(points.shape[:2], dtype=torch.float64)
    if strides is not None:
        first[:, first.shape[1] - strides.shape[1] :] = strides
    return climb(problems, _stood_in(problems, points, useful), strides=first)


def _boxed(problems: Problems, starts: int, generators: list[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Points (problems, starts, size), and which of them (problems, starts) can be used."""
    points = torch.zeros(problems.count, starts, problems.size, dtype=torch.float64)
    missing = torch.ones(problems.count, starts, dtype=torch.bool)
    farther = torch.tensor([_FARTHER[i % len(_FARTHER)] for i in range(starts)], dtype=torch.float64)[:, None]
    for attempt in range(_TRIES):
        reach = _REACH / 2 ** (attempt // 3)
        fresh = torch.stack(
            [torch.rand(starts, problems.size, generator=g, dtype=torch.float64) for g in generators]
        )
        box = reach * (farther if attempt == 0 else 1)
        points = torch.where(missing[..., None], (2 * fresh - 1) * box, points)
        missing = ~_useful(problems, points)
        if not bool(missing.any()):
            break
    return points, ~missing


def _useful(problems: Problems, points: Tensor, which: Tensor | None = None) -> Tensor:
    """At which points density and gradient are finite."""
    value, grad = problems.value_and_grad(points, which)
    return torch.isfinite(value) & torch.isfinite(grad).all(-1)


def _stood_in(problems: Problems, points: Tensor, useful: Tensor) -> Tensor:
    """The points; the first useful one of the same problem in the place of each that is not."""
    lost = ~useful.any(1)
    if bool(lost.any()):
        raise NoStartError(
            f"story: no start with a finite log density and gradient was found, neither in {_TRIES} tries of "
            f"several points each, uniform in (-{_REACH:g}, {_REACH:g}) in unconstrained space and closer to "
            f"0, nor among draws from a proper prior. {_holes(problems, points, lost)}Look for data outside "
            f"the support of their site, and for a prior or a likelihood that is -inf or NaN at ordinary "
            f"values: `ppl check` names the site.",
            lost.nonzero()[:, 0].tolist(),
        )
    first = useful.double().argmax(1)
    stand_in = points[torch.arange(len(points)), first]
    return torch.where(useful[..., None], points, stand_in[:, None])


def _holes(problems: Problems, points: Tensor, lost: Tensor) -> str:
    """At how many points the density is NaN, which says that its formula breaks down; empty at none."""
    found = undefined(*problems.value_and_grad(points[lost], lost.nonzero()[:, 0]))
    if not bool(found.any()):
        return ""
    return (
        f"The density, or its gradient, is NaN (not -inf) at {int(found.sum())} of the last {found.numel()} "
        f"points: 0/0, inf - inf or a parameter at the edge of its support. "
    )


def curvature(problems: Problems, points: Tensor, step: float = 1e-4, which: Tensor | None = None) -> Tensor:
    """Negative Hessians (problems, size, size) at one point each, from one batch of gradient differences."""
    shift = step * torch.eye(points.shape[-1], dtype=torch.float64)
    around = torch.cat([points[:, None] + shift, points[:, None] - shift], 1)
    _, grad = problems.value_and_grad(around, which)
    up, down = grad.chunk(2, 1)
    hessian = (up - down) / (2 * step)
    return -(hessian + hessian.mT) / 2


def laplace(problems: Problems, points: Tensor, which: Tensor | None = None) -> Gaussian:
    """The Laplace approximations at one point each; directions without curvature get unit scale."""
    values, vectors = torch.linalg.eigh(torch.nan_to_num(curvature(problems, points, which=which)))
    largest = values.amax(-1, keepdim=True).clamp(min=1e-8)
    variance = torch.where(values > _FLAT * largest, 1 / values.clamp(min=1e-300), 1.0)
    return Gaussian(points, spectral_factor(vectors, variance))


def spectral_factor(vectors: Tensor, variance: Tensor) -> Tensor:
    """Lower-triangular factor of ``vectors diag(variance) vectors'``."""
    half = vectors * variance.sqrt()[..., None, :]
    r = torch.linalg.qr(half.mT, mode="r").R  # of the factor itself: its square need not be formed
    return (r * r.diagonal(dim1=-2, dim2=-1).sign()[..., None]).mT


def elbos(problems: Problems, guides: Gaussian, e: Tensor, which: Tensor | None = None) -> Tensor:
    """ELBOs (problems, candidates) of batches (problems, candidates) of Gaussians, in nats.

    Args:
        problems: the targets.
        guides: the candidates.
        e: (problems, draws, size) standardized draws.
        which: the problems meant.
    """
    z = guides.scaled(e[:, None])
    count, candidates, draws, size = z.shape
    log_p = problems.log_prob(z.reshape(count, candidates * draws, size), which)
    mean = log_p.reshape(count, candidates, draws).mean(-1)
    elbo = mean + guides.entropy()
    return torch.where(torch.isfinite(elbo), elbo, -torch.inf)


def best_start(problems: Problems, climbed: Climb, generators: list[torch.Generator]) -> Gaussian:
    """The Gaussian of each problem with the best ELBO, along the best path and around its end."""
    pick = climbed.values.argmax(1)
    end = climbed.points[torch.arange(problems.count), pick]
    candidates = [w.gaussian(pick) for w in climbed.path]
    unit = torch.eye(problems.size, dtype=torch.float64).expand(problems.count, -1, -1)
    if problems.size <= _DENSE:
        around = laplace(problems, end)
        candidates += [around, Gaussian(end, 0.3 * around.scale)]
    candidates.append(Gaussian(end, 0.1 * unit))
    e = standard_draws(_ELBO_DRAWS, problems.size, generators, dense=False)
    parts = Gaussian(
        torch.stack([c.loc for c in candidates], 1), torch.stack([c.scale for c in candidates], 1)
    )
    best = elbos(problems, parts, e).argmax(1)
    return parts[torch.arange(problems.count), best]
