"""Two modes, .3 and .7 of the mass, nine standard deviations apart, of different shapes.

z ~ .3 Normal(left) + .7 Normal(right) in the plane. Importance weights of a guide that holds one mode are
perfect; what is judged beside both coordinates is the share of the left mode.

Source: numbers of our own; the weights are those that this project's tests ask for.
"""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior, Values
from experiments.truth.quadrature import expected_moments, normal_powers

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
CENTRES = torch.tensor([[-4.0, -3.0], [5.0, 2.0]], dtype=torch.float64)
# Cholesky factors of the covariances: correlations .6 and -.5.
FACTORS = torch.tensor([[[1.1, 0.0], [0.6, 0.8]], [[0.7, 0.0], [-0.45, 0.78]]], dtype=torch.float64)


def posterior() -> KnownPosterior:
    """Return the mixture."""
    return mixture(WEIGHTS, CENTRES, FACTORS, never_refused=True)


def apart(weight: float, distance: float) -> KnownPosterior:
    """Two round modes of standard deviation 1, centred at -distance / 2 and distance / 2 on the first axis.

    Parameters
    ----------
    weight
        Of the left one.
    distance
        Between the centres, in standard deviations.
    """
    centres = torch.tensor([[-distance / 2, 0.5], [distance / 2, 0.5]], dtype=torch.float64)
    weights = torch.tensor([weight, 1 - weight], dtype=torch.float64)
    return mixture(weights, centres, torch.eye(2, dtype=torch.float64).expand(2, 2, 2))


def mixture(weights: Tensor, centres: Tensor, factors: Tensor, never_refused: bool = False) -> KnownPosterior:
    """A mixture of normals in the plane, the left centre first, with the axis first = 0 between them."""
    variance = factors.square().sum(-1)
    inside = torch.special.ndtr(-centres[:, 0] / variance[:, 0].sqrt())
    return KnownPosterior(
        partial(story, weights, centres, factors),
        (),
        {},
        moments={
            "z": expected_moments(weights, normal_powers(centres, variance)),
            "left": bernoulli(weights @ inside),
        },
        sample=partial(sample, weights, centres, factors),
        log_prob=partial(log_prob, weights, centres, factors),
        log_evidence=0.0,
        quantities=lambda draws: {**draws, "left": (draws["z"][..., 0] < 0).double()},
        never_refused=never_refused,
    )


def story(weights: Tensor, centres: Tensor, factors: Tensor) -> None:
    """Tell of z; nothing is seen, and the law itself is the posterior."""
    parts = dist.MultivariateNormal(centres, scale_tril=factors)
    pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(weights), parts))
    pyro.factor("seen", torch.zeros(()))


def bernoulli(chance: Tensor) -> Moments:
    """Moments of an event."""
    variance = chance * (1 - chance)
    return Moments(chance, variance.sqrt(), 1 / variance - 3)


def sample(
    weights: Tensor, centres: Tensor, factors: Tensor, num_samples: int, seed: int
) -> dict[str, Tensor]:
    """Draw exactly."""
    generator = torch.Generator().manual_seed(seed)
    part = weights.multinomial(num_samples, replacement=True, generator=generator)
    noise = torch.randn(num_samples, 2, 1, generator=generator, dtype=torch.float64)
    return {"z": centres[part] + (factors[part] @ noise)[..., 0]}


def log_prob(weights: Tensor, centres: Tensor, factors: Tensor, values: Values) -> Tensor:
    """Written out, by the inverse of the factors."""
    away = values["z"][:, None] - centres
    standardized = torch.linalg.solve_triangular(factors, away[..., None], upper=False)[..., 0]
    log_det = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    parts = -0.5 * standardized.square().sum(-1) - log_det - math.log(2 * math.pi)
    return (parts + weights.log()).logsumexp(-1)
