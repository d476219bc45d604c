"""Natural-gradient ascent of the ELBO on fixed draws, shared by the Gaussian rungs.

The ELBO of a Gaussian q = N(m, L L') is maximised by natural-gradient steps on its mean and precision
(Khan and Rue 2023, "The Bayesian Learning Rule", JMLR 24), with Stein's identity in place of second
derivatives: E[Hessian] is estimated by the covariance of draws and gradients, so one batched gradient per
step is all that is evaluated. The draws are fixed, antithetic and whitened (their mean is 0 and their
covariance the identity), which makes the objective deterministic, the step exact on a Gaussian target, and
convergence something that can be seen. All problems step together; each has its own step size and stops by
itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.density.problems import Problems
from inference.guides.gaussian import Gaussian
from inference.guides.starts import spectral_factor
from inference.runtime.progress import Report

_CLIP = (0.05, 20.0)  # curvature relative to the present one, per step
_STOP = 1e-3  # nats of symmetrized KL between successive guides, per squared step size
_NEWTON = 1e-2  # the same after a whole step: what is left is of second order
_EXACT = 1e-5  # nats by which log weights at the fixed draws may differ on a Gaussian target
_SMALLEST = 1 / 128  # step size at which the search gives up
_STEPS = 200


@dataclass(frozen=True)
class Fitted:
    """Fitted families: where the loop ended, and whether it ended by its own rule.

    Attributes:
        guide: a batch (problems,) of Gaussians.
        elbo: (problems,), in nats.
        converged: (problems,).
        exact: (problems,) whether the target is Gaussian up to rounding, as far as the fixed draws tell.
    """

    guide: Gaussian
    elbo: Tensor
    converged: Tensor
    exact: Tensor


def ascend(
    problems: Problems,
    start: Gaussian,
    e: Tensor,
    name: str,
    report: Report,
    steps: int | None,
    which: Tensor | None = None,
) -> Fitted:
    """Maximise the ELBOs on the fixed draws ``e`` from starting Gaussians.

    Args:
        problems: the targets.
        start: a batch (problems,), dense or diagonal; the family keeps its kind.
        e: (problems, draws, size) standardized draws.
        name: of the rung, for the report.
        report: called with (rung, step, best elbo in nats) at every step.
        steps: cap on the number of steps; ``None`` stops by the rule alone, within 200.
        which: the problems meant; all by default.
    """
    propose = _diagonal if start.diagonal else _dense
    guide = start
    rate = torch.ones(len(start.loc), dtype=torch.float64)
    active = torch.ones(len(rate), dtype=torch.bool)
    converged = ~active
    elbo, grad, wobble = _evaluate(problems, guide, e, which)
    report(name, 0, _best(elbo))
    for step in range(1, (steps or _STEPS) + 1):
        rows = active.nonzero().squeeze(-1)
        every = len(rows) == len(rate)
        these = slice(None) if every else rows
        asked = which if every else (rows if which is None else which[rows])
        trial, change = propose(guide[these], e[these], grad[these], rate[these])
        trial_elbo, trial_grad, trial_wobble = _evaluate(problems, trial, e[these], asked)
        before, pace = elbo[these], rate[these]
        better = torch.isfinite(trial_elbo) & (trial_elbo >= before - 1e-9 * (1 + before.abs()))
        still = (change / pace**2 < _STOP) | ((pace == 1) & (change < _NEWTON))
        slower = pace / 2
        stuck = ~better & (slower < _SMALLEST)
        guide = _put(guide, rows, better, trial)
        elbo[rows[better]], grad[rows[better]] = trial_elbo[better], trial_grad[better]
        wobble[rows[better]] = trial_wobble[better]
        converged[rows] = (better & still) | (stuck & (change / slower**2 < _STOP))
        active[rows] = ~(better & still) & ~stuck
        rate[rows] = torch.where(better, (1.5 * pace).clamp(max=1.0), slower)
        report(name, step, _best(elbo))
        if not bool(active.any()):
            break
    return Fitted(guide, elbo, converged, wobble < _EXACT)


def _put(guide: Gaussian, rows: Tensor, better: Tensor, trial: Gaussian) -> Gaussian:
    loc, scale, to = guide.loc.clone(), guide.scale.clone(), rows[better]
    loc[to], scale[to] = trial.loc[better], trial.scale[better]
    return Gaussian(loc, scale)


def _best(elbo: Tensor) -> float:
    finite = elbo[torch.isfinite(elbo)]
    return float(finite.max()) if len(finite) else -math.inf


def _evaluate(
    problems: Problems, guide: Gaussian, e: Tensor, which: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """ELBO, gradients at the draws, and how much log p + e^2 / 2 varies among them."""
    log_p, grad = problems.value_and_grad(guide.scaled(e), which)
    elbo = log_p.mean(-1) + guide.entropy()
    wobble = (log_p + 0.5 * e.square().sum(-1)).std(-1)
    fine = torch.isfinite(elbo) & torch.isfinite(grad).flatten(1).all(1)
    return torch.where(fine, elbo, -torch.inf), grad, wobble.nan_to_num(torch.inf)


def _limited(step: Tensor) -> Tensor:
    """Trust region: no more than 3 standard deviations in root mean square."""
    longest = 3 * math.sqrt(step.shape[-1])
    return step * (longest / step.norm(dim=-1, keepdim=True).clamp(min=1e-300)).clamp(max=1.0)


def _dense(guide: Gaussian, e: Tensor, grad: Tensor, rate: Tensor) -> tuple[Gaussian, Tensor]:
    whitened = torch.nan_to_num(grad @ guide.scale)
    outer = e.mT @ whitened / e.shape[-2]
    values, vectors = torch.linalg.eigh(-(outer + outer.mT) / 2)
    precision = (1 - rate)[:, None] + rate[:, None] * values.clamp(*_CLIP)
    variance = 1 / precision
    rotated = (vectors.mT @ whitened.mean(1)[..., None])[..., 0] * variance * rate[:, None]
    rotated = _limited(rotated)
    step = (vectors @ rotated[..., None])[..., 0]
    factor = spectral_factor(vectors, variance)
    change = _change(variance, precision, rotated)
    loc = guide.loc + (guide.scale @ step[..., None])[..., 0]
    return Gaussian(loc, guide.scale @ factor), change


def _diagonal(guide: Gaussian, e: Tensor, grad: Tensor, rate: Tensor) -> tuple[Gaussian, Tensor]:
    whitened = torch.nan_to_num(grad * guide.scale[:, None])
    curvature = -(e * whitened).mean(1)
    precision = (1 - rate)[:, None] + rate[:, None] * curvature.clamp(*_CLIP)
    step = _limited(rate[:, None] * whitened.mean(1) / precision)
    change = _change(1 / precision, precision, step)
    return Gaussian(guide.loc + guide.scale * step, guide.scale * precision.rsqrt()), change


def _change(variance: Tensor, precision: Tensor, rotated: Tensor) -> Tensor:
    """Symmetrized KL divergence between the guides before and after the step, in nats."""
    trace = (variance + precision - 2).sum(-1)
    return (trace + (rotated.square() * (1 + precision)).sum(-1)) / 2
