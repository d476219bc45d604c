"""Natural-gradient variational inference on fixed, whitened draws: the loop two families share.

The ELBO of a Gaussian q = N(m, L L') is maximised by natural-gradient steps on its mean and precision
(Khan and Rue 2023, "The Bayesian Learning Rule", JMLR 24), with Stein's identity in place of second
derivatives: E[Hessian] is estimated by the covariance of draws and gradients, so one batched gradient per
step is all that is evaluated. The draws are fixed, antithetic and whitened (their mean is 0 and their
covariance the identity), which makes the objective deterministic, the step exact on a Gaussian target, and
convergence something that can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.density import LogDensity
from inference.guides.gaussian import Gaussian

Report = Callable[[str, int, float], None]

_CLIP = (0.05, 20.0)  # curvature relative to the present one, per step
_STOP = 1e-3  # nats of symmetrized KL between successive guides, per squared step size
_SMALLEST = 1 / 128  # step size at which the search gives up
_STEPS = 200


@dataclass(frozen=True)
class Fitted:
    """A fitted family: where the loop ended, and whether it ended by its own rule."""

    guide: Gaussian
    elbo: float
    converged: bool


def ascend(
    density: LogDensity, start: Gaussian, e: Tensor, name: str, report: Report, steps: int | None
) -> Fitted:
    """Maximise the ELBO on the fixed draws ``e`` from a starting Gaussian.

    Args:
        density: the target.
        start: dense or diagonal; the family keeps its kind.
        e: (draws, size) standardized draws.
        name: of the rung, for the report.
        report: called with (rung, step, elbo in nats) at every accepted step.
        steps: cap on the number of steps; ``None`` stops by the rule alone, within 200.
    """
    propose = _dense if start.scale.dim() == 2 else _diagonal
    guide, rate = start, 1.0
    elbo, grad = _evaluate(density, guide, e)
    report(name, 0, elbo)
    for step in range(1, (steps or _STEPS) + 1):
        trial, change = propose(guide, e, grad, rate)
        trial_elbo, trial_grad = _evaluate(density, trial, e)
        if not math.isfinite(trial_elbo) or trial_elbo < elbo - 1e-9 * (1 + abs(elbo)):
            rate /= 2
            if rate < _SMALLEST:
                return Fitted(guide, elbo, change / rate**2 < _STOP)
            continue
        guide, elbo, grad = trial, trial_elbo, trial_grad
        report(name, step, elbo)
        if change / rate**2 < _STOP:
            return Fitted(guide, elbo, True)
        rate = min(1.0, 1.5 * rate)
    return Fitted(guide, elbo, False)


def _evaluate(density: LogDensity, guide: Gaussian, e: Tensor) -> tuple[float, Tensor]:
    log_p, grad = density.value_and_grad(guide.scaled(e))
    if not bool(torch.isfinite(grad).all()):
        return -math.inf, grad
    return float(log_p.mean()) + guide.entropy(), grad


def _limited(step: Tensor) -> Tensor:
    """Trust region: no more than 3 standard deviations in root mean square."""
    longest = 3 * math.sqrt(len(step))
    return step * min(1.0, longest / max(float(step.norm()), 1e-300))


def _dense(guide: Gaussian, e: Tensor, grad: Tensor, rate: float) -> tuple[Gaussian, float]:
    whitened = grad @ guide.scale
    outer = e.T @ whitened / len(e)
    values, vectors = torch.linalg.eigh(-(outer + outer.T) / 2)
    precision = (1 - rate) + rate * values.clamp(*_CLIP)
    covariance = vectors @ torch.diag(1 / precision) @ vectors.T
    step = _limited(rate * covariance @ whitened.mean(0))
    factor = torch.linalg.cholesky(covariance)
    change = _change(1 / precision, precision, step, vectors.T @ step)
    return Gaussian(guide.loc + guide.scale @ step, guide.scale @ factor), change


def _diagonal(guide: Gaussian, e: Tensor, grad: Tensor, rate: float) -> tuple[Gaussian, float]:
    whitened = grad * guide.scale
    precision = (1 - rate) + rate * (-(e * whitened).mean(0)).clamp(*_CLIP)
    step = _limited(rate * whitened.mean(0) / precision)
    change = _change(1 / precision, precision, step, step)
    return Gaussian(guide.loc + guide.scale * step, guide.scale * precision.rsqrt()), change


def _change(variance: Tensor, precision: Tensor, step: Tensor, rotated: Tensor) -> float:
    """Symmetrized KL divergence between the guides before and after the step, in nats."""
    trace = variance.sum() + precision.sum() - 2 * len(step)
    return float(trace + (rotated.square() * (1 + precision)).sum()) / 2
