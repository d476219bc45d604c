"""Class-conditional binomial pixels: naive Bayes on grey levels.

Story
    Every class (a digit, say) has its own amount of ink per pixel. To make an image, choose a class
    ``y``, then let every pixel count how many of ``levels`` drops of ink arrive, each with that
    class's chance at that pixel. Given the class, pixels are independent: this is what makes the
    story naive, and what a comparison with held-out images shows to be false.

Joint
    p(weights) p(ink) prod_i p(y_i | weights) prod_j p(x_ij | y_i, ink), with

    - weights ~ Dirichlet(1, ..., 1)
    - ink[c, j] ~ Beta(1, 1)
    - y_i ~ Categorical(weights)
    - x_ij ~ Binomial(levels, ink[y_i, j])

Shapes
    weights (classes,), ink (classes, pixels), y (n,) integers, x (n, pixels) counts in 0..levels.

Priors
    Uniform, on the simplex and on every unit interval: one imagined image of each class and one
    imagined drop that arrived and one that did not, at every pixel ("add-one smoothing").

Answers
    p(x | y): generate
    p(y | x): invert; pixels may be missing
    p(x): weigh
    p(ink, weights | x, y): learn, exactly where every y is known

Source
    Bishop (2006), Pattern Recognition and Machine Learning, sections 2.1 and 4.2.3 (with grey levels
    as binomial counts instead of black and white). Its plug-in classifier at the posterior means is
    scikit-learn's ``MultinomialNB(alpha=1)`` on the stacked counts ``[x, levels - x]``.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution


def binomial_pixels(n: int, classes: int = 10, pixels: int = 64, levels: int = 16) -> Tensor:
    """Tell the story of ``n`` images; returns the images, shape (n, pixels).

    Example:
        >>> import pyro, torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     binomial_pixels(5).shape
        torch.Size([5, 64])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(classes)))
    with pyro.plate("class", classes, dim=-2), pyro.plate("pixel", pixels, dim=-1):
        ink = pyro.sample("ink", dist.Beta(1.0, 1.0))
    with pyro.plate("image", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.Binomial(levels, ink[y]).to_event(1))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    classes: int = 10,
    pixels: int = 64,
    levels: int = 16,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the latent sites given labelled images, in closed form.

    Args:
        data: ``x`` (n, pixels) and ``y`` (n,).
        n, classes, pixels, levels: as the story was called.
        given: values of latent sites to condition on; the sites are independent a posteriori, so it
            only removes the sites it names.

    Returns:
        ``weights``: a Dirichlet over classes; ``ink``: a Beta of batch shape (classes, pixels).
    """
    y = data["y"].long()
    x = data["x"].double()
    counts = torch.bincount(y, minlength=classes).double()
    drops = torch.zeros(classes, pixels, dtype=torch.float64).index_add_(0, y, x)
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + counts),
        "ink": dist.Beta(1.0 + drops, 1.0 + counts[:, None] * levels - drops),
    }
    return {name: q for name, q in posterior.items() if name not in (given or {})}


EXAMPLE = (
    (6, 4, 3, 5),
    {
        "x": torch.tensor(
            [[2, 3, 5], [3, 2, 4], [4, 4, 2], [5, 3, 2], [2, 2, 4], [4, 5, 3]], dtype=torch.float64
        ),
        "y": torch.tensor([2, 2, 3, 3, 2, 3]),
    },
)
