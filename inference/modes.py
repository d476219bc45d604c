"""Look for modes that no restart found.

Importance weights cannot see what no draw has reached: with half of the mass in a mode ten standard
deviations away, k-hat of the other half is excellent. So a fit that would be trusted is challenged once
more: fresh overdispersed starts climb to modes of their own, and the mass around each is estimated by
importance sampling from its Laplace approximation, counting only points that the guides do not cover.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from inference.density import LogDensity
from inference.guides.full_rank import LARGEST
from inference.guides.gaussian import Gaussian
from inference.guides.start import laplace, mode, overdispersed

_STARTS = 8  # of two equal modes, four restarts and eight starts miss one with chance 2^-11
_DRAWS = 512
_COVERED = math.log(100.0)  # a point is covered if the guides give it a hundredth of its density
MISSED = 0.01  # share of the posterior's mass in a missed mode that is not tolerated


def missed_mass(
    density: LogDensity, guides: Sequence[Gaussian], log_evidence: float, generator: torch.Generator
) -> float:
    """Estimate the largest share of posterior mass in one mode that the guides do not cover.

    Args:
        density: the target.
        guides: of all restarts; a point is covered if their mixture covers it.
        log_evidence: as the restarts estimated it, in nats.
        generator: of the starts and draws.

    Returns:
        Between 0 and 1, relative to the mass found and missed together.
    """
    if density.size > LARGEST:
        return 0.0
    wide = [guide.with_tails() for guide in guides]
    largest = -math.inf
    for _ in range(_STARTS):
        point = mode(density, overdispersed(density, generator))
        local = laplace(density, point).with_tails()
        z = local.sample(_DRAWS, generator)
        log_p = density.log_prob(z)
        missed = torch.isfinite(log_p) & (_mixture(wide, z) < log_p - log_evidence - _COVERED)
        if bool(missed.any()):
            log_w = (log_p - local.log_prob(z))[missed]
            largest = max(largest, float(log_w.logsumexp(0)) - math.log(_DRAWS))
    share = math.exp(min(largest - log_evidence, 700.0))
    return share / (1 + share)


def _mixture(guides: Sequence[Gaussian], z: Tensor) -> Tensor:
    parts = torch.stack([guide.log_prob(z) for guide in guides])
    return parts.logsumexp(0) - math.log(len(guides))
