"""A normalizing flow: noise, bent by monotone splines until it is distributed like the data.

Story
    To make a row, draw standard normal noise of the row's own length and push it through a map g that
    can be undone: layers of couplings, each of which bends some features by splines whose shape a
    network reads off the others. Nothing is lost on the way, so the density of a row is known exactly:
    undo the map, take the density of the noise, and count how much the map stretched space there.

Joint
    p(x_i, y_i) = p(y_i | weights) Normal(g⁻¹(x_i; y_i); 0, I) |det dg⁻¹/dx|, with

    - y_i ~ Categorical(weights), only where ``classes`` is given
    - x_i = g(z_i; y_i), z_i ~ Normal(0, I)
    - g = stretch and shift after ``couplings`` rational-quadratic spline couplings

Shapes
    weights (classes,), y (n,) integers, x (n, features) in any unit; ``location`` and ``spread`` say
    roughly where x lies, in that unit.

Priors
    None: the networks, the stretch and the shift are point estimates by maximum likelihood. They start
    as the identity on (x - location) / spread, that is, as the story x ~ Normal(location, spread^2 I);
    the class weights start equal.

Answers
    p(x | y): generate, by one pass through the map
    p(y | x): invert, exactly, if fitted with classes
    p(x): weigh, exactly
    not p(x_1 | x_2): a feature cannot be left out, since the map moves all of them together

Source
    Durkan, Bekasov, Murray and Papamakarios (2019), Neural spline flows; Rezende and Mohamed (2015),
    Variational inference with normalizing flows. Smaller networks than theirs, random halves of the
    features in place of linear maps between couplings.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

from ppl_models.distributions.pushed import Pushed
from ppl_models.networks.mlp import one_hot
from ppl_models.networks.spline import SplineCoupling


class Couplings(nn.Module):
    """The map between data and noise: stretch and shift, then spline couplings, each half after half."""

    def __init__(
        self, features: int, context: int, couplings: int, bins: int, hidden: int, bound: float,
        location: float, spread: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.location = nn.Parameter(torch.full((features,), float(location)))
        self.log_spread = nn.Parameter(torch.full((features,), float(spread)).log())
        self.layers = nn.ModuleList()
        shuffle = torch.Generator().manual_seed(0)
        for _ in range((couplings + 1) // 2):
            order, half = torch.randperm(features, generator=shuffle).tolist(), features // 2
            for kept, moved in ((order[:half], order[half:]), (order[half:], order[:half])):
                self.layers.append(SplineCoupling(kept, moved, context, bins, hidden, bound))

    def to_noise(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """From x (..., features) to noise, and log |det| of that step (...,)."""
        z, log_det = (x - self.location) * (-self.log_spread).exp(), -self.log_spread.sum()
        for layer in self.layers:
            z, step = layer(z, context)
            log_det = log_det + step
        return z, log_det

    def to_data(self, z: Tensor, context: Tensor | None) -> Tensor:
        """From noise (..., features) back to x."""
        for layer in reversed(self.layers):
            z, _ = layer(z, context, inverse=True)
        return z * self.log_spread.exp() + self.location


class normalizing_flow(PyroModule):
    """The story of ``n`` rows, each the image of noise under one map.

    Args:
        features: length of a row, at least 2.
        classes: number of labels the map is conditional on; None leaves ``y`` out.
        couplings: layers, rounded up to pairs. ``bins``: of each spline. ``hidden``: width of its network.
        bound: the splines bend within this many ``spread`` of the location, and are straight outside.
        location, spread: where x lies, roughly; both are refined in training.

    Raises:
        ValueError: for fewer than two features, of which a coupling needs one to keep and one to move.

    Example:
        >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
        ...     _ = torch.manual_seed(0)
        ...     normalizing_flow(features=3, spread=2.5)(5).shape
        torch.Size([5, 3])
    """

    weights: Any  # a PyroParam: a tensor once it is read

    def __init__(
        self, features: int = 2, classes: int | None = None, couplings: int = 4, bins: int = 16,
        hidden: int = 64, bound: float = 4.0, location: float = 0.0, spread: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if features < 2:
            raise ValueError(f"features: expected at least 2, one to keep and one to move, got {features}")
        self.features, self.classes = features, classes
        if classes is not None:
            self.weights = PyroParam(torch.full((classes,), 1 / classes), dist.constraints.simplex)
        self.map = Couplings(features, classes or 0, couplings, bins, hidden, bound, location, spread)

    def forward(self, n: int) -> Tensor:
        """Tell the story; returns x, shape (n, features)."""
        map, context = self.map, None
        with pyro.plate("row", n, dim=-1):
            if self.classes is not None:
                y = pyro.sample("y", dist.Categorical(self.weights))
                context = one_hot(y, self.classes, map.location.dtype)
            return pyro.sample("x", Pushed(map, self.features, context, map.location))


EXAMPLE = (
    (6,),
    {"x": torch.tensor([[2.1, -0.3], [-1.7, 0.6], [0.4, 3.2], [-2.6, -1.4], [1.3, 0.8], [0.7, -2.2]])},
)
