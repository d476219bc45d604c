"""Linear discriminant analysis: classes are clouds of one shape around centres of their own.

Story
    All classes share one covariance and differ by their centres. To make a row, choose a class ``y``, then
    draw the features ``x`` from the Gaussian around its centre. Because the shape is shared, the
    quadratic terms cancel in Bayes' rule and the boundary between two classes is a hyperplane: p(y | x) is
    exactly a logistic regression, but learned from p(x | y). ``gaussian_classes``, in which every class has
    a shape of its own, is quadratic discriminant analysis.

Joint
    p(weights) p(precision) prod_c p(mean_c | precision) prod_i p(y_i | weights) p(x_i | y_i, mean, precision)

    - weights ~ Dirichlet(1, ..., 1)
    - precision ~ Wishart(df = features + 2, rate = spread^2 I)
    - mean_c ~ Normal(location, (strength precision)^-1)
    - y_i ~ Categorical(weights)
    - x_i ~ Normal(mean[y_i], precision^-1)

Shapes
    weights (classes,), precision (features, features), mean (classes, features), y (n,) integers,
    x (n, features) in the units of ``spread``.

Priors
    The expected shared covariance is spread^2 I, with as few degrees of freedom (features + 2) as let that
    expectation exist; a class centre is worth ``strength`` imagined rows at ``location``.

Answers
    p(x | y): generate
    p(y | x): invert; linear in x at fixed parameters
    p(x): weigh
    p(mean, precision, weights | x, y): learn, exactly where every y is known

Source
    Fisher (1936), The use of multiple measurements in taxonomic problems, Annals of Eugenics 7; Murphy
    (2012), Machine Learning: A Probabilistic Perspective, sections 4.2.2 and 4.6.3; Efron (1975) compares it
    with logistic regression. scikit-learn's ``LinearDiscriminantAnalysis`` is the same p(x, y) at the rows'
    averages.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_models.distributions.matrix_student_t import MatrixStudentT
from ppl_models.distributions.wishart import Wishart


def linear_discriminant(
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
    ...     linear_discriminant(5, spread=3.0).shape
    torch.Size([5, 2])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(classes)))
    rate = spread**2 * torch.eye(features)
    precision = pyro.sample("precision", Wishart(torch.tensor(features + 2.0), precision_matrix=rate))
    centre = torch.full((features,), float(location))
    with pyro.plate("class", classes, dim=-1):
        mean = pyro.sample("mean", dist.MultivariateNormal(centre, precision_matrix=strength * precision))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.MultivariateNormal(mean[y], precision_matrix=precision))


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
        Values of latent sites to condition on. Given ``precision``, the means are independent Gaussians,
        otherwise they are jointly a matrix Student t; given ``mean``, the precision has one more degree of
        freedom per class.

    Returns
    -------
    dict
        ``weights`` (Dirichlet), ``precision`` (Wishart) and ``mean`` (event shape (classes, features)),
        each the marginal posterior of its site given the sites in ``given``.
    """
    given = given or {}
    member = torch.nn.functional.one_hot(data["y"].long(), classes).double()
    x = data["x"].double() - location
    counts = member.sum(0)
    kappa = strength + counts
    shift = member.T @ x / kappa[:, None]
    rate = spread**2 * torch.eye(features, dtype=torch.float64) + x.T @ x
    rate = rate - shift.T @ (kappa[:, None] * shift)
    df = features + 2.0 + counts.sum()
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + counts),
        "precision": Wishart(df, precision_matrix=rate),
        "mean": MatrixStudentT(df, location + shift, kappa, rate),
    }
    if "mean" in given:
        off = given["mean"] - location - shift
        around = rate + off.mT @ (kappa[:, None] * off)
        posterior["precision"] = Wishart(df + classes, precision_matrix=around)
    if "precision" in given:
        sharp = kappa[:, None, None] * given["precision"]
        posterior["mean"] = dist.MultivariateNormal(location + shift, precision_matrix=sharp).to_event(1)
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
