"""Neal's funnel: one unknown sets the spread of nine others, over factors of thousands.

v ~ Normal(0, 3^2), z_i | v ~ Normal(0, exp(v)), nine of them. No Gaussian comes near it: the neck is as
probable as the mouth. The second moment of z is finite and useless (its kurtosis is 3 e^9), so what is
judged of z is log |z|, whose moments are those of v / 2 plus log |Normal(0, 1)|, and its sign.

Source: Neal (2003), Slice sampling, Annals of Statistics 31, section 8.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior, Values

STDDEV, WIDTH = 3.0, 9
EULER = 0.5772156649015329


def story() -> None:
    """Tell of v and z; nothing is seen, and the law itself is the posterior."""
    v = pyro.sample("v", dist.Normal(0.0, STDDEV))
    pyro.sample("z", dist.Normal(0.0, (v / 2).exp()).expand([WIDTH]).to_event(1))
    pyro.factor("seen", torch.zeros(()))


def posterior() -> KnownPosterior:
    """Return the funnel."""
    # log |Normal(0, 1)| is log chi2_1 / 2: its cumulants are polygammas at 1/2.
    one = torch.ones(WIDTH, dtype=torch.float64)
    variance = (STDDEV / 2) ** 2 + math.pi**2 / 8
    fourth = math.pi**4 / 16  # psi'''(1/2) = pi^4, times 1/2^4; a normal adds none
    normal = torch.tensor(STDDEV, dtype=torch.float64)
    return KnownPosterior(
        story,
        (),
        {},
        moments={
            "v": Moments(0 * normal, normal, 3 + 0 * normal),
            "log |z|": Moments(
                -(EULER + math.log(2)) / 2 * one, math.sqrt(variance) * one, (3 + fourth / variance**2) * one
            ),
            "z > 0": Moments(one / 2, one / 2, one),
        },
        sample=sample,
        log_prob=log_prob,
        log_evidence=0.0,
        quantities=lambda draws: {
            "v": draws["v"],
            "log |z|": draws["z"].abs().log(),
            "z > 0": (draws["z"] > 0).double(),
        },
    )


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly."""
    generator = torch.Generator().manual_seed(seed)
    v, *z = torch.randn(1 + WIDTH, num_samples, generator=generator, dtype=torch.float64)
    v = STDDEV * v
    return {"v": v, "z": torch.stack(z, -1) * (v / 2).exp()[:, None]}


def log_prob(values: Values) -> Tensor:
    """Of both sites, written out."""
    v, z = values["v"], values["z"]
    square = (v / STDDEV) ** 2 + (z**2).sum(-1) * (-v).exp() + WIDTH * v
    return -0.5 * square - math.log(STDDEV) - 0.5 * (1 + WIDTH) * math.log(2 * math.pi)
