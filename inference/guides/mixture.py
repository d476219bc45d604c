"""What draws are weighed from: one or several Gaussians and Student t's of the same place, mixed.

Half of the draws come from the fitted Gaussians and half from Student t's of the same location and scale,
and all are weighed against the mixture of both (Hesterberg 1995, "Weighted average importance sampling
and defensive mixture distributions"): the Gaussians give a large effective size where they fit, the t's
bound the weights in the tails. Several components stand for several modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.guides.gaussian import Gaussian, standard_log_prob, student_factor, tail_df


@dataclass(frozen=True)
class Mixture:
    """Mixtures of Gaussians, one for each of many problems.

    Attributes:
        parts: a batch (problems, components) of Gaussians; padding is allowed.
        log_weight: (problems, components), normalized; ``-inf`` for padding.
        tails: (problems,) share of the Student t's.
    """

    parts: Gaussian
    log_weight: Tensor
    tails: Tensor

    @classmethod
    def of_parts(cls, parts: Gaussian, log_weight: Tensor) -> Mixture:
        """With half of every component in the tails."""
        return cls(parts, log_weight, torch.full((len(log_weight),), 0.5, dtype=torch.float64))

    @classmethod
    def single(cls, guides: Gaussian, exact: Tensor | None = None) -> Mixture:
        """One component for each problem of a batch of Gaussians; without tails for those that are exact."""
        made = cls.of_parts(guides[:, None], torch.zeros(len(guides.loc), 1, dtype=torch.float64))
        return made if exact is None else cls(made.parts, made.log_weight, 0.5 * (~exact).double())

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.parts.size

    @property
    def count(self) -> int:
        """Number of problems."""
        return len(self.log_weight)

    @property
    def most(self) -> int:
        """Components of the problem that has most of them."""
        return int(torch.isfinite(self.log_weight).sum(1).max())

    def of(self, which: Tensor | None) -> Mixture:
        """Those of some problems."""
        return (
            self if which is None else Mixture(self.parts[which], self.log_weight[which], self.tails[which])
        )

    def put(self, rows: Tensor, other: Mixture) -> Mixture:
        """With some problems' mixtures replaced, all padded to as many components as the largest has."""
        most = max(self.log_weight.shape[1], other.log_weight.shape[1])
        mine, theirs = self._padded(most), other._padded(most)
        for a, b in zip(mine, theirs, strict=True):
            a[rows] = b
        tails = self.tails.clone()
        tails[rows] = other.tails
        return Mixture(Gaussian(mine[0], mine[1]), mine[2], tails)

    def _padded(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Copies of location, scale and log weight with that many components."""
        lack = count - self.log_weight.shape[1]
        index = torch.cat([torch.arange(count - lack), torch.zeros(lack, dtype=torch.long)])
        weight = torch.cat(
            [self.log_weight, self.log_weight.new_full((len(self.log_weight), lack), -torch.inf)], 1
        )
        return self.parts.loc[:, index], self.parts.scale[:, index], weight

    def component(self, problem: int) -> Gaussian | Mixture:
        """One problem's guide: a Gaussian where it has one component, else a mixture (components,)."""
        real = torch.isfinite(self.log_weight[problem])
        if int(real.sum()) == 1:
            return self.parts[problem, int(real.nonzero())]
        return Mixture(self.parts[problem][real], self.log_weight[problem][real], self.tails[problem])

    def sample(self, count: int, generators: list[torch.Generator]) -> Tensor:
        """Draw (problems, count, size): halves from Gaussians and t's, components by their weights."""
        e = torch.empty(self.count, count, self.size, dtype=torch.float64)
        for one, wide, generator in zip(e, (self.tails > 0).tolist(), generators, strict=True):
            one.normal_(generator=generator)
            if wide:
                one[1::2] *= student_factor(tail_df(self.size), count // 2, generator)
        if self.log_weight.shape[1] == 1:
            return self.parts[:, 0].scaled(e)
        return torch.stack([self._placed(p, e[p], g) for p, g in enumerate(generators)])

    def _placed(self, problem: int, e: Tensor, generator: torch.Generator) -> Tensor:
        """Standardized draws (draws, size) of one problem, at components chosen by their weights."""
        count, share = len(e), self.log_weight[problem].exp().cumsum(0)
        if bool(share[0] == share[-1]):  # the others are padding, and cost no random numbers
            return self.parts[problem, 0].scaled(e)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64) * share[-1]
        chosen = torch.searchsorted(share, uniform).clamp(max=len(share) - 1)
        z = torch.empty_like(e)
        for k in chosen.unique().tolist():
            z[chosen == k] = self.parts[problem, k].scaled(e[chosen == k])
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of the mixture of Gaussians and t's at (problems, draws, size), in nats."""
        square = self.squares(z)
        normal, wide = (standard_log_prob(square, self.size, df) for df in (None, tail_df(self.size)))
        share = self.tails[:, None, None]
        both = torch.logaddexp(normal + torch.log1p(-share), wide + share.log())
        each = both + (self.log_weight - self.parts.log_det)[..., None]
        return each[:, 0] if each.shape[1] == 1 else each.logsumexp(1)

    def squares(self, z: Tensor) -> Tensor:
        """Squared standardized distances (problems, components, draws) of (problems, draws, size)."""
        if self.parts.diagonal:
            return self.parts.standardized(z[:, None]).square().sum(-1)
        problems, components, size = self.parts.loc.shape
        unit = torch.eye(size, dtype=torch.float64).expand(problems, components, size, size)
        inverse = torch.linalg.solve_triangular(self.parts.scale, unit, upper=False)
        first = self.parts.loc[:, :1]  # distances are taken from here, for the sake of rounding
        centre = (inverse @ (self.parts.loc - first)[..., None]).reshape(problems, 1, components * size)
        e = (z - first) @ inverse.reshape(problems, components * size, size).mT - centre
        return e.square().reshape(problems, -1, components, size).sum(-1).mT
