"""A generator trained by an adversary: make rows that a critic cannot tell from the data.

Story
    To make a row, draw a little noise and send it through a network. The network is any function, so nobody
    can say how probable a row is. It is trained by a contest: a critic learns to say which rows are
    the data's and which are made, and the generator learns to make the critic wrong. At the end of a
    perfect contest the critic can only guess.

Joint
    p(x_i, y_i) = p(y_i | weights) ∫ Normal(z; 0, I) δ(x_i - g(z, y_i)) dz, with

    - y_i ~ Categorical(weights), only where ``classes`` is given
    - z_i ~ Normal(0, I)
    - x_i = g(z_i, y_i): a network, in units of ``spread`` around ``location``

Shapes
    weights (classes,), y (n,) integers, z (n, latents), x (n, features) in any unit.

Priors
    None but on z: the network is a point estimate, where the contest of ``loss`` ends (or stops). It starts
    as torch's layers do, so that first rows lie near ``location``. The class weights start equal
    and are trained by maximum likelihood, since y has one.

Answers
    p(x | y): generate, by one pass through the network
    not p(x): the density of the image of a network is not known, and where latents are few there is none
    not p(y | x): inverting needs p(x | y)

Source
    Goodfellow et al. (2014), Generative adversarial nets; Mescheder, Geiger and Nowozin (2018), Which
    training methods for GANs do actually converge?, for the penalty on the critic's gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from ppl_models.networks.mlp import beside, mlp, one_hot
from ppl_models.networks.waves import Waves


class adversarial(PyroModule):
    """The story of ``n`` rows, each the image of noise.

    Args:
        features: length of a row.
        classes: number of labels the network is conditional on; None leaves ``y`` out.
        latents: length of the noise.
        hidden, layers: width and number of the network's hidden layers.
        location, spread: where x lies, roughly: the network speaks in that unit.

    Example:
        >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
        ...     _ = torch.manual_seed(0)
        ...     adversarial(features=3, spread=2.5)(5).shape
        torch.Size([5, 3])
    """

    weights: Any  # a PyroParam: a tensor once it is read

    def __init__(
        self, features: int = 2, classes: int | None = None, latents: int = 4, hidden: int = 96,
        layers: int = 3, location: float = 0.0, spread: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes, self.latents, self.location, self.spread = classes, latents, location, spread
        self.network = mlp(latents + (classes or 0), hidden, features, layers)
        if classes is not None:
            self.weights = PyroParam(torch.full((classes,), 1 / classes), dist.constraints.simplex)

    def forward(self, n: int) -> Tensor:
        """Tell the story; returns x, shape (n, features)."""
        network, context = self.network, None
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([self.latents]).to_event(1))
            if self.classes is not None:
                y = pyro.sample("y", dist.Categorical(self.weights))
                context = one_hot(y, self.classes, z.dtype)
            x = self.location + self.spread * network(beside(z, context))
            return pyro.sample("x", dist.Delta(x, event_dim=1))


class loss(nn.Module):
    """The value of the contest, which the critic's parameters climb and the story's descend.

    V = E[log D(x)] + E[log(1 - D(g(z)))], with D(x) the critic's probability that x is the data's. For
    the best critic V = -log 4 + 2 JS(data, story): -1.386 when no critic can tell them apart.

    While gradients are taken, V holds two changes that its value at rest does not: the critic pays
    ``penalty`` / 2 times the squared gradient of its log odds at the data, so that it comes to rest; and
    the story's gradient is that of -log D(g(z)), which does not die where the critic is sure. The
    value of that last change is zero.

    Args:
        features, classes: as the story's.
        hidden, layers: width and number of the critic's hidden layers.
        penalty: R1 of Mescheder et al.
        location, spread: the critic sees (x - location) / spread; the penalty is in that unit.

    Example:
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     critic, rows = loss(), {"x": torch.randn(50, 2)}
        >>> with torch.no_grad():
        ...     bool(critic(rows, rows) <= -1.386)      # the same rows: no critic does better
        True
    """

    def __init__(
        self, features: int = 2, classes: int | None = None, hidden: int = 96, layers: int = 3,
        penalty: float = 1.0, location: float = 0.0, spread: float = 1.0, waves: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes, self.penalty, self.location, self.spread = classes, penalty, location, spread
        self.waves = Waves(features, waves)
        self.network = mlp(self.waves.width + (classes or 0), hidden, 1, layers)

    def forward(self, samples: Mapping[str, Tensor], data: Mapping[str, Tensor]) -> Tensor:
        """V in nats, from the rows of the story and of the data; where there are labels, of (x, y)."""
        (made, labels), (real, known) = self._seen(samples), self._seen(data)
        if not torch.is_grad_enabled():
            return -softplus(-self._odds(real, known)).mean() - softplus(self._odds(made, labels)).mean()
        real = real.detach().requires_grad_()
        odds = self._odds(real, known)
        (slope,) = torch.autograd.grad(odds.sum(), real, create_graph=True)
        held = {name: value.detach() for name, value in self.network.named_parameters()}
        fooled = softplus(-functional_call(self.network, held, (beside(self.waves(made), labels),))).mean()
        value = -softplus(-odds).mean() - softplus(self._odds(made.detach(), labels)).mean()
        return value + (fooled - fooled.detach()) - self.penalty / 2 * slope.square().sum(-1).mean()

    def _seen(self, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Rows in the critic's unit, and their labels as indicators."""
        x = (rows["x"].flatten(1).to(next(self.parameters()).dtype) - self.location) / self.spread
        return x, None if self.classes is None else one_hot(rows["y"], self.classes, x.dtype)

    def _odds(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Log odds that rows are the data's."""
        return self.network(beside(self.waves(x), labels))


EXAMPLE = (
    (6,),
    {"x": torch.tensor([[2.1, -0.3], [-1.7, 0.6], [0.4, 3.2], [-2.6, -1.4], [1.3, 0.8], [0.7, -2.2]])},
)
