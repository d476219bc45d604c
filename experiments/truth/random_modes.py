"""Posteriors of two or three modes drawn at random: how many there are of them that a fit cannot know of?

A mixture of normals in one to eight dimensions, its centres eight units apart in each direction, its modes
between a third of a unit and three units wide. What a story says beforehand decides how hard such modes
are to find, so each mixture comes with three priors and the same posterior: "own", where the mixture itself
is the prior and the data say nothing; "broad", a normal prior of standard deviation 12 that the data
narrow down to the mixture; "flat", no proper prior at all.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.known_posterior import KnownPosterior
from experiments.truth.posteriors.two_modes import mixture

PRIORS = ("own", "broad", "flat")
CENTRE = 8.0  # standard deviation of the centres
BROAD = 12.0  # of the broad prior: it reaches all centres
WIDEST = 3.0  # standard deviation along an axis; 1 / 3 is the narrowest
MOST, LARGEST = 3, 8  # modes, unknowns
RARE = 0.01  # a share of draws left of 0 below which it has no spread to be judged by


def random_modes(seed: int, prior: str) -> KnownPosterior:
    """Return one posterior: the same mixture for every prior.

    Parameters
    ----------
    seed
        Of the mixture.
    prior
        One of ``PRIORS``.

    Raises
    ------
    ValueError
        For another prior.

    Examples
    --------
    >>> sorted(random_modes(3, "broad").moments)
    ['left', 'z']
    """
    if prior not in PRIORS:
        raise ValueError(f"prior: expected one of {', '.join(PRIORS)}, got {prior!r}.")
    generator = torch.Generator().manual_seed(seed)
    weights, centres, factors = _drawn(generator)
    known = mixture(weights, centres, factors)
    while not RARE < float(known.moments["left"].mean) < 1 - RARE:
        weights, centres, factors = _drawn(generator)
        known = mixture(weights, centres, factors)
    if prior == "own":
        return known
    return replace(known, story=partial(story, weights, centres, factors, prior == "broad"))


def story(weights: Tensor, centres: Tensor, factors: Tensor, broad: bool) -> None:
    """Tell of z from a prior that is not the mixture, and let the likelihood make up for it."""
    size = centres.shape[-1]
    if broad:
        base = dist.Normal(torch.zeros(size, dtype=torch.float64), BROAD).to_event(1)
    else:
        base = dist.ImproperUniform(dist.constraints.real_vector, (), (size,))
    z = pyro.sample("z", base)
    parts = dist.MultivariateNormal(centres, scale_tril=factors)
    log_p = dist.MixtureSameFamily(dist.Categorical(weights), parts).log_prob(z)
    pyro.factor("seen", log_p - base.log_prob(z) if broad else log_p)


def _drawn(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, centres and Cholesky factors of a mixture."""
    size = int(torch.randint(1, LARGEST + 1, (), generator=generator))
    modes = int(torch.randint(2, MOST + 1, (), generator=generator))
    gamma = -torch.rand(modes, 2, generator=generator, dtype=torch.float64).log().sum(-1)  # of shape 2
    centres = CENTRE * torch.randn(modes, size, generator=generator, dtype=torch.float64)
    spread = math.log(WIDEST) * (2 * torch.rand(modes, size, generator=generator, dtype=torch.float64) - 1)
    below = torch.randn(modes, size, size, generator=generator, dtype=torch.float64).tril(-1)
    return gamma / gamma.sum(), centres, 0.3 * below + torch.diag_embed(spread.exp())
