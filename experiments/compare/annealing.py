"""Log p(x) of a story with latent rows, between a lower and an upper bound that meet.

Annealed importance sampling walks a latent z from the prior to the posterior through p(z) p(x | z)^b, b from
0 to 1, by Hamiltonian transitions, and weighs the walk: the mean weight is p(x), so the log of a mean of
weights is on average a lower bound. The same walk backwards starts at an exact draw of the posterior, and its
mean weight is 1 / p(x): an upper bound. Exact draws are to be had where x itself was drawn with its z from
the story: p(z, x) may be drawn either way. With more steps the two bounds close in on log p(x).

Source: Neal (2001), Annealed importance sampling; Grosse, Ghahramani and Adams (2015), Sandwiching the
marginal likelihood using bidirectional Monte Carlo; Wu, Burda, Salakhutdinov and Grosse (2017), On the
quantitative analysis of decoder-based generative models, for the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

__all__ = ["Annealing", "importance_bound", "tuned"]

LogLikelihood = Callable[[Tensor], Tensor]

LEAPS = 5  # leapfrog steps of a transition
ACCEPTED = 0.65  # share of transitions that step sizes are tuned to: Beskos et al. (2013)
LEARNING = 1.05  # by which a step size changes after a transition, in the pilot


@dataclass(frozen=True)
class Annealing:
    """A fixed path from the prior, Normal(0, I), to the posterior: both walks go along it.

    Attributes
    ----------
    log_likelihood
        z (chains, rows, latents) -> log p(x_row | z) (chains, rows), in nats, differentiable.
    latents
        Length of z.
    powers
        (steps + 1,) from 0 to 1.
    leap
        (steps, rows): lengths of a leapfrog step. They must not depend on the walks that are weighed.

    Examples
    --------
    >>> x = torch.tensor([0.7, -1.2]).double()          # x | z ~ Normal(z, 1), so that x ~ Normal(0, 2)
    >>> def likelihood(z):
    ...     return torch.distributions.Normal(z[..., 0], 1.0).log_prob(x)
    >>> path = tuned(likelihood, rows=2, latents=1, steps=50)
    >>> lower, upper = path.forward(100), path.backward(0.5 * x[:, None], 100)
    >>> truth = torch.distributions.Normal(0.0, 2**0.5).log_prob(x)
    >>> bool((lower - truth).abs().max() < 0.05)
    True
    """

    log_likelihood: LogLikelihood
    latents: int
    powers: Tensor
    leap: Tensor

    def forward(self, chains: int, seed: int = 0) -> Tensor:
        """Lower bounds of log p(x) from the prior: (rows,), in nats."""
        generator = torch.Generator().manual_seed(seed)
        shape = (chains, self.leap.shape[1], self.latents)
        walkers = self._at(torch.randn(shape, generator=generator, dtype=torch.float64))
        log_weight = torch.zeros(shape[:2], dtype=torch.float64)
        for step, power in enumerate(self.powers[1:]):
            log_weight += (power - self.powers[step]) * walkers.likelihood
            walkers, _ = self._move(walkers, power, self.leap[step], generator)
        return _log_mean(log_weight)

    def backward(self, exact: Tensor, chains: int, seed: int = 0) -> Tensor:
        """Upper bounds of log p(x), (rows,), in nats, from exact draws of the posteriors (rows, latents)."""
        generator = torch.Generator().manual_seed(seed)
        walkers = self._at(exact.double().expand(chains, *exact.shape).clone())
        log_weight = torch.zeros(chains, len(exact), dtype=torch.float64)
        for step in reversed(range(len(self.leap))):
            power = self.powers[step + 1]
            walkers, _ = self._move(walkers, power, self.leap[step], generator)
            log_weight -= (power - self.powers[step]) * walkers.likelihood
        return -_log_mean(log_weight)

    def _at(self, z: Tensor) -> _Walkers:
        z = z.detach().requires_grad_()
        likelihood = self.log_likelihood(z)
        (slope,) = torch.autograd.grad(likelihood.sum(), z)
        return _Walkers(z.detach(), likelihood.detach(), slope)

    def _move(
        self, here: _Walkers, power: Tensor, leap: Tensor, generator: Generator
    ) -> tuple[_Walkers, Tensor]:
        """One Hamiltonian transition that leaves p(z) p(x | z)^power alone; who accepted it."""
        size = leap[:, None]
        kick = torch.randn(here.z.shape, generator=generator, dtype=torch.float64)
        there, momentum = here, kick + size / 2 * here.force(power)
        for leaped in range(LEAPS):
            there = self._at(there.z + size * momentum)
            momentum = momentum + (size / 2 if leaped == LEAPS - 1 else size) * there.force(power)
        gain = there.log_density(power) - here.log_density(power)
        gain = gain - (momentum.square() - kick.square()).sum(-1) / 2
        even = torch.rand(gain.shape, generator=generator, dtype=torch.float64)
        accepted = even.log() < gain.nan_to_num(-math.inf)  # a walk that has left the numbers stays
        return here.where(accepted, there), accepted


@dataclass(frozen=True)
class _Walkers:
    """Where walks stand: z (chains, rows, latents), log p(x | z) (chains, rows) and its gradient in z."""

    z: Tensor
    likelihood: Tensor
    slope: Tensor

    def log_density(self, power: Tensor) -> Tensor:
        return power * self.likelihood - self.z.square().sum(-1) / 2

    def force(self, power: Tensor) -> Tensor:
        return power * self.slope - self.z

    def where(self, accepted: Tensor, there: _Walkers) -> _Walkers:
        wide = accepted[..., None]
        return _Walkers(
            torch.where(wide, there.z, self.z),
            torch.where(accepted, there.likelihood, self.likelihood),
            torch.where(wide, there.slope, self.slope),
        )


def tuned(
    log_likelihood: LogLikelihood, rows: int, latents: int, steps: int, chains: int = 16, seed: int = 0
) -> Annealing:
    """Lay a path of ``steps`` transitions; a pilot walk of its own chains finds the step sizes.

    The powers are evenly spaced in the logit, from -4 to 4, and stretched to 0 and 1 (Wu et al. 2017).

    Raises
    ------
    ValueError
        If ``steps``, ``rows``, ``latents`` or ``chains`` is below 1.
    """
    for name, number in {"steps": steps, "rows": rows, "latents": latents, "chains": chains}.items():
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    logits = torch.linspace(-4.0, 4.0, steps + 1, dtype=torch.float64).sigmoid()
    powers = (logits - logits[0]) / (logits[-1] - logits[0])
    leap = torch.full((steps, rows), 0.5, dtype=torch.float64)
    path = Annealing(log_likelihood, latents, powers, leap)
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    walkers = path._at(torch.randn(chains, rows, latents, generator=generator, dtype=torch.float64))
    size = leap[0].clone()
    for step, power in enumerate(powers[1:]):
        for _ in range(max(1, 200 // steps)):  # a short path leaves less time to find the size
            walkers, accepted = path._move(walkers, power, size, generator)
            size = size * LEARNING ** torch.where(accepted.double().mean(0) > ACCEPTED, 1.0, -1.0)
        leap[step] = size
    return path


def importance_bound(log_weights: Tensor, draws: int) -> Tensor:
    """Lower bounds of log p(x) from a guide's draws, in nats: the ELBO with one draw, tighter with more.

    Parameters
    ----------
    log_weights
        log p(x, z) - log q(z | x) at draws z of the guide, (draws in all, rows).
    draws
        K, of each bound; as many bounds as fit are averaged.

    Returns
    -------
    Tensor
        (rows,).

    Raises
    ------
    ValueError
        If ``draws`` is below 1 or above the number of draws in all.

    Source
    ------
    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.

    Examples
    --------
    >>> weights = torch.tensor([[1.0], [3.0]]).log()
    >>> [round(float(importance_bound(weights, k).exp()), 3) for k in (1, 2)]        # sqrt(3), 2
    [1.732, 2.0]
    """
    if not 1 <= draws <= len(log_weights):
        raise ValueError(f"draws: expected 1 .. {len(log_weights)}, got {draws}")
    blocks = len(log_weights) // draws
    grouped = log_weights[: blocks * draws].reshape(blocks, draws, -1)
    return (grouped.logsumexp(1) - math.log(draws)).mean(0)


def _log_mean(log_weight: Tensor) -> Tensor:
    return log_weight.logsumexp(0) - math.log(len(log_weight))
