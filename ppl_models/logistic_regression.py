"""Logistic regression: the discriminative story, p(y | x) and nothing else.

Story
    What a row's features are is given, and no story is told of how they came about. Only the class ``y`` is
    explained: its log odds are weighted sums of the covariates. A column of ones among the covariates is
    the intercept. It is the counterpart of the stories that tell p(x | y): fewer assumptions, and
    fewer answers.

Joint
    p(coefficients) prod_i p(y_i | coefficients, covariates_i)

    - coefficients[j, c] ~ Normal(0, spread^2)
    - y_i ~ Categorical(softmax(covariates_i . coefficients))

Shapes
    covariates (n, features), coefficients (features, classes), y (n,) integers.

Priors
    Log odds per unit of a covariate are of the order of ``spread``; a ridge. Every class has coefficients of
    its own, treated alike; adding the same to all of them changes no probability, and there the prior
    alone decides.

Answers
    p(y | covariates): predict; new rows come with args=(covariates, ...)
    p(coefficients | covariates, y): learn
    not p(x): the covariates x are given, never explained; no row is strange to this story, and it cannot
        say that a row comes from none of its classes
    not p(x | y): it holds no distribution of x that Bayes' rule could turn round, and p(y | x) alone
        does not determine one
    not p(y | part of x): summing a missing feature out needs p(x)

Source
    Cox (1958), The regression analysis of binary sequences, JRSS B 20; Ng and Jordan (2002), On
    discriminative vs. generative classifiers. Its posterior mode is scikit-learn's
    ``LogisticRegression(C=spread^2, fit_intercept=False)``; with two classes, where scikit-learn has one
    column of coefficients instead of two, C is 2 spread^2.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def logistic_regression(covariates: Tensor, classes: int = 2, spread: float = 1.0) -> Tensor:
    """Tell the story of one class per row of ``covariates``; returns them, shape (n,).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     logistic_regression(torch.randn(7, 3), classes=4).shape
    torch.Size([7])
    """
    n, features = covariates.shape
    prior = dist.Normal(0.0, spread).expand([features, classes]).to_event(2)
    coefficients = pyro.sample("coefficients", prior)
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Categorical(logits=covariates @ coefficients))


EXAMPLE = (
    (
        torch.tensor(
            [
                [2.1, -3.2, 0.7], [-2.4, 2.9, 3.1], [3.3, 0.4, -2.6], [-0.6, -2.7, 2.2],
                [2.8, 3.6, 0.3], [-3.9, 0.8, -2.3], [0.9, 2.5, 4.2], [-2.2, -3.4, -0.8],
                [4.6, -0.5, 2.7], [0.2, 3.8, -3.5], [-2.9, 2.3, 0.6], [3.7, -2.1, -4.4],
            ],
            dtype=torch.float64,
        ),
        3,
        0.7,
    ),
    {"y": torch.tensor([2, 0, 2, 1, 0, 0, 0, 1, 2, 0, 1, 2])},
)  # fmt: skip
