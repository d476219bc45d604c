"""An autoregressive network: every feature is told from those before it, as words in a sentence.

Story
    To make a row, draw the first feature, then the second given the first, and so on. One network reads
    what has been drawn so far and says how the next feature is distributed: a mixture of bell curves for
    real features, of bells cut into bins for grey levels. Nothing is hidden and nothing approximated: the
    probability of a row is the product of its conditionals, in one pass.

Joint
    p(x_i, y_i) = p(y_i | weights) prod_d p(x_id | x_i1, ..., x_i(d-1), y_i), with

    - y_i ~ Categorical(weights), only where ``classes`` is given
    - x_id ~ sum_k w_k Normal(m_k, s_k^2), with (w, m, s) = network(x_i1, ..., x_i(d-1), y_i)
    - with ``levels``: x_id in 0..levels-1 ~ sum_k w_k Logistic(m_k, s_k), its mass collected in unit bins

Shapes
    weights (classes,), y (n,) integers, x (n, features): in any unit, ``location`` and ``spread`` saying
    roughly where it lies; or integers below ``levels``.

Priors
    None: the network is a point estimate by maximum likelihood. It starts near a mixture of equal
    bells spread evenly over the data's range, for every feature; the class weights start equal.

Answers
    p(x | y): generate, feature by feature
    p(y | x): invert, exactly, if fitted with classes
    p(x): weigh, exactly; with levels in bits
    not p(x_1 | x_2): only what comes later is told from what came before, not the reverse

Source
    Germain, Gregor, Murray and Larochelle (2015), MADE: masked autoencoder for distribution estimation,
    with one fixed order; the mixtures are Salimans et al. (2017), PixelCNN++, section 2.1.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor

from ppl_models.distributions.causal_mixture import CausalMixture
from ppl_models.networks.masked import MaskedNetwork
from ppl_models.networks.mlp import one_hot


class autoregressive(PyroModule):
    """The story of ``n`` rows, each told feature by feature.

    Args:
        features: length of a row.
        classes: number of labels the network is conditional on; None leaves ``y`` out.
        levels: number of grey levels 0..levels-1; None for real features.
        components: bells in every mixture.
        hidden, layers: width and number of the network's hidden layers.
        location, spread: where real features lie, roughly, in their unit.

    Example:
        >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
        ...     _ = torch.manual_seed(0)
        ...     autoregressive(features=16, levels=2)(5).shape
        torch.Size([5, 16])
    """

    location: Tensor
    spread: Tensor
    weights: Any  # a PyroParam: a tensor once it is read

    def __init__(
        self, features: int = 2, classes: int | None = None, levels: int | None = None, components: int = 12,
        hidden: int = 96, layers: int = 2, location: float = 0.0, spread: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features, self.classes, self.levels = features, classes, levels
        if levels is not None:
            location = spread = (levels - 1) / 2
        self.register_buffer("location", torch.tensor(float(location)))
        self.register_buffer("spread", torch.tensor(float(spread)))
        if classes is not None:
            self.weights = PyroParam(torch.full((classes,), 1 / classes), dist.constraints.simplex)
        self.network = MaskedNetwork(features, classes or 0, 3 * components, hidden, layers)
        start = self.network.last.bias.data.view(features, 3, components)
        start[:, 1] += torch.linspace(-1.5, 1.5, components + 2)[1:-1]
        start[:, 2] -= 1.0  # bells e^-1 wide, in units of the data's spread

    def forward(self, n: int) -> Tensor:
        """Tell the story; returns x, shape (n, features)."""
        network, context = self.network, None
        with pyro.plate("row", n, dim=-1):
            if self.classes is not None:
                y = pyro.sample("y", dist.Categorical(self.weights))
                context = one_hot(y, self.classes, self.location.dtype)
            law = CausalMixture(network, self.features, self.levels, context, self.location, self.spread)
            return pyro.sample("x", law)


EXAMPLE = (
    (6,),
    {"x": torch.tensor([[2.1, -0.3], [-1.7, 0.6], [0.4, 3.2], [-2.6, -1.4], [1.3, 0.8], [0.7, -2.2]])},
)
