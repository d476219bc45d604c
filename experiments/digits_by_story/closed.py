"""Gaussian stories of digits without a ladder of guides: what they say of a further image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models import gaussian_classes, gaussian_naive_bayes, linear_discriminant

CLASSES, PIXELS = 10, 64
# In grey levels. A class centre is worth STRENGTH imagined rows at LOCATION.
LOCATION, STRENGTH = 8.0, 0.1


@dataclass(frozen=True)
class Predictive:
    """p(x, y | data) of one further image, the parameters integrated out.

    Attributes
    ----------
    law
        Of x, one for every class: batch shape (classes,), event shape (pixels,).
    weights
        Probability of every class, (classes,).
    how
        In words, where it comes from.
    """

    law: Any
    weights: Tensor
    how: str = ""

    def log_joint(self, x: Tensor) -> Tensor:
        """Log p(x_i, y | data) in nats for every class: (rows, classes)."""
        return self.law.log_prob(x.double()[:, None]) + self.weights.log()

    def log_prob(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(x_i | data) in nats, (rows,), and its error, which is 0."""
        log_p = self.log_joint(x).logsumexp(-1)
        return log_p, torch.zeros_like(log_p)

    def probabilities(self, x: Tensor) -> Tensor:
        """p(y | x_i, data), (rows, classes)."""
        return self.log_joint(x).softmax(-1)

    def sample(self, y: Tensor, seed: int) -> Tensor:
        """One image of every label, each under parameters of its own: (rows, pixels)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.law.sample(y.shape)[torch.arange(len(y)), y]


def solved(story: str, data: Mapping[str, Tensor], spread: float) -> Predictive:
    """Solve a story for labelled rows: normal with unknown mean and covariance makes Student t.

    Parameters
    ----------
    story
        "gaussian_naive_bayes", "linear_discriminant" or "gaussian_classes".
    data
        ``x`` (rows, 64), real grey levels, and ``y`` (rows,).
    spread
        Root of the expected variance before data, in grey levels.

    Source: Murphy (2012), Machine Learning: A Probabilistic Perspective, sections 4.6.3.3 and 4.6.3.6.
    """
    return _SOLVED[story](data, spread)


def analysed(data: Mapping[str, Tensor], factors: int, seed: int) -> Predictive:
    """Plug the likeliest parameters into the story of factor analysers, class by class, found by EM.

    Its priors are left out, but for the class weights'. The story's own fit was not to be had in minutes:
    AutoDelta finds the most probable of its 10,330 parameters (16 factors), but then weighs thousands of
    draws one by one, each with ten covariance matrices of 64 x 64.
    """
    from sklearn.decomposition import FactorAnalysis

    means, covariances = [], []
    for label in range(CLASSES):
        rows = data["x"][data["y"] == label].numpy()
        found = FactorAnalysis(factors, random_state=seed, max_iter=2000).fit(rows)
        means.append(torch.as_tensor(found.mean_))
        covariances.append(torch.as_tensor(found.get_covariance()))
    law = dist.MultivariateNormal(torch.stack(means), torch.stack(covariances))
    counts = torch.bincount(data["y"], minlength=CLASSES).double()
    how = "the story's guides take too long for its unknowns"
    return Predictive(law, (1 + counts) / (1 + counts).sum(), how)


def _asked(data: Mapping[str, Tensor], spread: float) -> tuple[Any, ...]:
    return data, None, CLASSES, PIXELS, LOCATION, spread, STRENGTH


def _worth(data: Mapping[str, Tensor]) -> Tensor:
    """Rows, imagined ones included, that the mean of every class rests on; a further row is one more."""
    return STRENGTH + torch.bincount(data["y"], minlength=CLASSES).double()


def _naive(data: Mapping[str, Tensor], spread: float) -> Predictive:
    found: Any = gaussian_naive_bayes.exact(*_asked(data, spread))
    mean, wider = found["mean"], (_worth(data) + 1).sqrt()[:, None]
    return Predictive(dist.StudentT(mean.df, mean.loc, mean.scale * wider).to_event(1), found["weights"].mean)


def _quadratic(data: Mapping[str, Tensor], spread: float) -> Predictive:
    found: Any = gaussian_classes.exact(*_asked(data, spread))
    mean, wider = found["mean"], (_worth(data) + 1).sqrt()[:, None, None]
    return Predictive(
        dist.MultivariateStudentT(mean.df, mean.loc, mean.scale_tril * wider), found["weights"].mean
    )


def _linear(data: Mapping[str, Tensor], spread: float) -> Predictive:
    asked = _asked(data, spread)
    worth, free = _worth(data), PIXELS + 2.0 + len(data["y"]) - PIXELS + 1.0
    found: Any = linear_discriminant.exact(*asked)
    rate = found["precision"].precision_matrix
    root = torch.linalg.cholesky(rate * ((worth + 1) / (worth * free))[:, None, None])
    # The centres' posterior is a matrix Student t around these, symmetric whatever the precision.
    centre = linear_discriminant.exact(*asked, given={"precision": found["precision"].mean})["mean"].mean
    return Predictive(
        dist.MultivariateStudentT(torch.tensor(free).double(), centre, root), found["weights"].mean
    )


_SOLVED = {
    "gaussian_naive_bayes": _naive,
    "linear_discriminant": _linear,
    "gaussian_classes": _quadratic,
}
