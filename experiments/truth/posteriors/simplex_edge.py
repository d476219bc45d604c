"""A posterior on a simplex near its edge: three of six categories were never seen, and a priori rarely are.

weights ~ Dirichlet(.05, ..., .05), and of 44 rows the first, third and sixth category have none: their
weights have Beta(.05, 44.25) marginals, most of whose mass lies below 1e-5 and a tenth below 1e-21. Judged
are the weights and, of those never seen, the value u of their distribution function, uniform on (0, 1).

Source: numbers of our own.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior

PRIOR = 0.05
COUNTS = torch.tensor([0, 31, 0, 12, 1, 0])
UNSEEN = COUNTS == 0
SHAPE = PRIOR + COUNTS.double()
TOTAL = float(SHAPE.sum())


def story(n: int) -> Tensor:
    """Tell of ``n`` rows of one category each."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.full((len(COUNTS),), PRIOR, dtype=torch.float64)))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Categorical(weights))


def posterior() -> KnownPosterior:
    """Return the weights."""
    y = torch.arange(len(COUNTS)).repeat_interleave(COUNTS)
    uniform = torch.ones(int(UNSEEN.sum()), dtype=torch.float64)
    law = dist.Dirichlet(SHAPE, validate_args=False)
    prior = torch.full_like(SHAPE, PRIOR)
    log_evidence = float((SHAPE.lgamma() - prior.lgamma()).sum())
    log_evidence += math.lgamma(float(prior.sum())) - math.lgamma(TOTAL)
    return KnownPosterior(
        story,
        (len(y),),
        {"y": y},
        moments={"weights": beta(SHAPE), "u": Moments(uniform / 2, uniform / math.sqrt(12), 1.8 * uniform)},
        sample=sample,
        log_prob=lambda values: law.log_prob(values["weights"]),
        log_evidence=log_evidence,
        quantities=lambda draws: {**draws, "u": distribution_function(draws["weights"][..., UNSEEN])},
    )


def beta(shape: Tensor) -> Moments:
    """Moments of the marginals, Beta(shape, total - shape)."""
    other = TOTAL - shape
    mean = shape / TOTAL
    variance = mean * (1 - mean) / (TOTAL + 1)
    bend = (shape - other) ** 2 * (TOTAL + 1) - shape * other * (TOTAL + 2)
    return Moments(mean, variance.sqrt(), 3 + 6 * bend / (shape * other * (TOTAL + 2) * (TOTAL + 3)))


def distribution_function(weights: Tensor) -> Tensor:
    """P(weight <= value) of a category never seen."""
    from scipy.special import betainc

    return torch.as_tensor(betainc(PRIOR, TOTAL - PRIOR, weights.double().numpy()))


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly, by gamma variables; the smallest underflow to 0 beyond 1e-308."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {"weights": dist.Dirichlet(SHAPE).sample((num_samples,))}
