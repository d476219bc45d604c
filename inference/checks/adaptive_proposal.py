"""Adapt a proposal to the target by its own weighted draws.

The guide that maximises the ELBO is narrower than the posterior where the two differ in shape, and
importance weights feel it most in the tails. Weighted draws know better: a mixture of a few components is
fitted to them by expectation-maximisation, which lowers KL(posterior || mixture) instead (Cappe, Douc,
Guillin, Marin and Robert 2008, "Adaptive importance sampling in general mixture classes", Statistics and
Computing 18), and weights of fresh draws from it are the ones that are judged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.guides.gaussian import Gaussian, standard_log_prob, tail_df
from inference.guides.mixture import Mixture

_COMPONENTS = 6
_PER_UNKNOWN = 4  # effective draws for every unknown of a component
_STEPS = 8
_WIDER, _DEFENSE = 3.0, 0.1  # variance of the component for the tails, and its share
_NARROWER = 4.0  # times narrower than all draws that components around some of them begin
_FLOOR = 1e-3  # smallest share of a component


def adapt(mixture: Mixture, z: Tensor, log_w: Tensor, generators: list[torch.Generator]) -> Mixture:
    """Fit mixtures to weighted draws.

    Args:
        mixture: that the draws came from; a mixture of several modes keeps its components.
        z: (problems, draws, size).
        log_w: (problems, draws) normalized, smoothed log weights.
        generators: of the new components' places, one for each problem.
    """
    weights = log_w.exp()
    ess = 1 / weights.square().sum(1)
    start = _split(mixture, z, weights, ess, generators)
    for _ in range(_STEPS):
        start = _step(start, mixture, z, weights, ess)
    return _defended(start, z, weights)


def mixture_around(z: Tensor, generators: list[torch.Generator]) -> Mixture:
    """Mixtures as near as a few components come to equally weighted draws (problems, draws, size).

    One Gaussian around draws in two modes would cover what lies between them, where there are none.
    """
    centred = z - z.mean(1, keepdim=True)
    covariance = centred.mT @ centred / z.shape[1]
    factor, failed = torch.linalg.cholesky_ex(covariance)
    wide = torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1).sqrt().clamp(min=1e-12))
    whole = Gaussian(z.mean(1), torch.where((failed == 0)[:, None, None], factor, wide))
    narrow = Mixture.single(Gaussian(whole.loc, whole.scale / _NARROWER))
    weights = torch.full(z.shape[:2], 1 / z.shape[1], dtype=torch.float64)
    ess = 1 / weights.square().sum(1)
    found = _split(narrow, z, weights, ess, generators)
    if found.log_weight.shape[1] == 1:
        return Mixture.single(whole)
    for _ in range(2 * _STEPS):
        found = _step(found, narrow, z, weights, ess)
    return found


def _defended(mixture: Mixture, z: Tensor, weights: Tensor) -> Mixture:
    """With one more component, as wide as all draws and more, so that tails are met often enough.

    What was fitted is as narrow as the draws that were weighed, and these were too narrow.
    """
    mean = (weights[:, None] @ z)[:, 0]
    centred = z - mean[:, None]
    covariance = _WIDER * (centred * weights[..., None]).mT @ centred
    factor, failed = torch.linalg.cholesky_ex(covariance)
    fine = (failed == 0) & torch.isfinite(factor).flatten(1).all(1)
    factor = torch.where(fine[:, None, None], factor, _WIDER**0.5 * mixture.parts.scale[:, 0])
    loc = torch.cat([mixture.parts.loc, mean[:, None]], 1)
    scale = torch.cat([mixture.parts.scale, factor[:, None]], 1)
    wide = torch.full((len(z), 1), _DEFENSE, dtype=torch.float64).log()
    share = torch.cat([mixture.log_weight + math.log1p(-_DEFENSE), wide], 1)
    return Mixture.of_parts(Gaussian(loc, scale), share)


def _split(
    mixture: Mixture, z: Tensor, weights: Tensor, ess: Tensor, generators: list[torch.Generator]
) -> Mixture:
    """Components of the same spread, at places drawn by the weights; those of several modes as they are."""
    if mixture.log_weight.shape[1] > 1:
        return Mixture.of_parts(mixture.parts, mixture.log_weight)
    count = int((ess.min() / (_PER_UNKNOWN * mixture.size)).clamp(1, _COMPONENTS))
    if count == 1:
        return Mixture.of_parts(mixture.parts, mixture.log_weight)
    places = torch.stack(
        [z[p][torch.multinomial(weights[p], count, generator=g)] for p, g in enumerate(generators)]
    )
    scale = mixture.parts.scale.expand(-1, count, *mixture.parts.scale.shape[2:])
    share = torch.full((len(z), count), 1 / count, dtype=torch.float64)
    return Mixture.of_parts(Gaussian(places, scale), share.log())


def _step(now: Mixture, before: Mixture, z: Tensor, weights: Tensor, ess: Tensor) -> Mixture:
    """One step of expectation-maximisation, covariances drawn towards those before by a few draws' weight."""
    df, size = tail_df(now.size), now.size
    squares = now.squares(z)
    base = (now.log_weight - now.parts.log_det)[..., None]
    kinds = torch.stack([standard_log_prob(squares, size), standard_log_prob(squares, size, df)]) + base
    share = (kinds - kinds.logsumexp((0, 2), keepdim=True)).exp() * weights[:, None]
    total = share.sum((0, 3)).clamp(min=1e-300)  # (problems, components)
    pull = share[0] + share[1] * ((df + size) / (df + squares))
    loc = (pull @ z) / pull.sum(-1, keepdim=True).clamp(min=1e-300)
    prior = size + 2.0
    keep = total * ess[:, None] / (total * ess[:, None] + prior)
    old = before.parts.scale @ before.parts.scale.mT
    scatter = _scatter(pull, z, loc) / total[..., None, None]
    covariance = keep[..., None, None] * scatter + (1 - keep)[..., None, None] * old
    factor, failed = torch.linalg.cholesky_ex(covariance)
    fine = (failed == 0) & (total > _FLOOR) & torch.isfinite(factor).flatten(2).all(-1)
    weight = torch.where(fine, total, 0.0)
    parts = Gaussian(
        torch.where(fine[..., None], loc, now.parts.loc),
        torch.where(fine[..., None, None], factor, now.parts.scale),
    )
    return Mixture.of_parts(parts, (weight / weight.sum(1, keepdim=True)).log())


def _scatter(pull: Tensor, z: Tensor, loc: Tensor) -> Tensor:
    """Sums of pull (z - loc)(z - loc)' over the draws: (problems, components, size, size)."""
    parts = []
    for k in range(loc.shape[1]):
        centred = z - loc[:, k, None]
        parts.append((centred * pull[:, k, :, None]).mT @ centred)
    return torch.stack(parts, 1)
