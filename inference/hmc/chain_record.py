"""What chains passed through after warm-up: positions, log densities, energies, divergences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.hmc.adaptation import Sampler
from inference.hmc.hamiltonian import Transition

_MEMORY = 2**26  # numbers kept: 512 MiB; beyond it every second draw is dropped


@dataclass
class Record:
    """Draws of all chains, thinned where memory demands it.

    Attributes:
        restarts: how many groups the chains are in.
        stride: transitions per draw that is kept.
        seen: transitions since the beginning, or since the last :meth:`forget`.
    """

    restarts: int
    stride: int = 1
    seen: int = 0
    transitions: int = 0
    divergences: int = 0
    _e: list[Tensor] = field(default_factory=list)
    _log_p: list[Tensor] = field(default_factory=list)
    _energy: list[Tensor] = field(default_factory=list)
    _acceptance: float = 0.0

    def add(self, made: Transition) -> None:
        """Record one transition."""
        self.seen += 1
        self.transitions += 1
        self.divergences += int(made.diverged.sum())
        self._acceptance += float(made.acceptance.mean())
        self._energy.append(made.energy)
        if self.seen % self.stride:
            return
        self._e.append(made.chains.e)
        self._log_p.append(made.chains.log_p)
        if len(self._e) * made.chains.e.numel() > _MEMORY and len(self._e) >= 8:
            self._e, self._log_p, self.stride = self._e[1::2], self._log_p[1::2], 2 * self.stride

    def forget(self) -> None:
        """Drop the first half of the draws."""
        half = len(self._e) // 2
        self._e, self._log_p = self._e[half:], self._log_p[half:]
        self._energy = self._energy[len(self._energy) // 2 :]
        self.seen = len(self._e) * self.stride

    @property
    def kept(self) -> int:
        """Transitions that the kept draws span."""
        return len(self._e) * self.stride

    def fill(self, sampler: Sampler, target: int, budget: int) -> bool:
        """Let the chains run up to a number of transitions; at least 4, without which nothing can be judged.

        Returns:
            Whether the budget of gradient calls is used up.
        """
        while self.seen < target and (sampler.gradient_calls < budget or len(self._e) < 4):
            self.add(sampler.advance())
        return sampler.gradient_calls >= budget

    @property
    def rows(self) -> int:
        """How many chains there are."""
        return len(self._log_p[0]) if self._log_p else 1

    @property
    def acceptance(self) -> float:
        """Mean acceptance probability."""
        return self._acceptance / max(1, self.transitions)

    @property
    def divergence_share(self) -> float:
        """Share of all trajectories that diverged."""
        return self.divergences / max(1, self.transitions * self.rows)

    @property
    def e(self) -> Tensor:
        """(chains, draws, size)."""
        return torch.stack(self._e, 1)

    @property
    def log_p(self) -> Tensor:
        """(chains, draws)."""
        return torch.stack(self._log_p, 1)

    def ebfmi(self) -> float:
        """Energy Bayesian fraction of missing information (Betancourt 2016, arXiv:1604.00695)."""
        if len(self._energy) < 3:
            return math.nan
        energy = torch.stack(self._energy)
        return float(energy.diff(dim=0).square().mean() / energy.var())

    def thinned(self, draws: int) -> tuple[Tensor, Tensor]:
        """So many draws of each restart, evenly from all of its chains, and their log densities.

        The draws of one chain follow one another: whoever looks at autocorrelations sees those that are left.

        Returns:
            (restarts, draws, size) and (restarts, draws). Where fewer were kept, all of them.
        """
        chains = len(self._log_p[0]) // self.restarts
        count = min(len(self._e), math.ceil(draws / chains))
        # Evenly spaced, the last one included; of the first, only as many chains as are needed.
        index = [len(self._e) - 1 - (k * len(self._e)) // count for k in reversed(range(count))]
        keep = torch.ones(chains, count, dtype=torch.bool, device=self._e[0].device)
        keep[: max(0, count * chains - draws), 0] = False
        e = torch.stack([self._e[i].unflatten(0, (self.restarts, chains)) for i in index], 2)
        log_p = torch.stack([self._log_p[i].unflatten(0, (self.restarts, chains)) for i in index], 2)
        return e[:, keep], log_p[:, keep]
