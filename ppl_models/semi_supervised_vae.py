"""Semi-supervised variational autoencoder (M2): a few labels, many rows.

Story
    The same as of the conditional variational autoencoder: a class ``y`` and a style ``z`` make a row
    ``x``. What differs is what is seen: the class of some rows only. A row without a label still says
    something about what rows look like, and so about which class makes it; its class is summed out.

Joint
    p(x, y, z) = prod_i p(y_i) p(z_i) prod_j p(x_ij | y_i, z_i), with

    - y_i ~ Categorical(weights)
    - z_i ~ Normal(0, I)
    - x_ij ~ Binomial(levels, logits = decoder(z_i, y_i)_j), where ``levels`` is given, or
    - x_ij ~ Normal(decoder(z_i, y_i)_j, stddev_j^2)

Shapes
    y (n,) integers 0 .. classes - 1, a masked array where some are missing; z (n, latents);
    x (n, features), grey levels 0 .. levels, or real numbers. The label enters the networks one-hot.

Priors
    On z only: the networks, the class weights and stddev are trained as point estimates. The weights
    start equal; the networks start as torch's layers do, stddev at 1.

Answers
    p(y | x): invert, by the guide's q(y | x) or by Bayes' rule
    p(x | y): generate
    p(x): weigh (a lower bound in expectation, by importance sampling)
    p(z | x, y): invert

Source
    Kingma, Rezende, Mohamed and Welling (2014), "Semi-supervised learning with deep generative models",
    NeurIPS 27, model M2, equations 6 to 9. Smooth hidden units (SiLU), binomial grey levels and trained
    class weights are not from there.

    The story alone does not make its guide a classifier. In the evidence lower bound the network q(y | x)
    appears for rows without a label only: nothing ties the class it names to the labels that were given,
    and a decoder that ignores y, with a flat q(y | x), can be as good. So the paper adds
    alpha log q(y | x) over the labelled rows (equation 9). Here the guide says so as a ``pyro.factor``
    called ``label``. A log probability is never positive: what is climbed then is a looser lower bound of
    the evidence, by alpha times the log loss of the labelled rows, and no longer a tight one. It is part
    of how the guide is trained, not of what is believed: the joint above has no such term.
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

# exp(-RULED_OUT) is exactly 0 in float32 and float64, and unlike -inf it has a gradient that is no NaN.
RULED_OUT = 1e4


class semi_supervised_vae(PyroModule):
    """The story.

    Parameters
    ----------
    features
        Numbers in a row of x; 64 for images of 8 x 8.
    latents
        Dimension of the style z.
    hidden
        Units of each of the two hidden layers, of the decoder and of both of the guide's networks.
    classes
        Number of values of y.
    levels
        The highest grey level, for x that counts 0 .. levels (1: black and white). None: x are real
        numbers with Gaussian noise of trained standard deviation.
    alpha
        Weight of the guide's classification term, in nats per nat of log loss of a labelled row; no part
        of the joint. 0 is the naive M2. It competes with the log density of whole rows, so that it should
        grow with their size and with the share of rows without a label: with 100 labels among 1,437
        digits 300 to 1,000 served with 16 grey levels, and 100 with 4.

    Examples
    --------
    >>> import pyro, torch
    >>> with torch.random.fork_rng(), pyro.get_param_store().scope():
    ...     _ = torch.manual_seed(0)
    ...     semi_supervised_vae()(3).shape
    torch.Size([3, 64])
    """

    weights: Any  # parameters, which read as their values
    stddev: Any

    def __init__(
        self,
        features: int = 64,
        latents: int = 6,
        hidden: int = 64,
        classes: int = 10,
        levels: int | None = 16,
        alpha: float = 300.0,
    ) -> None:
        super().__init__()
        self.features, self.latents, self.hidden = features, latents, hidden
        self.classes, self.levels, self.alpha = classes, levels, alpha
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
    """q(y | x) q(z | x, y), and the term that makes the first a classifier.

    Where no label is given y is drawn from q(y | x), or summed over all its values by an ELBO that
    enumerates; where one is given, y is that label.
    """

    def __init__(self, story: semi_supervised_vae) -> None:
        super().__init__()
        self.classes, self.alpha = story.classes, story.alpha
        self.classifier = mlp(story.features, story.hidden, story.classes)
        self.encoder = mlp(story.features + story.classes, story.hidden, 2 * story.latents)
        self.unit = 1.0 if story.levels is None else float(story.levels)

    def logits(self, x: Tensor) -> Tensor:
        """Log q(y | x) of rows x (n, features): (n, classes)."""
        return self.classifier(x / self.unit).log_softmax(-1)

    def forward(self, n: int, data: Mapping[str, Tensor], seen: Mapping[str, Tensor] | None = None) -> Tensor:
        """Draw y, where it is not given, and z for the rows of ``data["x"]`` (n, features).

        Parameters
        ----------
        n
            The number of rows.
        data
            ``x``, and ``y`` where at least some labels are given.
        seen
            ``y``: True for the rows whose label is given; all of them where it is left out.
        """
        x, logits = data["x"] / self.unit, self.logits(data["x"])
        seen_y = (seen or {}).get("y")
        with pyro.plate("row", n, dim=-1):
            if "y" in data:
                self._learn(logits, data["y"], seen_y)
            if "y" in data and seen_y is None:
                y = data["y"]
            else:
                known = logits if seen_y is None else self._given(logits, data["y"], seen_y)
                y = pyro.sample("y", dist.Categorical(logits=known), infer={"enumerate": "parallel"})
            mean, log_stddev = self.encoder(beside(x, one_hot(y, self.classes, x.dtype))).chunk(2, -1)
            return pyro.sample("z", dist.Normal(mean, log_stddev.exp()).to_event(1))

    def _learn(self, logits: Tensor, y: Tensor, seen: Tensor | None) -> None:
        """Add alpha log q(y | x) of the rows whose label is given to what is climbed."""
        if y.shape != logits.shape[:-1]:
            return  # every class at once: a question, not a label
        told = dist.Categorical(logits=logits).log_prob(y)
        told = told if seen is None else told * seen
        pyro.factor("label", -self.alpha * told, has_rsample=True)  # has_rsample: it depends on no draw

    def _given(self, logits: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        """q(y | x) where no label is given; a point mass on the label where one is."""
        label = (one_hot(y, self.classes, logits.dtype) - 1.0) * RULED_OUT
        return torch.where(seen[..., None], label, logits)


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
