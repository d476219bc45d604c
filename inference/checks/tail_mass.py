"""Tails that chains have hardly entered: how much mass lies out there, by weights given each value?

Where one unknown in its tail narrows the others (an observation noise near zero), chains whose steps fit
the bulk stay out. Their means and standard deviations are right, R-hat and effective sizes are fine, and an
event of one percent may have a tenth of its probability. So tails are looked at in which the density is
much more curved, in another unknown, than elsewhere: over draws of p, the mean of its squared derivative of
log p is the mean curvature (Fisher's identity), and that holds given the value of the one unknown, too.

Given the value of that one unknown, the others are often nearly Gaussian: the marginal density of the
unknown then follows, for each of a few values, by importance sampling around the mode of the others
(Laplace's approximation, corrected by its weights). Of the draws beyond their own 5 % quantile a fifth lie
beyond the 1 % quantile; of the mass, if the draws are right, as well. Where the weights cannot tell either,
that is said.

Source: Rue, Martino and Chopin 2009, "Approximate Bayesian inference for latent Gaussian models by using
integrated nested Laplace approximations", JRSS B 71, section 3.2, whose Laplace step this is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.checks.stein import subset
from inference.density.log_density import LogDensity
from inference.density.problems import Problems, Replicates
from inference.guides.lbfgs import climb
from inference.guides.mixture import Mixture
from inference.guides.starts import laplace

OUTER, INNER = 0.01, 0.05  # shares of the draws beyond the two quantiles that are compared
_CURVED = 5.0  # times the curvature elsewhere from which a tail is looked at
_NARROW = 8.0  # the same from which a tail that weights cannot tell is spoken of
_FACTOR = 1.5  # by which the mass beyond the 1 % quantile may differ from 1 % without a word
_MOST = 12  # tails that are looked at, the most curved ones
_LARGEST = 200  # unknowns up to which tails are looked at
_AFFORDABLE = 2**26  # elements that all curvatures together may touch
_LEAST = 800  # draws without which there are too few in a tail
_STEPS = 12  # places beyond the inner quantile, ...
_APART = 0.5  # ... as far apart as half the way from there to the outer one
_NEWTON = 3  # steps to the top, after a climb that ends near it
_DRAWS = 128  # given each place
_EFFECTIVE = 0.1  # of them; with fewer nothing is said
_SURE = 0.15  # relative error of the mass above which nothing is said


@dataclass(frozen=True)
class TailMass:
    """What lies in one tail of one unknown.

    Attributes:
        unknown: its index.
        upper: which tail.
        value: the draws' own 1 % quantile there, in unconstrained space.
        mass: share of the posterior's mass beyond it.
        stderr: its standard error, of the weights alone.
    """

    unknown: int
    upper: bool
    value: float
    mass: float
    stderr: float


class _Given:
    """The unknowns but one, given its value: one problem for each value of some unknown.

    The others are measured in standard deviations of the draws, from their means.

    Args:
        problems: the density, as one problem.
        which: (values,) index of the unknown that is given.
        at: (values,) where.
        centre, spread: (size,) of all unknowns.
    """

    def __init__(self, problems: Problems, which: Tensor, at: Tensor, centre: Tensor, spread: Tensor) -> None:
        self._problems, self._which, self._at = problems, which, at
        self._centre, self._spread = centre, spread
        every = torch.arange(problems.size)
        self._others = torch.stack([every[every != i] for i in which.tolist()])  # (values, size - 1)
        self.count, self.size, self.cost = len(at), problems.size - 1, problems.cost

    @property
    def gradient_calls(self) -> int:
        return self._problems.gradient_calls

    def measured(self, z: Tensor) -> Tensor:
        """The others' coordinates (values, 1, size - 1) of whole points (values, size)."""
        return ((z - self._centre) / self._spread).gather(1, self._others)[:, None]

    def _whole(self, e: Tensor, which: Tensor | None) -> Tensor:
        rows = slice(None) if which is None else which
        others = self._others[rows][:, None].expand(-1, e.shape[1], -1)
        z = torch.empty(*e.shape[:2], self.size + 1, dtype=torch.float64).scatter_(2, others, e)
        z = self._centre + self._spread * z
        given = self._at[rows][:, None, None].expand(-1, e.shape[1], 1)
        return z.scatter_(2, self._which[rows][:, None, None].expand_as(given), given)

    def log_prob(self, e: Tensor, which: Tensor | None = None) -> Tensor:
        """(values, draws, size - 1) -> (values, draws), in nats."""
        z = self._whole(e, which)
        return self._problems.log_prob(z.flatten(0, 1)[None])[0].reshape(z.shape[:2])

    def value_and_grad(self, e: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, with gradients (values, draws, size - 1)."""
        z = self._whole(e, which)
        value, grad = self._problems.value_and_grad(z.flatten(0, 1)[None])
        rows = slice(None) if which is None else which
        others = self._others[rows][:, None].expand(-1, e.shape[1], -1)
        grad = (grad[0] * self._spread).reshape(z.shape).gather(2, others)
        return value[0].reshape(z.shape[:2]), grad


def short_tails(density: LogDensity, drawn: Tensor, generator: torch.Generator) -> list[str]:
    """Notes about sites of which draws by chains may have a tail too short, or too long.

    Args:
        density: that the draws are of.
        drawn: (restarts, draws, size), unconstrained.
        generator: of the draws that are weighed.
    """
    z, some = drawn.flatten(0, 1), subset(drawn)
    if density.size > _LARGEST or len(z) < _LEAST or not density.traced:
        return []
    curved = curved_tails(z, some, density.value_and_grad(some)[1])
    rows = (_STEPS + 1) * 2 * density.size * density.cost
    tails = list(curved)[: min(_MOST, _AFFORDABLE // rows)]
    told = {(t.unknown, t.upper): t for t in tail_masses(Replicates(density, 1), z, tails, generator)}
    notes: dict[str, str] = {}
    for (unknown, upper), excess in curved.items():
        name = density.site_of(unknown)
        mass = told.get((unknown, upper))
        words = _verified(mass) if mass is not None else _unverified(excess)
        if words and name not in notes:
            notes[name] = f"{name}: its {'upper' if upper else 'lower'} tail {words}"
    return list(notes.values())


def _verified(tail: TailMass) -> str:
    """What is off, or nothing."""
    if OUTER / _FACTOR <= tail.mass <= OUTER * _FACTOR:
        return ""
    short = "short" if tail.mass > OUTER else "long"
    return (
        f"is too {short} in the draws, since chains hardly go there: beyond their {OUTER:.0%} quantile lies "
        f"about {tail.mass:.1%} of the mass (+- {tail.stderr:.1%}, by weights given each value). Quantiles "
        f"between {INNER:.0%} and {1 - INNER:.0%} stand; do not rely on rarer events there."
    )


def _unverified(excess: float) -> str:
    if excess < _NARROW:
        return ""
    return (
        f"is not certain beyond the {INNER:.0%} quantile: the density is {excess:.0f} times as curved there "
        f"as elsewhere, so that chains hardly go there, and weights cannot tell. Rarer events may have "
        f"several times the probability that the draws give them, or a fraction."
    )


def curved_tails(z: Tensor, some: Tensor, grad: Tensor) -> dict[tuple[int, bool], float]:
    """Tails in which the density is much more curved than elsewhere, the worst first.

    Args:
        z: (draws, size) all draws.
        some, grad: (some, size) a few of them, and the gradients of the log density there, in nats.

    Returns:
        (unknown, upper) -> how many times as curved, in another unknown.
    """
    square = (grad * z.std(0)).square()
    usual = square.mean(0).clamp(min=1e-300)
    count = max(20, math.ceil(INNER * len(some)))
    found: dict[tuple[int, bool], float] = {}
    for upper in (False, True):
        order = some.argsort(0, descending=upper)[:count]  # (count, size)
        ratio = torch.stack([square[outer].mean(0) / usual for outer in order.T])  # tail of, derivative by
        excess = ratio.fill_diagonal_(0.0).amax(1)
        found |= {(i, upper): float(excess[i]) for i in (excess > _CURVED).nonzero().squeeze(-1).tolist()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def tail_masses(
    problems: Problems, z: Tensor, tails: Sequence[tuple[int, bool]], generator: torch.Generator
) -> list[TailMass]:
    """Mass beyond the draws' own 1 % quantiles, where weights can tell it.

    Args:
        problems: the density, as one problem.
        z: (draws, size) equally weighted draws that are right up to their 5 % quantiles.
        tails: (unknown, upper) to look at.
        generator: of the draws around the modes.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> class Normal2:
        ...     count, size, cost, gradient_calls = 1, 2, 2, 0
        ...     def log_prob(self, z, which=None):
        ...         return -z.square().sum(-1) / 2
        ...     def value_and_grad(self, z, which=None):
        ...         return self.log_prob(z), -z
        >>> z = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
        >>> z[z[:, 0] < -2, 0] = -2.0  # so far and no farther
        >>> lower, upper = tail_masses(Normal2(), z, [(0, False), (0, True)], generator)
        >>> round(lower.mass, 3), round(upper.mass, 3)
        (0.023, 0.011)
    """
    if not tails or problems.size < 2:
        return []
    which = torch.tensor([i for i, _ in tails])
    sign = torch.tensor([-1.0 if upper else 1.0 for _, upper in tails], dtype=torch.float64)
    own = z[:, which] * sign  # the tail is the lower one
    outer, inner = own.quantile(torch.tensor([OUTER, INNER], dtype=torch.float64), 0)
    apart = (_APART * (inner - outer)).clamp(min=1e-12)
    places = inner[:, None] - apart[:, None] * torch.arange(_STEPS + 1)  # (tails, places), outwards
    centre, spread = z.mean(0), z.std(0).clamp(min=1e-12)
    flat = (places * sign[:, None]).flatten()
    given = _Given(problems, which.repeat_interleave(_STEPS + 1), flat, centre, spread)
    near = torch.stack([(own[:, [k]] - places[k]).abs().argmin(0) for k in range(len(tails))])
    start = given.measured(z[near.flatten()])
    log_f, error, effective = _marginal(given, start, generator)
    shape = places.shape
    log_f, error, effective = log_f.reshape(shape), error.reshape(shape), effective.reshape(shape)
    found = []
    for k, (unknown, upper) in enumerate(tails):
        reach = int((log_f[k] > log_f[k, 0] - 12.0).long().cumprod(0).sum())  # farther out is nothing
        if reach < 3 or not bool((effective[k, :reach] >= _EFFECTIVE * _DRAWS).all()):
            continue
        mass, stderr = _beyond(log_f[k, :reach], error[k, :reach], round(1 / _APART))
        if stderr <= _SURE:
            value = float(outer[k] * sign[k])
            found.append(TailMass(unknown, upper, value, INNER * mass, INNER * mass * stderr))
    return found


def _marginal(given: _Given, start: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Log marginal density at every value, up to one constant; relative errors and effective draws."""
    value, slope = given.value_and_grad(start)
    fine = torch.isfinite(value) & torch.isfinite(slope).all(-1)
    top = climb(given, torch.where(fine[..., None], start, 0.0)).points[:, 0]
    around = laplace(given, top)
    for _ in range(_NEWTON):
        value, slope = (x[:, 0] for x in given.value_and_grad(top[:, None]))
        moved = top + (around.scale @ (around.scale.mT @ slope[..., None]))[..., 0]
        higher = given.log_prob(moved[:, None])[:, 0] > value
        if not bool(higher.any()):
            break
        top = torch.where(higher[:, None], moved, top)
        around = laplace(given, top)
    proposal = Mixture.single(around)
    e = proposal.sample(_DRAWS, [generator] * given.count)
    log_p = given.log_prob(e)
    log_w = torch.where(torch.isfinite(log_p), log_p - proposal.log_prob(e), -torch.inf)
    total = log_w.logsumexp(1)
    square = (2 * log_w).logsumexp(1)
    effective = (2 * total - square).exp().nan_to_num(0.0)
    error = (1 / effective.clamp(min=1e-12) - 1 / _DRAWS).clamp(min=0).sqrt()
    return total - math.log(_DRAWS), error, effective


def _beyond(log_f: Tensor, error: Tensor, outer: int) -> tuple[float, float]:
    """Share of the mass beyond place 0 that lies beyond place ``outer``, and its relative error.

    Between places, and beyond the last, the log density is a straight line.
    """
    f = (log_f - log_f[0]).exp()
    ratio = f[1:] / f[:-1]
    falls = -ratio.log()
    part = torch.where(falls.abs() > 1e-6, f[:-1] * (1 - ratio) / falls, f[:-1])
    last = f[-1] / falls[-1].clamp(min=0.2)
    total = part.sum() + last
    beyond = part[outer:].sum() + last
    weight = torch.cat([part, last[None]]) / total
    stderr = (weight * error).square().sum().sqrt() + (
        weight[outer:] * error[outer:] / weight[outer:].sum()
    ).square().sum().sqrt()
    return float(beyond / total), float(stderr)
