"""One transition of Hamiltonian Monte Carlo, for all chains at once.

Velocities are drawn from N(0, S) with S near the target's covariance, so that a leapfrog step is
``e += step * v; v += step * S grad``: one batched gradient, and one product with S, for all chains.

Source: Neal (2011), "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo, section 5.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.guides.gaussian import ValueAndGrad

DIVERGED = 1000.0  # nats of energy error beyond which a trajectory has left the true one (as in Stan)


@dataclass(frozen=True)
class Metric:
    """Covariance of the velocities: dense, or diagonal.

    Attributes:
        scale: (size, size) lower-triangular factor, or (size,) standard deviations.
        covariance: (size, size), or (size,) variances.
    """

    scale: Tensor
    covariance: Tensor

    @classmethod
    def of_scale(cls, scale: Tensor) -> Metric:
        """The metric with a given factor."""
        return cls(scale, scale @ scale.T if scale.dim() == 2 else scale.square())

    def scaled(self, noise: Tensor) -> Tensor:
        """Map standard normal rows to velocities."""
        return noise @ self.scale.T if self.scale.dim() == 2 else noise * self.scale

    def whiten(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`scaled`."""
        if self.scale.dim() == 2:
            return torch.linalg.solve_triangular(self.scale, rows.T, upper=False).T
        return rows / self.scale

    def kick(self, velocity: Tensor, grad: Tensor, step: float) -> None:
        """Change the velocities by the forces, in place."""
        if self.covariance.dim() == 2:
            velocity.addmm_(grad, self.covariance, alpha=step)
        else:
            velocity.addcmul_(grad, self.covariance, value=step)


@dataclass(frozen=True)
class Chains:
    """Where the chains stand.

    Attributes:
        e: (chains, size).
        log_p: (chains,) log density in nats.
        grad: (chains, size).
    """

    e: Tensor
    log_p: Tensor
    grad: Tensor


@dataclass(frozen=True)
class Transition:
    """What one transition did.

    Attributes:
        chains: after it.
        proposed: (chains, size) ends of the trajectories.
        velocity: (chains, size) whitened, there.
        acceptance: (chains,) probabilities.
        diverged: (chains,) energy error above 1,000 nats, or not finite.
        energy: (chains,) at the start, after drawing the velocities, in nats.
        length: time that the trajectories lasted.
        steps: gradients taken.
    """

    chains: Chains
    proposed: Tensor
    velocity: Tensor
    acceptance: Tensor
    diverged: Tensor
    energy: Tensor
    length: float
    steps: int


def transition(
    target: ValueAndGrad,
    chains: Chains,
    metric: Metric,
    length: float,
    step: float,
    generator: torch.Generator,
) -> Transition:
    """Draw velocities, follow the leapfrog for a time, accept or stay.

    A trajectory that meets a log density or gradient that is not finite is taken back to its start, so
    that later evaluations are of ordinary points, and is rejected; the reverse trajectory would be too.

    Args:
        target: (chains, size) -> log densities (chains,) and gradients (chains, size).
        length: time of the trajectories; all chains take the same steps.
        step: largest time step.
    """
    noise = _noise(torch.randn, chains.e, generator)
    velocity = metric.scaled(noise)
    energy = noise.square().sum(-1) / 2 - chains.log_p
    steps = max(1, math.ceil(length / step))
    step = length / steps
    e, alive = chains.e.clone(), torch.ones_like(chains.log_p, dtype=torch.bool)
    metric.kick(velocity, chains.grad, step / 2)
    for k in range(1, steps + 1):
        e.add_(velocity, alpha=step)
        log_p, grad = target(e)
        finite = torch.isfinite(log_p + grad.sum(-1))
        if not bool(finite.all()):
            alive = alive & finite
            e = torch.where(finite[:, None], e, chains.e)
            velocity = torch.where(finite[:, None], velocity, 0.0)
            grad = torch.where(finite[:, None], grad, 0.0)
        metric.kick(velocity, grad, step if k < steps else step / 2)
    whitened = metric.whiten(velocity)
    error = torch.nan_to_num(whitened.square().sum(-1) / 2 - log_p - energy, nan=math.inf)
    error = torch.where(alive, error, math.inf)
    acceptance = (-error).clamp(max=0).exp()
    accepted = _noise(torch.rand, chains.log_p, generator) < acceptance
    after = Chains(
        torch.where(accepted[:, None], e, chains.e),
        torch.where(accepted, log_p, chains.log_p),
        torch.where(accepted[:, None], grad, chains.grad),
    )
    return Transition(after, e, whitened, acceptance, error > DIVERGED, energy, length, steps)


def _noise(draw: Callable[..., Tensor], like: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers of a tensor's shape and device, made where the generator is."""
    made = draw(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return made.to(like.device)


def halton(index: int) -> float:
    """The van der Corput sequence in base 2, from index 0: 1/2, 1/4, 3/4, 1/8, ...

    Example:
        >>> [halton(i) for i in range(4)]
        [0.5, 0.25, 0.75, 0.125]
    """
    value, part, rest = 0.0, 0.5, index + 1
    while rest:
        value, part, rest = value + part * (rest % 2), part / 2, rest // 2
    return value
