"""Naive Bayes on grey levels, solved in closed form: what an estimate of it has to agree with.

The story: y ~ Categorical(weights), x_j | y ~ Binomial(16, ink[y, j]) for every pixel j. With
weights ~ Dirichlet and ink ~ Beta, both before and after data, everything about a further image
is known exactly. All log densities are in nats.

Source: Bishop (2006), Pattern Recognition and Machine Learning, section 2.1; the beta-binomial law
of a further count is from Skellam (1948), A probability distribution derived from the binomial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions import BetaBinomial
from torch import Tensor
from torch.distributions import Distribution

from experiments.truth.images.digits import LEVELS, Images


def log_joint(x: Tensor, weights: Tensor, ink: Tensor, seen: Tensor | None = None) -> Tensor:
    """Log p(x_i, y | weights, ink) for every class y; pixels that are not seen are summed out.

    Parameters
    ----------
    x
        Grey levels, (rows, pixels).
    weights, ink
        (..., classes) and (..., classes, pixels): one point, or a batch of draws.
    seen
        True where a pixel is seen, (pixels,) or (rows, pixels); all by default.

    Returns
    -------
    Tensor
        (..., rows, classes), float64.

    Examples
    --------
    >>> x, weights = torch.tensor([[16.0]]), torch.tensor([0.5, 0.5])
    >>> log_joint(x, weights, torch.tensor([[0.5], [1.0]])).exp()[0, 1].item()
    0.5
    """
    x, ink = x.double(), ink.double()
    seen = torch.ones_like(x) if seen is None else seen.to(x).expand_as(x)
    choose = torch.lgamma(torch.tensor(LEVELS + 1.0).to(x))
    choose = choose - torch.lgamma(x + 1) - torch.lgamma(LEVELS - x + 1)
    # An ink of exactly 0 or 1 is finite times 0 here, so it must not become -inf times 0.
    tiny = torch.finfo(x.dtype).tiny
    some, none = ink.clamp_min(tiny).log(), (1 - ink).clamp_min(tiny).log()
    log_x = (x * seen) @ some.mT + ((LEVELS - x) * seen) @ none.mT
    return log_x + (choose * seen).sum(-1, keepdim=True) + weights.double().log().unsqueeze(-2)


def predictive_log_joint(
    x: Tensor, posterior: Mapping[str, Distribution], seen: Tensor | None = None
) -> Tensor:
    """Log p(x_i, y | data) of one further image, the unknown weights and ink integrated out.

    Parameters
    ----------
    x, seen
        As in :func:`log_joint`.
    posterior
        ``weights``, a Dirichlet (classes,), and ``ink``, a Beta of batch shape (classes, pixels).

    Returns
    -------
    Tensor
        (rows, classes), float64: normalize over classes for p(y | x, data), sum for p(x | data).
    """
    x = x.double()
    ink: Any = posterior["ink"]
    law = BetaBinomial(ink.concentration1, ink.concentration0, total_count=LEVELS)
    by_pixel = law.log_prob(x.unsqueeze(1))
    if seen is not None:
        by_pixel = by_pixel * seen.to(x).expand_as(x).unsqueeze(1)
    return by_pixel.sum(-1) + posterior["weights"].mean.log()


def predictive_sample(posterior: Mapping[str, Distribution], rows: int, seed: int = 0) -> Images:
    """Draw images and labels, each from weights and ink of its own: the exact p(x, y | data).

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights, ink = posterior["weights"].sample((rows,)), posterior["ink"].sample((rows,))
        y = torch.multinomial(weights, 1).squeeze(-1)
        x = torch.distributions.Binomial(LEVELS, ink[torch.arange(rows), y]).sample()
    return Images(x, y)
