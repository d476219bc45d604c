"""Tune Hamiltonian Monte Carlo on the chains themselves: step size, trajectory length, metric.

What is tuned is shared by all chains, and is frozen before the draws that are kept; no draw of one chain
enters another. The means are those of each restart, so that restarts in different places do not stretch
the metric.

- Step size: Robbins and Monro (1951) on the harmonic mean of the chains' acceptance, which one stuck chain
  pulls down, with an average at the end (Polyak and Juditsky 1992).
- Trajectory length: 1.4 standard deviations of the direction of largest variance, which on a Gaussian
  maximises the jump of squares per square root of the length, and leaves an autocorrelation of .18 in a
  coordinate and of .03 in its square. Where a coordinate or its square stays correlated from one transition
  to the next, lengths are doubled as long as that pays. (Gradients of a jump distance, ChEES and SNAPER, look
  for the length too; over tens of transitions of chains that are not yet at rest they wander, by factors of
  ten.) Lengths are jittered by a Halton sequence, so that no coordinate is in resonance.
- Metric: the pooled covariance of the chains, whitened by the metric so far, its correlations shrunk to zero
  as far as their number of draws demands; only the variances, where there are many unknowns. Shrinking in
  whitened coordinates finds a condition number of any size, in a few windows.

Source: Hoffman, Radul and Sountsov (2021), "An adaptive-MCMC scheme for setting trajectory lengths in
Hamiltonian Monte Carlo", AISTATS; Sountsov and Hoffman (2022), "Focusing on difficult directions for
learning HMC trajectory lengths", arXiv:2110.11576; Ledoit and Wolf (2004), "A well-conditioned estimator for
large-dimensional covariance matrices", Journal of Multivariate Analysis 88.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.guides.gaussian import ValueAndGrad
from inference.hmc.hamiltonian import Chains, Metric, Transition, halton, transition

DENSE = 200  # unknowns up to which the metric is a matrix
ACCEPTANCE = 0.95  # harmonic mean over chains that is aimed at: with .8, chains stay out of curved tails
_STUCK = 0.05  # least acceptance in the mean, so that one chain of hundreds cannot stop all
LENGTH = 1.4  # of a trajectory, in standard deviations: see above
_WINDOW = 12  # transitions of the first window
_GROWTH = 1.5  # of the windows
_STEPS = 512  # most leapfrog steps of a trajectory
_FEWEST = 32  # the same in the first window; it is doubled from window to window
_MIXED = 4  # transitions that count as one independent draw, for shrinkage
_SIGMAS = 5.0  # by which a mean may drift between the halves of a window
_RATIO = 2.0  # by which a variance may differ from the metric's
_SLOW = 0.6  # autocorrelation from which longer trajectories are tried
_STILL = 1.25  # factor by which the step may still change over half a window


@dataclass
class Sampler:
    """Chains with their tuning.

    Attributes:
        target: their log density and gradient.
        chains: where they stand.
        restarts: how many groups the rows are in.
        generator: of all random numbers.
        metric, step, length: as tuned so far.
        longest: most leapfrog steps of a trajectory: few at first, while the metric is wrong.
        gradient_calls: batched gradients taken.
    """

    target: ValueAndGrad
    chains: Chains
    restarts: int
    generator: torch.Generator
    metric: Metric
    step: float
    length: float = LENGTH
    gradient_calls: int = 1
    transitions: int = 0
    longest: int = _FEWEST

    def advance(self) -> Transition:
        """Make one transition, of jittered length."""
        length = self.length * (0.5 + halton(self.transitions))
        length = min(length, self.step * self.longest)
        made = transition(self.target, self.chains, self.metric, length, self.step, self.generator)
        self.chains = made.chains
        self.gradient_calls += made.steps
        self.transitions += 1
        return made


@dataclass
class _Window:
    """What one window of warm-up saw."""

    e: list[Tensor] = field(default_factory=list)
    log_p: list[Tensor] = field(default_factory=list)
    log_step: list[float] = field(default_factory=list)


def warm_up(sampler: Sampler, budget: int, acceptance: float = ACCEPTANCE) -> bool:
    """Tune until nothing drifts any more.

    Args:
        sampler: changed in place.
        budget: gradient calls, in all, at which to give up.
        acceptance: harmonic mean that is aimed at.

    Returns:
        Whether the last window was stationary: means and variances of all unknowns and of the log density,
        step size and length.
    """
    length = float(_WINDOW)
    while True:
        window = _run(sampler, round(length), budget, acceptance)
        if len(window.e) < _WINDOW:
            return False
        e = torch.stack(window.e)
        if _settle(sampler, window) and _still(sampler, e, torch.stack(window.log_p)):
            sampler.longest = _STEPS
            _lengthen(sampler, slowest(e), budget)
            return True
        if sampler.gradient_calls >= budget:
            return False
        _adopt(sampler, e[len(e) // 3 :])
        sampler.longest = min(2 * sampler.longest, _STEPS)
        length *= _GROWTH


def _run(sampler: Sampler, count: int, budget: int, acceptance: float) -> _Window:
    window = _Window()
    for k in range(1, count + 1):
        made = sampler.advance()
        window.e.append(made.chains.e)
        window.log_p.append(made.chains.log_p)
        harmonic = 1 / float((1 / made.acceptance.clamp(min=_STUCK)).mean())
        # The acceptance falls by about .4 per unit of log step: a gain of 2 is Newton's step.
        sampler.step *= math.exp(2.0 * (harmonic - acceptance) / k**0.6)
        window.log_step.append(math.log(sampler.step))
        if sampler.gradient_calls >= budget:
            break
    return window


def slowest(e: Tensor) -> float:
    """Largest autocorrelation, over coordinates and their squares, from one transition to the next.

    Args:
        e: (draws, chains, size); means and variances are taken over all draws and chains.
    """
    x = e - e.mean((0, 1))
    square = x.square() - x.square().mean((0, 1))
    largest = [((v[1:] * v[:-1]).mean((0, 1)) / v.square().mean((0, 1))).max() for v in (x, square)]
    return float(torch.nan_to_num(torch.stack(largest), nan=1.0).max())


def _lengthen(sampler: Sampler, correlation: float, budget: int) -> None:
    """Double the trajectories while the slowest quantity gains more by it than the gradients cost."""
    gain = (1 - correlation) / (1 + correlation) * sampler.step / sampler.length
    while correlation > _SLOW and sampler.length < sampler.step * _STEPS and sampler.gradient_calls < budget:
        sampler.length *= 2
        correlation = slowest(torch.stack([sampler.advance().chains.e for _ in range(_WINDOW)]))
        longer = (1 - correlation) / (1 + correlation) * sampler.step / sampler.length
        if longer < gain:
            sampler.length /= 2
            return
        gain = longer


def _centred(e: Tensor, restarts: int) -> Tensor:
    grouped = e.unflatten(0, (restarts, -1))
    return (grouped - grouped.mean(1, keepdim=True)).flatten(0, 1)


def _settle(sampler: Sampler, window: _Window) -> bool:
    """Take the average of the steps over the last half; whether the quarters agree."""
    logs = window.log_step[len(window.log_step) // 2 :]
    middle = len(logs) // 2
    first, last = sum(logs[:middle]) / middle, sum(logs[middle:]) / (len(logs) - middle)
    sampler.step = math.exp(sum(logs) / len(logs))
    return abs(last - first) < math.log(_STILL)


def _still(sampler: Sampler, e: Tensor, log_p: Tensor) -> bool:
    """Whether the means do not drift between the halves, and the variances are the metric's."""
    if sampler.length > sampler.step * sampler.longest:
        return False
    values = torch.cat([e, log_p[..., None]], -1)
    first, last = values.tensor_split(2)
    drift = last.mean(0) - first.mean(0)  # (chains, size + 1), independent over chains
    error = drift.std(0) / math.sqrt(len(drift))
    if not bool((drift.mean(0).abs() <= _SIGMAS * error).all()):
        return False
    white = sampler.metric.whiten(_centred(e.transpose(0, 1).flatten(0, 1), sampler.restarts))
    variance = white.square().mean(0)
    return bool(((variance < _RATIO) & (variance > 1 / _RATIO)).all())


def _adopt(sampler: Sampler, e: Tensor) -> None:
    """Take the metric from the chains' positions (draws, chains, size)."""
    white = sampler.metric.whiten(_centred(e.transpose(0, 1).flatten(0, 1), sampler.restarts))
    stddev = white.square().mean(0).sqrt()
    stddev = torch.where(stddev > 0, stddev, 1.0)
    white, scale = white / stddev, sampler.metric.scale
    if white.shape[-1] > DENSE:
        sampler.metric = Metric.of_scale(scale * stddev)
        # Without any correlation, so many draws show this much (Marchenko and Pastur 1967).
        noise = 1 + math.sqrt(white.shape[-1] * _MIXED / len(white))
        sampler.length = max(sampler.length, LENGTH * _largest_stddev(white) / noise)
        return
    scale = scale if scale.dim() == 2 else scale.diag()
    factor = torch.linalg.cholesky(_shrunk(white, max(1.0, len(white) / _MIXED)))
    sampler.metric = Metric.of_scale(scale @ (stddev[:, None] * factor))


def _shrunk(white: Tensor, count: float) -> Tensor:
    """Correlation matrix, shrunk to the identity (Ledoit and Wolf 2004), from ``count`` independent rows."""
    correlation = white.T @ white / len(white)
    eye = torch.eye(white.shape[-1], dtype=white.dtype, device=white.device)
    spread = float((correlation - eye).square().sum())
    noise = (float(white.square().sum(-1).square().mean()) - float(correlation.square().sum())) / count
    share = min(1.0, max(0.0, noise / max(spread, 1e-300)))
    share = max(share, 1e-9)  # keeps the factorization from failing
    return (1 - share) * correlation + share * eye


def _largest_stddev(white: Tensor, iterations: int = 8) -> float:
    """Standard deviation of the direction of largest variance, by power iteration."""
    vector = white[int(white.square().sum(-1).argmax())]
    for _ in range(iterations):
        vector = white.T @ (white @ (vector / vector.norm()))
    return float((white @ (vector / vector.norm())).square().mean().sqrt())
