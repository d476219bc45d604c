"""Linear variational autoencoder: probabilistic PCA, learned as deep stories are.

Story
    A few hidden causes ``z`` are mixed by a matrix, shifted, and seen through noise that is the same in
    every direction. It is a variational autoencoder whose networks have no hidden layer, and with it one
    whose best answer is known: principal components. Whatever else is wrong with a fit, it shows here.

Joint
    p(x, z) = prod_i p(z_i) p(x_i | z_i), with

    - z_i ~ Normal(0, I)
    - x_i ~ Normal(weight z_i + mean, stddev^2 I)

Shapes
    z (n, latents), x (n, features), in units of its own; stddev in the units of x.

Priors
    None but on z: weight, mean and stddev are trained as point estimates. The weights start at small
    random numbers, the mean at 0 and stddev at 1. At the optimum stddev^2 is the mean of the eigenvalues
    left out, and the columns of ``weight`` span the leading eigenvectors; any rotation of z does as well.

Answers
    p(x): generate
    p(x): weigh
    p(z | x): invert
    not p(y | x): there is no label in the story

Source
    Lucas, Tucker, Grosse and Norouzi (2019), "Don't blame the ELBO! A linear VAE perspective on posterior
    collapse", NeurIPS 32: its ELBO has no local maxima beside the global one, which is the maximum
    likelihood of Tipping and Bishop (1999), "Probabilistic principal component analysis", Journal of
    the Royal Statistical Society B 61. Their guide has a diagonal covariance; this one a full one, which
    holds the exact posterior for any rotation of z.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn


class linear_vae(PyroModule):
    """The story.

    Parameters
    ----------
    features
        Numbers in a row of x.
    latents
        Hidden causes; fewer than ``features``.

    Examples
    --------
    >>> import pyro, torch
    >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
    ...     _ = torch.manual_seed(0)
    ...     linear_vae(features=5, latents=2)(7).shape
    torch.Size([7, 5])
    """

    stddev: Any  # a parameter, which reads as its value

    def __init__(self, features: int = 2, latents: int = 1) -> None:
        super().__init__()
        self.features, self.latents = features, latents
        self.decoder = nn.Linear(latents, features)
        nn.init.zeros_(self.decoder.bias)
        self.stddev = PyroParam(torch.ones(()), constraints.positive)

    def forward(self, n: int) -> Tensor:
        """Tell the story of ``n`` rows; returns x, shape (n, features)."""
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([self.latents]).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z), self.stddev).to_event(1))


class guide(PyroModule):
    """q(z | x): a Gaussian whose mean is linear in x and whose covariance is the same for all rows.

    The exact posterior has this form, so that the ELBO reaches log p(x).
    """

    scale_tril: Any  # a parameter, which reads as its value

    def __init__(self, story: linear_vae) -> None:
        super().__init__()
        self.encoder = nn.Linear(story.features, story.latents)
        nn.init.zeros_(self.encoder.bias)
        self.scale_tril = PyroParam(torch.eye(story.latents), constraints.lower_cholesky)

    def forward(self, n: int, data: Mapping[str, Tensor]) -> Tensor:
        """Draw z for the rows of ``data["x"]`` (n, features)."""
        with pyro.plate("row", n, dim=-1):
            q = dist.MultivariateNormal(self.encoder(data["x"]), scale_tril=self.scale_tril)
            return pyro.sample("z", q)


EXAMPLE = (
    (8,),
    {
        "x": torch.tensor(
            [
                [2.3, 3.9], [-2.8, -4.6], [3.1, 6.2], [-3.7, -7.1],
                [0.4, 1.3], [4.4, 8.2], [-0.7, -2.1], [5.2, 9.7],
            ]
        )
    },
)  # fmt: skip
