"""Diagonal discriminant analysis: naive Bayes whose classes share every feature's variance.

Story
    Every feature has one spread, the same in all classes, and a centre in each. To make a row, choose
    a class ``y``, then draw each feature of ``x`` by itself. Because the variances are shared, the log odds
    of two classes are linear in x, as in logistic regression: the two are a pair, one family of p(y | x)
    learned in two ways. Given the class, features tell nothing of one another, so that where they are
    correlated the same evidence is counted over and over. ``gaussian_naive_bayes`` gives every class
    variances of its own, ``linear_discriminant`` has shared correlations too.

Joint
    p(weights) p(variance) p(mean | variance) prod_i p(y_i | weights) prod_j p(x_ij | y_i, mean, variance)

    - weights ~ Dirichlet(1, ..., 1)
    - variance[j] ~ InverseGamma(2, spread^2)
    - mean[c, j] ~ Normal(location, variance[j] / strength)
    - y_i ~ Categorical(weights)
    - x_ij ~ Normal(mean[y_i, j], variance[j])

Shapes
    weights (classes,), variance (features,) in squared units of x, mean (classes, features), y (n,) integers,
    x (n, features).

Priors
    The expected variance is spread^2, with infinite spread of its own (shape 2, that is four imagined
    rows); a class mean is worth ``strength`` imagined rows at ``location``.

Answers
    p(x | y): generate, feature by feature
    p(y | x): invert; linear in x at fixed parameters, and parts of x may be missing
    p(x): weigh
    p(mean, variance, weights | x, y): learn, exactly where every y is known

Source
    Ng and Jordan (2002), On discriminative vs. generative classifiers, where it is the generative half of
    the pair; Dudoit, Fridlyand and Speed (2002), Comparison of discrimination methods for the classification
    of tumors, JASA 97, where it is called diagonal linear discriminant analysis. Both estimate it by its
    maximum likelihood; here it has a conjugate prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution


def diagonal_discriminant(
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
    ...     diagonal_discriminant(5, features=3).shape
    torch.Size([5, 3])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(classes)))
    with pyro.plate("feature", features, dim=-1):
        variance = pyro.sample("variance", dist.InverseGamma(2.0, spread**2))
        with pyro.plate("class", classes, dim=-2):
            mean = pyro.sample("mean", dist.Normal(location, (variance / strength).sqrt()))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.Normal(mean[y], variance.sqrt()).to_event(1))


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
        Values of latent sites to condition on. Given ``variance``, the means are independent normals,
        otherwise those of one feature are jointly Student t, since what one tells of the variance it tells
        the others; given ``mean``, the shape of each variance grows by half for every class.

    Returns
    -------
    dict
        ``weights`` (Dirichlet), ``variance`` (InverseGamma, batch (features,)) and ``mean`` (classes,
        features), each the marginal posterior of its site given the sites in ``given``.
    """
    given = given or {}
    member = torch.nn.functional.one_hot(data["y"].long(), classes).double()
    x = data["x"].double() - location
    counts = member.sum(0)
    kappa = (strength + counts)[:, None]
    shift = member.T @ x / kappa
    rate = spread**2 + ((x**2).sum(0) - (kappa * shift**2).sum(0)) / 2
    shape = (2.0 + counts.sum() / 2).expand_as(rate)
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + counts),
        "variance": dist.InverseGamma(shape, rate),
    }
    if "mean" in given:
        square = (kappa * (given["mean"] - location - shift) ** 2).sum(-2)
        posterior["variance"] = dist.InverseGamma(shape + classes / 2, rate + square / 2)
    if "variance" in given:
        posterior["mean"] = dist.Normal(location + shift, (given["variance"] / kappa).sqrt()).to_event(2)
    else:
        stddev = (rate / (shape * kappa)).sqrt()
        posterior["mean"] = SharedVarianceStudentT(2 * shape, location + shift, stddev)
    return {name: q for name, q in posterior.items() if name not in given}


class SharedVarianceStudentT(TorchDistribution):
    """Means (classes, features) whose unknown variances, one to a feature, were averaged out.

    Those of one feature are jointly a multivariate Student t with ``df`` (features,) degrees of freedom,
    location and spread ``loc`` and ``stddev`` (classes, features); features are independent.
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(self, df: Tensor, loc: Tensor, stddev: Tensor) -> None:
        root = torch.diag_embed(stddev.mT)
        self.by_feature = dist.MultivariateStudentT(df, loc.mT, root).to_event(1)
        super().__init__(torch.Size(), loc.shape)

    @property
    def mean(self) -> Tensor:
        """(classes, features)."""
        return self.by_feature.mean.mT

    @property
    def variance(self) -> Tensor:
        """(classes, features)."""
        return self.by_feature.variance.mT

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw (*sample_shape, classes, features)."""
        return self.by_feature.sample(torch.Size(sample_shape)).mT

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (..., classes, features), in nats."""
        return self.by_feature.log_prob(value.mT)


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
