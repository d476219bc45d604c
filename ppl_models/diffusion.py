"""Diffusion: noise that is turned into data in many small steps, by a network that sees through noise.

Story
    Start from standard normal noise ``z_T`` and take ``steps`` small steps back, each of which guesses
    the noise that is still there, removes a little of it and adds a little fresh one; what the last step
    reaches is the row ``x``. The whole way is one latent ``path``. Its guide has nothing to train: it goes
    the way forward, from the row into noise, by a recipe. So the evidence lower bound of this story is the
    loss of diffusion models, and SVI fits it like any other.

Joint
    p(x, path, y) = prod_i p(y_i) p(z_iT) prod_t p(z_i(t-1) | z_it, y_i), with

    - y_i ~ Categorical(weights), only where ``classes`` is given
    - z_iT ~ Normal(0, I)
    - z_i(t-1) ~ Normal((z_it - v_t noise(z_it, t, y_i) / root_t) / sqrt(1 - v_t), stddev_t^2 I), where v_t
      is the variance of the step forward and root_t^2 = 1 - prod_(s <= t) (1 - v_s)
    - x_i = location + spread z_i0

Shapes
    path (n, steps, features) holds z_1 .. z_T, without unit; x (n, features), in the unit of ``spread``;
    y (n,) integers 0 .. classes - 1.

Priors
    None: the network, the class weights and, unless they are given, the steps' stddev are trained as
    point estimates. The network starts at the noise that is right for x ~ Normal(location, spread^2 I), and
    stddev_t^2 at v_t. The variances of the steps forward are numbers, with nothing to train. The bound
    is best climbed with each step's divergence in closed form, as ``TraceMeanField_ELBO`` does: on eight
    Gaussians log q - log p of drawn paths came to .80 nats in 3,000 steps, where this came to .28.

Answers
    p(x): generate
    p(x | y): generate, if fitted with classes
    p(x): weigh (a lower bound in expectation, by importance sampling)
    p(y | x): invert, if fitted with classes (from such bounds)
    p(path | x): by the guide; nothing to learn there

Source
    Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli (2015), "Deep unsupervised learning using
    nonequilibrium thermodynamics", ICML; Ho, Jain and Abbeel (2020), "Denoising diffusion probabilistic
    models", NeurIPS 33. They set the weights of all steps' losses to 1, and their variances forward grow
    linearly; here the weights are what the bound says, and log(signal / noise) falls evenly. The two
    choices of Ho et al. for stddev_t, ``"forward"`` and ``"posterior"``, are right for rows that are
    standard normal and for a single row (Bao, Li, Zhu and Zhang 2022, "Analytic-DPM", ICLR, give the best
    one); ``"trained"`` finds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

from ppl_models.distributions.denoising import Denoising
from ppl_models.distributions.noising import Noising
from ppl_models.networks.mlp import beside, mlp, one_hot

WAVES = 4  # sines and cosines of time that the network sees, of periods 4, 2, 1 and 1/2 of the way


def linear(steps: int) -> Tensor:
    """Return the variances of the forward steps, (steps,): those of Ho et al. (2020) with 1,000 steps.

    Scaled by 1000 / steps, so that any number of steps ends in the same noise; the last one is at most
    .999, which matters below 21 steps.

    Example:
        >>> [round(v, 3) for v in linear(50)[[0, -1]].tolist()]
        [0.002, 0.4]
    """
    return torch.linspace(1e-4 * 1000 / steps, min(0.02 * 1000 / steps, 0.999), steps)


def even(steps: int, first: float = 6.0, last: float = -5.0) -> Tensor:
    """Return the variances of the forward steps, (steps,), so that log(signal / noise) falls evenly.

    It falls from ``first`` after one step to ``last`` after all, so that no step is much larger than
    another: Kingma, Salimans, Poole and Ho (2021), "Variational diffusion models", section 5.

    Example:
        >>> [round(v, 3) for v in even(50)[[0, -1]].tolist()]
        [0.002, 0.2]
    """
    kept = torch.sigmoid(torch.linspace(first, last, steps))
    return 1 - kept / torch.cat([torch.ones(1), kept[:-1]])


class Denoiser(nn.Module):
    """The default network: guesses the noise in z.

    The guess that is right for standard normal rows, plus what a small network adds to it.

    Parameters
    ----------
    features
        Of z.
    context
        Length of a label, 0 for none.
    hidden
        Units of each hidden layer.
    variance
        Of the forward steps, (steps,).
    """

    root: Tensor

    def __init__(self, features: int, context: int, hidden: int, variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("root", (1 - (1 - variance).cumprod(0)).sqrt())
        self.correction = mlp(features + 2 * WAVES + context, hidden, features, layers=3, zero=True)

    def forward(self, z: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the noise in z (..., times, features); t (..., times) counts from 1, labels are one-hot."""
        pace = math.pi * 2.0 ** torch.arange(-1, WAVES - 1, device=t.device)
        angle = t[..., None] / len(self.root) * pace
        waves = torch.cat([angle.sin(), angle.cos()], -1).to(z.dtype)
        return self.root[t - 1, None] * z + self.correction(beside(beside(z, waves), label))


class diffusion(PyroModule):
    """The story.

    Parameters
    ----------
    features
        Numbers in a row of x.
    classes
        Number of values of y; None leaves y out.
    steps
        T. More steps are a better story and a slower one.
    hidden
        Units of each of the network's three hidden layers.
    location, spread
        Of x, roughly, in its unit: noise is added to (x - location) / spread.
    forward_variance
        Of the steps forward, (steps,), rising; None: :func:`even`. :func:`linear` is the source's.
    variance
        Of the steps back: ``"trained"``; ``"forward"``, v_t; ``"posterior"``,
        v_t (1 - kept_(t-1)) / (1 - kept_t) with kept_t = prod_(s <= t) (1 - v_s), and v_1 for the first
        step; or numbers, (steps,).
    looks
        Times t that an ELBO with analytic divergence (``TraceMeanField_ELBO``) looks at per row and step;
        the others are left to chance, without bias. Densities always look at all.
    network
        Called with z (..., times, features), t (..., times), integers from 1, and, if there are classes,
        the labels one-hot (..., 1, classes); returns the noise in z, in its shape. None: a
        :class:`Denoiser`.

    Raises
    ------
    ValueError
        If ``variance`` is another word, or there are other than ``steps`` numbers.

    Examples
    --------
    >>> import pyro, torch
    >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
    ...     _ = torch.manual_seed(0)
    ...     diffusion(features=3, spread=2.5, steps=20)(5).shape
    torch.Size([5, 3])
    """

    weights: Any  # parameters, which read as their values
    stddev: Any
    forward_variance: Tensor
    kept: Tensor

    def __init__(
        self,
        features: int = 2,
        classes: int | None = None,
        steps: int = 50,
        hidden: int = 64,
        location: float = 0.0,
        spread: float = 1.0,
        forward_variance: Tensor | None = None,
        variance: str | Tensor = "trained",
        looks: int | None = 10,
        network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.features, self.classes, self.steps = features, classes, steps
        self.location, self.spread, self.looks = location, spread, looks
        forward = even(steps) if forward_variance is None else backward(forward_variance, even(steps))
        self.register_buffer("forward_variance", forward)
        self.register_buffer("kept", (1 - forward).cumprod(0))
        if variance == "trained" and isinstance(variance, str):
            self.stddev = PyroParam(forward.sqrt(), constraints.positive)
        else:
            self.register_buffer("stddev", backward(variance, forward).sqrt())
        if classes is not None:
            self.weights = PyroParam(torch.full((classes,), 1.0 / classes), constraints.simplex)
        self.network = Denoiser(features, classes or 0, hidden, forward) if network is None else network

    def step(self, z: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of z_(t-1) given z_t (..., times, features), for the times t (..., times)."""
        label = () if y is None else (one_hot(y, self.classes or 0, z.dtype)[..., None, :],)
        noise = self.network(z, t, *label)
        variance, kept = self.forward_variance[t - 1, None], self.kept[t - 1, None]
        return (z - variance / (1 - kept).sqrt() * noise) / (1 - variance).sqrt()

    def forward(self, n: int) -> Tensor:
        """Tell the story of ``n`` rows; returns x, shape (n, features)."""
        stddev, y = self.stddev, None
        with pyro.plate("row", n, dim=-1):
            if self.classes is not None:
                y = pyro.sample("y", dist.Categorical(self.weights))

            def mean(z: Tensor, t: Tensor) -> Tensor:
                return self.step(z, t, y)

            rows = (n,) if y is None else y.shape
            path = pyro.sample("path", Denoising(mean, stddev, self.features, rows, self.looks))
            last = mean(path[..., :1, :], torch.ones(1, dtype=torch.long, device=path.device))[..., 0, :]
            x = dist.Normal(self.location + self.spread * last, self.spread * stddev[0])
            return pyro.sample("x", x.to_event(1))


def backward(variance: str | Tensor, forward: Tensor) -> Tensor:
    """Return the variances of the steps back, (steps,), by name; numbers pass if there are enough."""
    kept = (1 - forward).cumprod(0)
    posterior = torch.cat([forward[:1], forward[1:] * (1 - kept[:-1]) / (1 - kept[1:])])
    known = {"forward": forward, "posterior": posterior}
    if isinstance(variance, str) and variance in known:
        return known[variance]
    if isinstance(variance, Tensor) and variance.shape == forward.shape:
        return variance
    got = repr(variance) if isinstance(variance, str) else f"numbers of shape {tuple(variance.shape)}"
    words = "'trained', 'forward', 'posterior'"
    raise ValueError(f"variance: expected {words} or a tensor of shape ({len(forward)},), got {got}")


class guide(PyroModule):
    """q(path | x): from the row into noise. Nothing is trained, and the label does not matter."""

    def __init__(self, story: diffusion) -> None:
        super().__init__()
        self.location, self.spread = story.location, story.spread
        self.register_buffer("variance", story.forward_variance.clone())

    def forward(self, n: int, data: Mapping[str, Tensor]) -> Tensor:
        """Draw the paths of the rows ``data["x"]`` (n, features)."""
        start = (data["x"] - self.location) / self.spread
        with pyro.plate("row", n, dim=-1):
            return pyro.sample("path", Noising(start, self.variance))


EXAMPLE: tuple[Any, Any] = (
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
