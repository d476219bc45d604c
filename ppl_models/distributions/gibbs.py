"""A density known up to its constant: exp(-energy) times a normal base, with log Z estimated."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_models.networks.annealing import anneal, langevin, noise
from ppl_models.networks.mlp import beside, mlp, one_hot
from ppl_models.networks.waves import Waves

_WIDER = 2.5


class Energy(nn.Module):
    """A network's energy of a row (given a label), and what it takes to know its constant.

    In training mode every estimate of log Z uses fresh random numbers, so that nothing is learned from
    the gaps between particles; in evaluation mode the same ones, four times as many: a function of x.

    Args:
        features, classes, hidden, layers: sizes; classes 0 for no label.
        location, spread: of the normal base, which must cover the data.
        particles, temperatures: of every estimate of log Z.
        waves: sines and cosines of the row, beside it.
    """

    location: Tensor
    spread: Tensor

    def __init__(
        self, features: int, classes: int, hidden: int, layers: int, location: float, spread: float,
        particles: int, temperatures: int, waves: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features, self.classes = features, classes
        self.particles, self.temperatures = particles, temperatures
        self.waves = Waves(features, waves)
        self.network = mlp(self.waves.width + classes, hidden, 1, layers)
        self.register_buffer("location", torch.full((features,), float(location)))
        self.register_buffer("spread", torch.full((features,), float(spread)))

    def forward(self, u: Tensor, context: Tensor | None) -> Tensor:
        """Energy (...,) in nats of rows (..., features) in units of the base."""
        return self.network(beside(self.waves(u), context))[..., 0]

    def swarm(self, particles: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Annealed particles (max(classes, 1), particles, features) and their log weights."""
        u, correction = self._particles(particles, generator)
        moved, log_weights = anneal(u, self._of_classes, self.temperatures, generator)
        return moved, log_weights + correction

    def log_partition(self) -> Tensor:
        """Log Z of every class, (max(classes, 1),): exp of it is unbiased, its gradient that of log Z.

        With one temperature the gradient is that of the importance-sampling estimate. With more it is
        minus the particles' mean gradient of the energy (short-run Langevin: Nijkamp et al. 2019), since
        weights that degenerate in many dimensions would leave a single particle to learn from.
        """
        generator, count = None, self.particles
        if not self.training:
            generator, count = torch.Generator(self.location.device).manual_seed(0), 4 * count
        if self.temperatures == 1:
            u, correction = self._particles(count, generator)
            return (correction - self._of_classes(u)).logsumexp(-1) - math.log(count)
        u, log_weights = self.swarm(count, generator)
        value, slope = log_weights.logsumexp(-1) - math.log(count), -self._of_classes(u).mean(-1)
        return value + slope - slope.detach()

    def weigh(self, repeats: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Log Z of every class and its standard error in nats, from independent estimates of Z.

        Example:
            >>> with torch.random.fork_rng():
            ...     log_z, stderr = Energy(2, 0, 8, 1, 0.0, 2.0, 64, 1).weigh(repeats=4)
            >>> log_z.shape, bool((stderr < 0.1).all())
            (torch.Size([1]), True)
        """
        generator = torch.Generator(self.location.device).manual_seed(seed)
        with torch.no_grad():
            runs = [self.swarm(4 * self.particles, generator)[1].double() for _ in range(repeats)]
        each = torch.stack([run.logsumexp(-1) - math.log(run.shape[-1]) for run in runs])
        value = each.logsumexp(0) - math.log(repeats)
        return value, (each - value).exp().std(0) / math.sqrt(repeats)

    def _particles(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Particles (max(classes, 1), count, features) before annealing, and their log weights (count,).

        With one temperature half of them come from a base 2.5 times as wide, so that no low energy
        where the base is thin goes unseen (a defensive mixture: Hesterberg 1995, Technometrics 37).
        """
        u, correction = noise(count, self.features, generator, self.location), self.location.new_zeros(count)
        if self.temperatures == 1:
            u[: count // 2] *= _WIDER
            near, wide = -u.square().sum(-1) / 2, -u.square().sum(-1) / (2 * _WIDER**2)
            wide = wide - self.features * math.log(_WIDER)
            correction = near - torch.logaddexp(near, wide) + math.log(2)
        return u.expand(max(self.classes, 1), *u.shape), correction

    def _of_classes(self, u: Tensor) -> Tensor:
        """Energy of particles (classes, particles, features), class by class."""
        if not self.classes:
            return self(u, None)
        labels = torch.arange(self.classes, device=u.device)[:, None]
        return self(u, one_hot(labels, self.classes, u.dtype))


class Gibbs(dist.TorchDistribution):
    """p(x | y) = exp(-energy((x - location) / spread, y)) Normal(x; location, spread^2 I) / Z_y.

    ``log_prob`` holds an estimate of log Z (see :class:`Energy`); ``sample`` picks annealed particles by
    their weights and moves them by ``moves`` corrected Langevin steps.

    Args:
        energy: as above.
        y: labels (*batch_shape), or None.
        moves: Langevin steps after the choice of a particle.

    Source: LeCun et al. (2006), A tutorial on energy-based learning; Song and Kingma (2021), How to train
    your energy-based models.

    Example:
        >>> with torch.random.fork_rng():
        ...     law = Gibbs(Energy(2, 0, 8, 1, 0.0, 2.0, 64, 1), None)
        ...     law.sample((5,)).shape
        torch.Size([5, 2])
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector

    def __init__(self, energy: Energy, y: Tensor | None, moves: int = 50, validate_args: Any = None) -> None:
        self.energy, self.y, self.moves = energy, y, moves
        batch = torch.Size() if y is None else y.shape
        super().__init__(batch, torch.Size([energy.features]), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Gibbs:
        """The same law for a larger batch."""
        batch = torch.Size(batch_shape)
        y = None if self.y is None else self.y.expand(batch)
        wide = Gibbs(self.energy, y, self.moves, validate_args=False)
        wide._batch_shape, wide._validate_args = batch, self._validate_args
        return wide

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, up to the error of log Z."""
        if self._validate_args:
            self._validate_sample(x)
        energy = self.energy
        u = (x.to(energy.location.dtype) - energy.location) / energy.spread
        base = -0.5 * (u.square() + math.log(2 * math.pi)).sum(-1) - energy.spread.log().sum()
        log_z = energy.log_partition()[0 if self.y is None else self.y.long()]
        log_prob = base - energy(u, self._context(self.y)) - log_z
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw (*sample_shape, *batch_shape, features)."""
        shape, energy = self._extended_shape(torch.Size(sample_shape)), self.energy
        y = None if self.y is None else self.y.long().expand(shape[:-1])
        with torch.no_grad():
            rows = math.prod(shape[:-1])
            swarm, log_weights = energy.swarm(max(4 * energy.particles, min(4 * rows, 65536)), None)
            label = torch.zeros(shape[:-1], dtype=torch.long, device=swarm.device) if y is None else y
            pick = torch.rand(shape[:-1], dtype=torch.float64, device=swarm.device)
            ladder = log_weights.double().softmax(-1).cumsum(-1)
            chosen = torch.searchsorted(ladder, pick.flatten()[None].expand(len(ladder), -1).contiguous())
            chosen = chosen.clamp_max(ladder.shape[-1] - 1).view(-1, *label.shape)
            u = swarm[label, chosen.gather(0, label[None])[0]]
            step, context = 0.5 / shape[-1] ** (1 / 6), self._context(y)
            for _ in range(self.moves):
                u, share = langevin(u, lambda v: energy(v, context), 1.0, step, None)
                step *= 1.1 if share > 0.6 else 0.9
            return u * energy.spread + energy.location

    def _context(self, y: Tensor | None) -> Tensor | None:
        return None if y is None else one_hot(y, self.energy.classes, self.energy.location.dtype)
