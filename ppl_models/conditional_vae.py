"""Conditional variational autoencoder: a class and a style make a row.

Story
    Choose a class ``y``; draw a style ``z`` that has nothing to do with it; let a network paint the row
    from both, with independent noise on every feature. Given the class one can generate; given the row
    one can ask which class painted it, by Bayes' rule, although no classifier was ever trained.

Joint
    p(x, y, z) = prod_i p(y_i) p(z_i) prod_j p(x_ij | y_i, z_i), with

    - y_i ~ Categorical(weights)
    - z_i ~ Normal(0, I)
    - x_ij ~ Binomial(levels, logits = decoder(z_i, y_i)_j), where ``levels`` is given, or
    - x_ij ~ Normal(decoder(z_i, y_i)_j, stddev_j^2)

Shapes
    y (n,) integers 0 .. classes - 1; z (n, latents); x (n, features), grey levels 0 .. levels, or real
    numbers. The label enters the networks one-hot.

Priors
    On z only: the networks, the class weights and stddev are trained as point estimates. The weights
    start equal and end at the class frequencies; the networks start as torch's layers do, stddev at 1.

Answers
    p(x | y): generate
    p(y | x): invert
    p(x): weigh (a lower bound in expectation, by importance sampling)
    p(x | y): weigh
    p(z | x, y): invert

Source
    Kingma, Rezende, Mohamed and Welling (2014), "Semi-supervised learning with deep generative models",
    NeurIPS 27, equation 2 with all labels given. Sohn, Lee and Yan (2015), "Learning structured output
    representation using deep conditional generative models", NeurIPS 28, gave the name to the mirror
    image p(y | x, z), with a prior p(z | x); here the prior of z is fixed and y is what is conditioned on.
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

from ppl_models.networks.mlp import beside, mlp, one_hot


class conditional_vae(PyroModule):
    """The story.

    Parameters
    ----------
    features
        Numbers in a row of x; 64 for images of 8 x 8.
    latents
        Dimension of the style z.
    hidden
        Units of each of the two hidden layers.
    classes
        Number of values of y.
    levels
        The highest grey level, for x that counts 0 .. levels (1: black and white). None: x are real
        numbers with Gaussian noise of trained standard deviation.

    Examples
    --------
    >>> import pyro, torch
    >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
    ...     _ = torch.manual_seed(0)
    ...     conditional_vae()(3).shape
    torch.Size([3, 64])
    """

    weights: Any  # parameters, which read as their values
    stddev: Any

    def __init__(
        self,
        features: int = 64,
        latents: int = 8,
        hidden: int = 128,
        classes: int = 10,
        levels: int | None = 16,
    ) -> None:
        super().__init__()
        self.features, self.latents, self.hidden = features, latents, hidden
        self.classes, self.levels = classes, levels
        self.weights = PyroParam(torch.full((classes,), 1.0 / classes), constraints.simplex)
        self.decoder = mlp(latents + classes, hidden, features)
        if levels is None:
            self.stddev = PyroParam(torch.ones(features), constraints.positive)

    def noise(self, z: Tensor, y: Tensor) -> Any:
        """p(x | z, y): every feature with noise of its own, independent given z and y."""
        painted = self.decoder(beside(z, one_hot(y, self.classes, z.dtype)))
        if self.levels is None:
            return dist.Normal(painted, self.stddev).to_event(1)
        return dist.Binomial(self.levels, logits=painted).to_event(1)

    def forward(self, n: int) -> Tensor:
        """Tell the story of ``n`` rows; returns x, shape (n, features)."""
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(self.weights))
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([self.latents]).to_event(1))
            return pyro.sample("x", self.noise(z, y))


class guide(PyroModule):
    """q(z | x, y): independent Gaussians, whose means and standard deviations a network reads off both."""

    def __init__(self, story: conditional_vae) -> None:
        super().__init__()
        self.classes = story.classes
        self.encoder = mlp(story.features + story.classes, story.hidden, 2 * story.latents)
        self.unit = 1.0 if story.levels is None else float(story.levels)

    def forward(self, n: int, data: Mapping[str, Tensor]) -> Tensor:
        """Draw z for the rows of ``data["x"]`` (n, features), painted as ``data["y"]`` (..., n).

        Raises
        ------
        ValueError
            If there is no y in ``data``: the style depends on the class.
        """
        if "y" not in data:
            raise ValueError("data: expected x and y, got no y; q(z | x, y) needs the class, or every class")
        x = data["x"] / self.unit
        mean, log_stddev = self.encoder(beside(x, one_hot(data["y"], self.classes, x.dtype))).chunk(2, -1)
        with pyro.plate("row", n, dim=-1):
            return pyro.sample("z", dist.Normal(mean, log_stddev.exp()).to_event(1))


# Four images of 8 x 8 in two grey tones, the ink in another half of each.
EXAMPLE = (
    (4,),
    {
        "x": torch.tensor(
            [[3.0] * 32 + [13.0] * 32, [12.0] * 32 + [2.0] * 32, [4.0, 14.0] * 32, [11.0, 3.0] * 32]
        ),
        "y": torch.tensor([2, 3, 5, 8]),
    },
)
