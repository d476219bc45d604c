"""The ladder: all restarts of a fit climb together, and weights decide whether to stop, climb on or refuse.

Start, full-rank Gaussian, one component for every further mode, importance weights. Where these do not pass:
a flow in the Gaussian's whitened space, and many short Hamiltonian chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from inference.density import LogDensity
from inference.guides import full_rank, mean_field, rungs
from inference.guides.mixture import Mixture
from inference.guides.natural import Report
from inference.guides.start import climbs
from inference.modes import missed_mass, mixed
from inference.problems import Replicates
from inference.weighing import Replicate, weigh


@dataclass(frozen=True)
class Climbed:
    """What the ladder found.

    Attributes:
        replicates: each restart's draws and what its weights say.
        guides: each restart's guide.
        rung: the name of the family that was kept.
        converged: by restart.
        missed: share of the mass in a mode that no restart covers.
    """

    replicates: list[Replicate]
    guides: list[Any]
    rung: str
    converged: list[bool]
    missed: float

    @property
    def best(self) -> Any:
        """The guide with the best ELBO."""
        elbos = [r.elbo for r in self.replicates]
        return self.guides[elbos.index(max(elbos))]


def run(
    density: LogDensity,
    guide: str,
    generators: list[torch.Generator],
    draws: int,
    steps: int | None,
    report: Report,
) -> Climbed:
    """Fit all restarts of one density.

    Args:
        density: the target.
        guide: "auto", or the name of the rung to stop at.
        generators: one for each restart; the last draws what the restarts share.
        draws: equally weighted, of each restart.
        steps: cap on the steps of each loop.
        report: called with (rung, step, elbo).
    """
    *own, shared = generators
    problems = Replicates(density, len(own))
    rung = named(guide, density)
    ends = climbs(problems, own)
    fitted = rung.fit(problems, ends, own, report, steps)
    mixture = Mixture.single(fitted.guide, fitted.exact)
    if rung is full_rank:
        mixture = mixed(problems, fitted, ends, own, report)
    weighed = weigh(problems, mixture, _elbos(fitted.elbo, mixture), draws, own, adaptive=guide == "auto")
    guides, replicates = [mixture.component(p) for p in range(problems.count)], weighed.replicates
    mixture = weighed.proposal
    missed = 0.0
    if all(r.certified for r in replicates) and density.size <= full_rank.LARGEST:
        evidence = sum(r.log_evidence for r in replicates) / len(replicates)
        missed = missed_mass(problems, mixture, evidence, ends, shared)
    return Climbed(
        replicates, guides, rung.NAME, fitted.converged.tolist(), missed,
    )  # fmt: skip


def _elbos(elbo: Tensor, mixture: Mixture) -> Tensor:
    """Of one Gaussian, its own; of several far apart, each has its share of the mixture."""
    return elbo - mixture.log_weight[:, 0]


def named(guide: str, density: LogDensity) -> ModuleType:
    """The rung to fit.

    Raises:
        ValueError: for a name that is none, or a dense covariance of too many unknowns.
    """
    if guide == "auto":
        return full_rank if density.size <= full_rank.LARGEST else mean_field
    known = rungs()
    if guide not in known:
        raise ValueError(f"guide: expected 'auto' or one of {', '.join(sorted(known))}, got {guide!r}.")
    if guide != mean_field.NAME and density.size > full_rank.LARGEST:
        raise ValueError(
            f"guide: {guide!r} holds a dense covariance of {density.size} unknowns, expected at most "
            f"{full_rank.LARGEST}. Use guide='mean_field'."
        )
    return known[guide]
