"""A generator trained by MMD: make rows whose averages agree with the data's, whatever is averaged.

Story
    To make a row, draw a little noise and send it through a network. That is all: the network is any
    function, it cannot be undone, and so nobody can say how probable a row is. What can be done is to
    make rows and compare them with the data's. Here they are compared by the maximum mean discrepancy, which
    is zero only if both have one law: the networks descend it.

Joint
    p(x_i, y_i) = p(y_i | weights) ∫ Normal(z; 0, I) δ(x_i - g(z, y_i)) dz, with

    - y_i ~ Categorical(weights), only where ``classes`` is given
    - z_i ~ Normal(0, I)
    - x_i = g(z_i, y_i): a network, in units of ``spread`` around ``location``

Shapes
    weights (classes,), y (n,) integers, z (n, latents), x (n, features) in any unit.

Priors
    None but on z: the network is a point estimate, where ``loss`` is smallest. It starts as torch's layers
    do, so that first rows lie near ``location``. The class weights start equal and are trained by
    maximum likelihood, since y has one.

Answers
    p(x | y): generate, by one pass through the network
    not p(x): the density of the image of a network is not known, and where latents are few there is none
    not p(y | x): inverting needs p(x | y)

Source
    Li, Swersky and Zemel (2015), Generative moment matching networks; Dziugaite, Roy and Ghahramani (2015),
    Training generative neural networks via maximum mean discrepancy optimization; Gretton et al. (2012),
    A kernel two-sample test, for the unbiased estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor

from ppl_models.networks.mlp import beside, mlp, one_hot

# Widths of the kernels, in units of the median distance between rows: from the whole to detail.
_WIDEST = 1.0
_KERNELS = 5


class mmd_generator(PyroModule):
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
        ...     mmd_generator(features=3, spread=2.5)(5).shape
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


def loss(samples: Mapping[str, Tensor], data: Mapping[str, Tensor]) -> Tensor:
    """Unbiased squared maximum mean discrepancy between the story's rows and the data's.

    MMD^2 = E k(x, x') + E k(r, r') - 2 E k(x, r) with a sum of Gaussian kernels, their widths in units of
    the median distance between the batch's rows; where there are labels, rows of unlike label have k = 0,
    so that p(x, y) is compared.

    Args:
        samples: ``x`` (n, features) from the story, and ``y`` (n,) where it has labels.
        data: the same sites, from the data.

    Returns:
        A scalar without unit, 0 on average where both have one law, and then also a little below.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> rows = lambda: {"x": torch.randn(200, 2, generator=generator)}
        >>> one, other, far = rows(), rows(), {"x": 2.0 + rows()["x"]}
        >>> bool(loss(one, other).abs() < 0.05), bool(loss(one, far) > 0.2)
        (True, True)
    """
    x, real = samples["x"].flatten(1), data["x"].flatten(1).to(samples["x"].dtype)
    y, known = samples.get("y"), data.get("y")
    n, m = len(x), len(real)
    apart = _squares(real, real)
    median = apart.median()
    theirs = _kernel(apart, median, known, known).fill_diagonal_(0.0).sum() / (m * (m - 1))
    ours = _kernel(_squares(x, x), median, y, y).fill_diagonal_(0.0).sum() / (n * (n - 1))
    return ours + theirs - 2 * _kernel(_squares(x, real), median, y, known).mean()


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances between rows, (n, m)."""
    return (a.square().sum(-1)[:, None] + b.square().sum(-1) - 2 * a @ b.T).clamp_min(0)


def _kernel(squares: Tensor, median: Tensor, y: Tensor | None, other: Tensor | None) -> Tensor:
    """Mean of Gaussian kernels, each half as wide as the one before; none between unlike labels."""
    one = (squares / (-2 * _WIDEST**2 * median)).exp()
    total = one
    for _ in range(_KERNELS - 1):
        one = one.square().square()  # half the width is the fourth power, cheaper than an exponential
        total = total + one
    if y is None or other is None:
        return total / _KERNELS
    return total / _KERNELS * (y[:, None] == other.to(y.dtype))


EXAMPLE = (
    (6,),
    {"x": torch.tensor([[2.1, -0.3], [-1.7, 0.6], [0.4, 3.2], [-2.6, -1.4], [1.3, 0.8], [0.7, -2.2]])},
)
