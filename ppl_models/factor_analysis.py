"""Factor analysis: a few hidden factors make many features vary together.

Story
    A pupil's marks vary together because a few abilities stand behind them. To make a row, draw its factors
    ``z``, independent standard normals; every feature is its mean, plus a weighted sum of the factors, plus
    noise with a variance of its own. Given the factors, features are independent: what they share, the
    factors explain. Here z is a site of the story and comes first, so x given z can be asked, and parts of
    a row may be missing. The price is rows x factors more unknowns in a fit: for many rows ask
    ``factor_analysers`` with one class or ``probabilistic_pca``, which integrate z out.

Joint
    p(mean) p(loading) p(variance) prod_i p(z_i) p(x_i | z_i, mean, loading, variance)

    - mean[j] ~ Normal(location, reach^2)
    - loading: lower trapezoidal, below the diagonal ~ Normal(0, spread^2), square of its diagonal ~
      spread^2 times a chi-square with factors, factors - 1, ..., 1 degrees of freedom
    - variance[j] ~ InverseGamma(2, noise^2)
    - z_i ~ Normal(0, I)
    - x_ij ~ Normal(mean[j] + loading[j] . z_i, variance[j])

Shapes
    mean (features,), square (factors,): the loading's squared diagonal, below (features * factors -
    factors * (factors + 1) / 2,): what lies below it, variance (features,), z (n, factors), x (n, features);
    ``trapezoid(square, below)`` of ``ppl_models.distributions.factors`` is the loading (features, factors).

Priors
    Those of a loading whose elements are independent Normal(0, spread^2), rotated to the one lower
    trapezoid with a positive diagonal: rotated factors, or factors with other signs, explain a row
    equally well, so without this choice the posterior has a continuum of modes and "the" loading no
    meaning. p(x) is what it would be without. A trapezoid makes the first features the ones that name the
    factors: put features there that load on them. E[variance] = noise^2 with infinite spread (shape 2),
    which keeps a variance from vanishing (a Heywood case: the likelihood has maxima at 0).

Answers
    p(x | z): generate
    p(z | x): invert; exactly, given the parameters
    p(x): weigh; parts of x may be missing
    p(mean, square, below, variance, z | x): learn
    not p(z | x) by name: which factor is which is a choice of axes, made here by the first features

Source
    Bartholomew, Knott and Moustaki (2011), Latent Variable Models and Factor Analysis, chapters 2 and 3;
    Leung and Drton (2016) for the prior. scikit-learn's ``FactorAnalysis`` is the same p(x).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_models.distributions.factors import below_diagonal, given_row, squares, trapezoid

GIVEN = ("mean", "square", "below", "variance")


def factor_analysis(
    n: int,
    features: int = 3,
    factors: int = 1,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
    noise: float = 1.0,
) -> Tensor:
    """Tell the story of ``n`` rows; returns them, shape (n, features).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     factor_analysis(5, features=4, factors=2).shape
    torch.Size([5, 4])
    """
    below_size = below_diagonal(features, factors)
    mean = pyro.sample("mean", dist.Normal(location, reach).expand([features]).to_event(1))
    square = pyro.sample("square", squares(factors, spread).to_event(1))
    below = pyro.sample("below", dist.Normal(0.0, spread).expand([below_size]).to_event(1))
    variance = pyro.sample("variance", dist.InverseGamma(2.0, noise**2).expand([features]).to_event(1))
    loading = trapezoid(square, below)
    with pyro.plate("row", n, dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([factors]).to_event(1))
        return pyro.sample("x", dist.Normal(mean + z @ loading.mT, variance.sqrt()).to_event(1))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    features: int = 3,
    factors: int = 1,
    location: float = 0.0,
    reach: float = 5.0,
    spread: float = 1.0,
    noise: float = 1.0,
    *,
    given: Mapping[str, Tensor],
) -> dict[str, Distribution]:
    """Return p(z | x, parameters), in closed form.

    Parameters
    ----------
    data
        ``x`` (n, features).
    n, features, factors, location, reach, spread, noise
        As the story was called.
    given
        Values of ``mean``, ``square``, ``below`` and ``variance``, the sites named in ``GIVEN``; without
        them no closed form is known.

    Returns
    -------
    dict
        ``z``: a multivariate normal, batch shape (n,), event shape (factors,).

    Raises
    ------
    ValueError
        If a parameter is not given.
    """
    missing = [name for name in GIVEN if name not in given]
    if missing:
        raise ValueError(f"given: expected values of {', '.join(GIVEN)}, got none of {missing[0]!r}.")
    if "z" in given:
        return {}
    loading = trapezoid(given["square"], given["below"])
    return {"z": given_row(data["x"].double(), given["mean"], loading, given["variance"])}


EXAMPLE = (
    (8, 4, 2, 0.5, 3.0, 2.0, 0.6),
    {
        "x": torch.tensor(
            [
                [2.9, -3.2, 0.7, 2.1], [-2.4, 2.9, 3.1, -3.0], [3.3, 0.4, -2.6, 2.4], [-0.6, -2.7, 2.2, 0.3],
                [2.8, 3.6, 0.3, 3.5], [-3.9, 0.8, -2.3, -4.1], [0.9, 2.5, 4.2, 2.2], [-2.2, -3.4, -0.8, -3.6],
            ],
            dtype=torch.float64,
        ),
    },
)  # fmt: skip
