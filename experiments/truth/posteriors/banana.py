"""A banana: a Gaussian bent along a parabola, ten times as long as it is thick.

first ~ Normal(0, 10^2), second | first ~ Normal(.03 (first^2 - 100), 1). What is judged beside both is the
distance from the parabola, which is standard normal: it sees at once whether draws leave the curve.

Source: Haario, Saksman and Tamminen (1999), Adaptive proposal distribution for random walk Metropolis
algorithm, Computational Statistics 14, section 4.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior, Values

ALONG, BEND = 10.0, 0.03


def story() -> None:
    """Tell of both coordinates; nothing is seen, and the law itself is the posterior."""
    first = pyro.sample("first", dist.Normal(0.0, ALONG))
    pyro.sample("second", dist.Normal(middle(first), 1.0))
    pyro.factor("seen", torch.zeros(()))


def middle(first: Tensor) -> Tensor:
    """The parabola."""
    return BEND * (first**2 - ALONG**2)


def posterior() -> KnownPosterior:
    """Return the banana."""
    zero = torch.zeros((), dtype=torch.float64)
    # BEND ALONG^2 (chi2_1 - 1) has cumulants 2^(n-1) (n-1)! (BEND ALONG^2)^n; the noise adds 1 to the second.
    size = BEND * ALONG**2
    variance, fourth = 2 * size**2 + 1, 48 * size**4
    return KnownPosterior(
        story,
        (),
        {},
        moments={
            "first": Moments(zero, zero + ALONG, zero + 3),
            "second": Moments(zero, zero + math.sqrt(variance), zero + 3 + fourth / variance**2),
            "off the parabola": Moments(zero, zero + 1, zero + 3),
        },
        sample=sample,
        log_prob=log_prob,
        log_evidence=0.0,
        quantities=lambda draws: {
            **draws,
            "off the parabola": draws["second"] - middle(draws["first"]),
        },  # fmt: skip
    )


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly."""
    generator = torch.Generator().manual_seed(seed)
    first, noise = torch.randn(2, num_samples, generator=generator, dtype=torch.float64)
    return {"first": ALONG * first, "second": middle(ALONG * first) + noise}


def log_prob(values: Values) -> Tensor:
    """Of both sites, written out."""
    first, second = values["first"], values["second"]
    square = (first / ALONG) ** 2 + (second - middle(first)) ** 2
    return -0.5 * square - math.log(ALONG) - math.log(2 * math.pi)
