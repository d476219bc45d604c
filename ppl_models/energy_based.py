"""An energy-based model: a network says how unlikely a row is, and nothing has to sum to one.

Story
    Rows come from a broad normal base, and a network gives each an energy; what has little energy
    survives, what has much does not. Any function is an energy, so nothing limits the shapes that can be
    told. The price is the constant Z, the share that survives, which no formula gives: it is estimated by
    importance sampling from the base, or, in many dimensions, by annealed importance sampling.

Joint
    p(x_i, y_i) = p(y_i | weights) exp(-energy(x_i, y_i)) Normal(x_i; location, spread² I) / Z(y_i), with

    - y_i ~ Categorical(weights), only where ``classes`` is given
    - energy: a network, x in units of the base
    - Z(y) = E[exp(-energy(x, y))], x ~ Normal(location, spread^2 I)

Shapes
    weights (classes,), y (n,) integers, x (n, features) in any unit. ``spread`` must be so large that the
    base covers the data: where it has no particles the energy is not checked against anything.

Priors
    None: the network is a point estimate by maximum likelihood, as far as the gradient of log Z is
    known. With one temperature (few features) it is; with more it is replaced by that of particles after
    a short Langevin run, and ``log_prob`` holds an annealed estimate of log Z, in expectation too low,
    so that the log density is in expectation too high. It starts near the base.

Answers
    p(x | y): generate, by annealed particles and Langevin steps
    p(y | x): invert, if fitted with classes, up to the error of log Z
    p(x): weigh, up to the error of log Z, which story.energy.weigh() reports

Source
    LeCun, Chopra, Hadsell, Ranzato and Huang (2006), A tutorial on energy-based learning; Song and
    Kingma (2021), How to train your energy-based models; Neal (2001), Annealed importance sampling;
    Nijkamp, Hill, Zhu and Wu (2019), Learning non-convergent non-persistent short-run MCMC toward
    energy-based model. The normal base makes any network's Z finite; without the waves (Tancik et al. 2020)
    eight Gaussians on a circle stay a ring.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor

from ppl_models.distributions.gibbs import Energy, Gibbs


class energy_based(PyroModule):
    """The story of ``n`` rows that survive their energy.

    Args:
        features: length of a row.
        classes: number of labels the energy depends on; None leaves ``y`` out.
        hidden, layers: width and number of the network's hidden layers.
        location, spread: of the normal base.
        particles: of every estimate of log Z in training; answers use four times as many.
        temperatures: of annealing; None is 1 (plain importance sampling) up to three features, else 30.
        waves: fixed sines and cosines that the network sees beside the row, so that it can tell fine detail.

    Example:
        >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
        ...     _ = torch.manual_seed(0)
        ...     energy_based(features=2, spread=2.5, particles=64)(5).shape
        torch.Size([5, 2])
    """

    weights: Any  # a PyroParam: a tensor once it is read

    def __init__(
        self, features: int = 2, classes: int | None = None, hidden: int = 96, layers: int = 2,
        location: float = 0.0, spread: float = 1.5, particles: int = 1024, temperatures: int | None = None,
        waves: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes = classes
        if temperatures is None:
            temperatures = 1 if features <= 3 else 30
        if classes is not None:
            self.weights = PyroParam(torch.full((classes,), 1 / classes), dist.constraints.simplex)
        self.energy = Energy(
            features, classes or 0, hidden, layers, location, spread, particles, temperatures, waves
        )

    def forward(self, n: int) -> Tensor:
        """Tell the story; returns x, shape (n, features)."""
        energy, y = self.energy, None
        with pyro.plate("row", n, dim=-1):
            if self.classes is not None:
                y = pyro.sample("y", dist.Categorical(self.weights))
            return pyro.sample("x", Gibbs(energy, y))


EXAMPLE = (
    (6,),
    {"x": torch.tensor([[2.1, -0.3], [-1.7, 0.6], [0.4, 3.2], [-2.6, -1.4], [1.3, 0.8], [0.7, -2.2]])},
)
