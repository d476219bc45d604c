"""A Gaussian in 100 dimensions whose covariance has the condition number 1e6, in a random basis.

Its longest axis is a thousand times its shortest. A full-rank Gaussian guide is exact here, and must be found
to within 1e-8 nats: ``divergence_from`` is the closed form.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior, Values

SIZE, CONDITION, SEED = 100, 1e6, 20_240_501


def axes() -> tuple[Tensor, Tensor, Tensor]:
    """Centre (100,), directions (100, 100) as columns, and standard deviations along them (100,)."""
    generator = torch.Generator().manual_seed(SEED)
    centre = 3.0 * torch.randn(SIZE, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))[0]
    reach = math.log10(CONDITION) / 4
    return centre, directions, torch.logspace(-reach, reach, SIZE, dtype=torch.float64)


CENTRE, DIRECTIONS, STDDEVS = axes()


def story() -> None:
    """Tell of z; nothing is seen, and the law itself is the posterior."""
    precision = (DIRECTIONS / STDDEVS**2) @ DIRECTIONS.T
    pyro.sample("z", dist.MultivariateNormal(CENTRE, precision_matrix=(precision + precision.T) / 2))
    pyro.factor("seen", torch.zeros(()))


def divergence_from(mean: Tensor, factor: Tensor) -> float:
    """KL(Normal(mean, factor factor') || this Gaussian), in nats.

    Written in the axes, where the covariance of a good guide is close to one, so that no digits are lost.

    Examples
    --------
    >>> divergence_from(CENTRE, DIRECTIONS * STDDEVS) < 1e-11
    True
    >>> round(divergence_from(CENTRE, 0.8 * DIRECTIONS * STDDEVS), 3)     # 50 (.64 - 1 - log .64)
    4.314
    """
    whitened = DIRECTIONS.T @ factor / STDDEVS[:, None]
    away = DIRECTIONS.T @ (mean - CENTRE) / STDDEVS
    # tr(W W') - 100 - log det(W W') + |away|^2, halved; log det by singular values.
    singular = torch.linalg.svdvals(whitened)
    spread = singular.square() - 1 - 2 * singular.log()
    return float(spread.sum() + away.square().sum()) / 2


def posterior() -> KnownPosterior:
    """Return the Gaussian; judged are the coordinates and the axes."""
    one = torch.ones(SIZE, dtype=torch.float64)
    stddev = ((DIRECTIONS * STDDEVS) ** 2).sum(-1).sqrt()
    return KnownPosterior(
        story,
        (),
        {},
        moments={"z": Moments(CENTRE, stddev, 3 * one), "axes": Moments(0 * one, STDDEVS, 3 * one)},
        sample=sample,
        log_prob=log_prob,
        log_evidence=0.0,
        quantities=lambda draws: {**draws, "axes": (draws["z"] - CENTRE) @ DIRECTIONS},
        never_refused=True,
    )


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_samples, SIZE, generator=generator, dtype=torch.float64)
    return {"z": CENTRE + (noise * STDDEVS) @ DIRECTIONS.T}


def log_prob(values: Values) -> Tensor:
    """In the axes."""
    along = (values["z"] - CENTRE) @ DIRECTIONS / STDDEVS
    return -0.5 * along.square().sum(-1) - STDDEVS.log().sum() - SIZE / 2 * math.log(2 * math.pi)
