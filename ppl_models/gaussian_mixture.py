"""Gaussian mixture: clouds whose names nobody ever wrote down.

Story
    Rows come from a few clouds, each with a share, a centre and a shape. Which cloud a row came from,
    ``y``, is never seen: it is summed out when the story is fitted, and asked for afterwards. Names of clouds
    mean nothing, so any renaming explains the rows equally well; to have one posterior mode instead of
    components! of them, clouds are named in the order of their centres' first coordinate.

Joint
    p(weights) p(mean) p(precision) prod_i p(y_i | weights) p(x_i | y_i, mean, precision)

    - weights ~ Dirichlet(2, ..., 2)
    - mean_c = (first_c, rest_c): first ~ Normal(location, reach^2), independent and then sorted;
      rest[c, j] ~ Normal(location, reach^2)
    - precision_c ~ Wishart(df = features + 2, rate = spread^2 I)
    - y_i ~ Categorical(weights)
    - x_i ~ Normal(mean[y_i], precision[y_i]^-1)

Shapes
    weights (components,), first (components,) ascending, rest (components, features - 1), precision
    (components, features, features), y (n,) integers, x (n, features).

Priors
    Two imagined rows of each cloud, so that no share is near 0 for want of rows; centres within ``reach``
    of ``location``; the expected covariance is spread^2 I with as few degrees of freedom as let it exist,
    which keeps a cloud from shrinking onto a single row (the likelihood has no maximum).

Answers
    p(x): weigh
    p(y | x): invert, that is to cluster
    p(x | y): generate from one cloud
    p(weights, first, rest, precision | x): learn, with every y summed out
    not y's meaning: clouds are named by their order, and where centres nearly tie in their first
        coordinate the names remain ambiguous

Source
    Bishop (2006), Pattern Recognition and Machine Learning, sections 9.2 and 10.2; Stephens (2000), Dealing
    with label switching in mixture models, JRSS B 62, on what an order of the names does and does not
    solve. scikit-learn's ``GaussianMixture`` is the same p(x).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_models.distributions.sorted_normal import SortedNormal
from ppl_models.distributions.wishart import Wishart

GIVEN = ("weights", "first", "rest", "precision")


def gaussian_mixture(
    n: int,
    components: int = 2,
    features: int = 2,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
) -> Tensor:
    """Tell the story of ``n`` rows of at least 2 features; returns them, shape (n, features).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     gaussian_mixture(5, components=3).shape
    torch.Size([5, 2])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.full((components,), 2.0)))
    first = pyro.sample("first", SortedNormal(components, location, reach))
    rate = spread**2 * torch.eye(features)
    with pyro.plate("component", components, dim=-1):
        rest = pyro.sample("rest", dist.Normal(location, reach).expand([features - 1]).to_event(1))
        precision = pyro.sample("precision", Wishart(torch.tensor(features + 2.0), precision_matrix=rate))
    mean = torch.cat([first[..., None], rest], -1)
    scale_tril = torch.linalg.cholesky(torch.linalg.inv(precision))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.MultivariateNormal(mean[y], scale_tril=scale_tril[y]))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    components: int = 2,
    features: int = 2,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
    *,
    given: Mapping[str, Tensor],
) -> dict[str, Distribution]:
    """Return p(y | x, parameters): each cloud's responsibility for each row, by Bayes' rule.

    Parameters
    ----------
    data
        ``x`` (n, features).
    n, components, features, location, reach, spread
        As the story was called.
    given
        Values of ``weights``, ``first``, ``rest`` and ``precision``, the sites named in ``GIVEN``; without
        them no closed form is known.

    Returns
    -------
    dict
        ``y``: a Categorical over components, batch shape (n,).

    Raises
    ------
    ValueError
        If a parameter is not given.
    """
    missing = [name for name in GIVEN if name not in given]
    if missing:
        raise ValueError(f"given: expected values of {', '.join(GIVEN)}, got none of {missing[0]!r}.")
    if "y" in given:
        return {}
    mean = torch.cat([given["first"][..., None], given["rest"]], -1)
    clouds = dist.MultivariateNormal(mean, precision_matrix=given["precision"])
    log_joint = given["weights"].log() + clouds.log_prob(data["x"].double()[:, None, :])
    return {"y": dist.Categorical(logits=log_joint)}


EXAMPLE = (
    (14, 2, 2, 0.5, 4.0, 2.0),
    {
        "x": torch.tensor(
            [
                [2.5, -3.1], [3.4, -2.2], [4.1, -4.0], [2.2, -1.7], [3.7, -2.9], [2.9, -4.4],
                [-3.3, 4.2], [-2.6, 5.3], [-4.4, 3.5], [-3.8, 6.1], [-2.9, 3.3], [-5.2, 4.8],
                [-3.6, 5.9], [-4.1, 2.7],
            ],
            dtype=torch.float64,
        ),
    },
)  # fmt: skip
