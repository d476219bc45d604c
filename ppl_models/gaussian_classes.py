"""Class-conditional Gaussians with full covariance: quadratic discriminant analysis as a story.

Story
    Every class is a cloud with a centre and a shape of its own. To make a row, choose a class ``y``,
    then draw the features ``x`` from that class's Gaussian. Bayes' rule turns it round: the boundary
    between two classes is a quadric, and the class probabilities come with the clouds' uncertainty.

Joint
    p(weights) prod_c p(precision_c) p(mean_c | precision_c) prod_i p(y_i | weights) p(x_i | y_i), with

    - weights ~ Dirichlet(1, ..., 1)
    - precision_c ~ Wishart(df = features + 2, rate = spread^2 I)
    - mean_c ~ Normal(location, (strength precision_c)^-1)
    - y_i ~ Categorical(weights)
    - x_i ~ Normal(mean[y_i], precision[y_i]^-1)

Shapes
    weights (classes,), precision (classes, features, features), mean (classes, features),
    y (n,) integers, x (n, features) in the units of ``spread``.

Priors
    The expected covariance of a class is spread^2 I, with as few degrees of freedom (features + 2) as
    let that expectation exist; a class centre is worth ``strength`` imagined rows at ``location``.

Answers
    p(x | y): generate
    p(y | x): invert; quadratic in x at fixed parameters
    p(x): weigh
    p(mean, precision, weights | x, y): learn, exactly where every y is known

Source
    Murphy (2012), Machine Learning: A Probabilistic Perspective, section 4.6.3 (normal-inverse-Wishart,
    here written with the precision, since Pyro has the Wishart); Gelman et al. (2013), Bayesian Data
    Analysis, section 3.6. scikit-learn's ``QuadraticDiscriminantAnalysis`` is the same p(x, y) at the
    rows' averages; ``linear_discriminant`` is the story in which the classes share one shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_models.distributions.wishart import Wishart


def gaussian_classes(
    n: int,
    classes: int = 2,
    features: int = 2,
    location: float = 0.0,
    spread: float = 1.0,
    strength: float = 0.1,
) -> Tensor:
    """Tell the story of ``n`` rows; returns the features, shape (n, features).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     gaussian_classes(5, spread=3.0).shape
        torch.Size([5, 2])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(classes)))
    rate = spread**2 * torch.eye(features)
    with pyro.plate("class", classes, dim=-1):
        precision = pyro.sample("precision", Wishart(torch.tensor(features + 2.0), precision_matrix=rate))
        centre = torch.full((features,), float(location))
        mean = pyro.sample("mean", dist.MultivariateNormal(centre, precision_matrix=strength * precision))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        cloud = dist.MultivariateNormal(mean[y], precision_matrix=precision[y])
        return pyro.sample("x", cloud)


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

    Args:
        data: ``x`` (n, features) and ``y`` (n,).
        n, classes, features, location, spread, strength: as the story was called.
        given: values of latent sites to condition on. Given ``precision``, the means are Gaussian,
            otherwise multivariate Student t; given ``mean``, the precision has one more degree of
            freedom.

    Returns:
        ``weights`` (Dirichlet), ``precision`` (Wishart, batch of classes) and ``mean``, each the
        marginal posterior of its site given the sites in ``given``.
    """
    given = given or {}
    member = torch.nn.functional.one_hot(data["y"].long(), classes).double()
    x = data["x"].double()
    counts = member.sum(0)
    centre = torch.full((features,), float(location), dtype=torch.float64)
    total = member.T @ x
    scatter = torch.einsum("nc,nf,ng->cfg", member, x - centre, x - centre)
    kappa = strength + counts
    mean = (strength * centre + total) / kappa[:, None]
    shift = mean - centre
    rate = spread**2 * torch.eye(features, dtype=torch.float64) + scatter
    rate = rate - kappa[:, None, None] * shift[:, :, None] * shift[:, None, :]
    df = features + 2.0 + counts
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + counts),
        "precision": Wishart(df, precision_matrix=rate),
    }
    if "mean" in given:
        off = given["mean"] - mean
        around = rate + kappa[:, None, None] * off[..., :, None] * off[..., None, :]
        posterior["precision"] = Wishart(df + 1.0, precision_matrix=around)
    if "precision" in given:
        posterior["mean"] = dist.MultivariateNormal(
            mean, precision_matrix=kappa[:, None, None] * given["precision"]
        )
    else:
        free = df - features + 1.0
        shape = rate / (kappa * free)[:, None, None]
        posterior["mean"] = dist.MultivariateStudentT(free, mean, torch.linalg.cholesky(shape))
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
