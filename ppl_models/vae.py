"""Variational autoencoder: a simple distribution, sent through a network.

Story
    To make a row, draw a point ``z`` from a standard normal, send it through a network, and let the
    network's outputs be the parameters of independent noise on every feature: a count of ink drops for
    grey levels, a Gaussian for points. All structure of p(x) comes from the network that bends p(z).

Joint
    p(x, z) = prod_i p(z_i) prod_j p(x_ij | z_i), with

    - z_i ~ Normal(0, I)
    - x_ij ~ Normal(decoder(z_i)_j, stddev_j^2), or
    - x_ij ~ Binomial(levels, logits = decoder(z_i)_j), where ``levels`` is given

Shapes
    z (n, latents); x (n, features), real numbers, or grey levels 0 .. levels (levels = 1: black and
    white, a Bernoulli).

Priors
    None but on z: the networks, and stddev where there is one, are trained as point estimates. They start
    as torch's layers do (uniform, within 1/sqrt(inputs)), and stddev at 1.

Answers
    p(x): generate
    p(x): weigh (a lower bound in expectation, by importance sampling)
    p(z | x): invert
    not p(y | x): there is no label in the story; see conditional_vae

Source
    Kingma and Welling (2014), "Auto-encoding variational Bayes", ICLR; Rezende, Mohamed and Wierstra
    (2014), "Stochastic backpropagation and approximate inference in deep generative models", ICML. The
    hidden units are smooth (SiLU) and grey levels are binomial counts, both unlike there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam
from torch import Tensor

from ppl_models.networks.mlp import mlp


class vae(PyroModule):
    """The story.

    Parameters
    ----------
    features
        Numbers in a row of x; 64 for images of 8 x 8.
    latents
        Dimension of z.
    hidden
        Units of each of the two hidden layers.
    levels
        The highest grey level, for x that counts 0 .. levels: 16 for scikit-learn's digits, 1 for black
        and white. None: x are real numbers with Gaussian noise of trained standard deviation.

    Examples
    --------
    >>> import pyro, torch
    >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
    ...     _ = torch.manual_seed(0)
    ...     images = vae(features=64, latents=8, levels=16)(3)
    >>> images.shape, bool((images <= 16).all())
    (torch.Size([3, 64]), True)
    """

    stddev: Any  # a parameter, which reads as its value

    def __init__(
        self, features: int = 2, latents: int = 2, hidden: int = 64, levels: int | None = None
    ) -> None:
        super().__init__()
        self.features, self.latents, self.hidden, self.levels = features, latents, hidden, levels
        self.decoder = mlp(latents, hidden, features)
        if levels is None:
            self.stddev = PyroParam(torch.ones(features), constraints.positive)

    def noise(self, z: Tensor) -> Any:
        """p(x | z): every feature with noise of its own, independent given z."""
        if self.levels is None:
            return dist.Normal(self.decoder(z), self.stddev).to_event(1)
        return dist.Binomial(self.levels, logits=self.decoder(z)).to_event(1)

    def forward(self, n: int) -> Tensor:
        """Tell the story of ``n`` rows; returns x, shape (n, features)."""
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([self.latents]).to_event(1))
            return pyro.sample("x", self.noise(z))


class guide(PyroModule):
    """q(z | x): independent Gaussians, whose means and standard deviations a network reads off x."""

    def __init__(self, story: vae) -> None:
        super().__init__()
        self.encoder = mlp(story.features, story.hidden, 2 * story.latents)
        self.unit = 1.0 if story.levels is None else float(story.levels)

    def forward(self, n: int, data: Mapping[str, Tensor]) -> Tensor:
        """Draw z for the rows of ``data["x"]`` (n, features)."""
        mean, log_stddev = self.encoder(data["x"] / self.unit).chunk(2, -1)
        with pyro.plate("row", n, dim=-1):
            return pyro.sample("z", dist.Normal(mean, log_stddev.exp()).to_event(1))


EXAMPLE = (
    (8,),
    {
        "x": torch.tensor(
            [
                [2.3, 3.9], [-2.8, 4.6], [3.1, -2.2], [-3.7, -3.1],
                [2.4, 4.3], [-2.6, 4.2], [2.7, -2.5], [-3.2, -3.7],
            ]
        )
    },
)  # fmt: skip
