"""Gaussian naive Bayes: every class has a mean and a variance for every feature, and no correlations.

Story
    Every class is a cloud whose axes run along the features. To make a row, choose a class ``y``, then
    draw each feature of ``x`` by itself from that class's normal. Given the class, features tell nothing
    of one another: this is what makes the story naive. It is cheap (two numbers per class and feature)
    and often names the class well, but its p(x) counts the same evidence over and over, so that
    its p(y | x) is too sure of itself where features are correlated.

Joint
    p(weights) p(variance) p(mean | variance) prod_i p(y_i | weights) prod_j p(x_ij | y_i, mean, variance)

    - weights ~ Dirichlet(1, ..., 1)
    - variance[c, j] ~ InverseGamma(2, spread^2)
    - mean[c, j] ~ Normal(location, variance[c, j] / strength)
    - y_i ~ Categorical(weights)
    - x_ij ~ Normal(mean[y_i, j], variance[y_i, j])

Shapes
    weights (classes,), variance (classes, features) in squared units of x, mean (classes, features),
    y (n,) integers, x (n, features).

Priors
    The expected variance is spread^2, with infinite spread of its own (shape 2, that is four imagined
    rows); a class mean is worth ``strength`` imagined rows at ``location``. A feature that never varies
    in a class, such as a pixel that is always blank, keeps a variance of about 2 spread^2 / rows.

Answers
    p(x | y): generate, feature by feature
    p(y | x): invert; parts of x may be missing
    p(x): weigh
    p(mean, variance, weights | x, y): learn, exactly where every y is known

Source
    Murphy (2012), Machine Learning: A Probabilistic Perspective, sections 3.5 and 4.6.2 (normal-inverse-
    gamma). scikit-learn's ``GaussianNB`` is the same p(x, y) with one set of parameters, the averages of
    the rows; it adds ``var_smoothing`` to every variance instead of a prior.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution


def gaussian_naive_bayes(
    n: int,
    classes: int = 2,
    features: int = 2,
    location: float = 0.0,
    spread: float = 1.0,
    strength: float = 0.1,
) -> Tensor:
    """Tell the story of ``n`` rows; returns the features, shape (n, features).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     gaussian_naive_bayes(5, features=3).shape
    torch.Size([5, 3])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(classes)))
    with pyro.plate("class", classes, dim=-2), pyro.plate("feature", features, dim=-1):
        variance = pyro.sample("variance", dist.InverseGamma(2.0, spread**2))
        mean = pyro.sample("mean", dist.Normal(location, (variance / strength).sqrt()))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.Normal(mean[y], variance[y].sqrt()).to_event(1))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    classes: int = 2,
    features: int = 2,
    location: float = 0.0,
    spread: float = 1.0,
    strength: float = 0.1,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the latent sites given labelled rows, in closed form.

    Parameters
    ----------
    data
        ``x`` (n, features) and ``y`` (n,).
    n, classes, features, location, spread, strength
        As the story was called.
    given
        Values of latent sites to condition on. Given ``variance``, the means are normal, otherwise Student
        t; given ``mean``, the variances are narrower.

    Returns
    -------
    dict
        ``weights`` (Dirichlet), ``variance`` (InverseGamma) and ``mean``, the latter two of batch shape
        (classes, features): each the marginal posterior of its site given the sites in ``given``.
    """
    given = given or {}
    member = torch.nn.functional.one_hot(data["y"].long(), classes).double()
    x = data["x"].double() - location
    counts = member.sum(0)
    kappa = (strength + counts)[:, None]
    shift = member.T @ x / kappa
    shape = 2.0 + counts[:, None] / 2
    rate = spread**2 + (member.T @ x**2 - kappa * shift**2) / 2
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + counts),
        "variance": dist.InverseGamma(shape.expand_as(rate), rate),
    }
    if "mean" in given:
        square = kappa * (given["mean"] - location - shift) ** 2
        posterior["variance"] = dist.InverseGamma(shape + 0.5, rate + square / 2)
    if "variance" in given:
        posterior["mean"] = dist.Normal(location + shift, (given["variance"] / kappa).sqrt())
    else:
        stddev = (rate / (shape * kappa)).sqrt()
        posterior["mean"] = dist.StudentT(2 * shape, location + shift, stddev)
    return {name: q for name, q in posterior.items() if name not in given}


EXAMPLE = (
    (12, 3, 2, 2.0, 3.0, 0.2),
    {
        "x": torch.tensor(
            [
                [2.5, -3.1], [3.4, -2.2], [4.1, -4.0], [2.2, -1.7],
                [-3.3, 4.2], [-2.6, 5.3], [-4.4, 3.5], [-3.8, 6.1],
                [6.7, 7.9], [7.2, 6.4], [8.8, 8.3], [5.9, 7.1],
            ],
            dtype=torch.float64,
        ),
        "y": torch.tensor([2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1]),
    },
)  # fmt: skip
