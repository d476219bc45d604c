"""Multinomial naive Bayes: documents as bags of words, every class with word frequencies of its own.

Story
    To write a document, choose a class ``y`` (a topic, a language), then draw every word by itself from
    that class's frequencies. What is kept is how often each word occurs, ``x``. How long a document is, is
    given and not explained: ``lengths`` is a covariate, with one entry per row.

Joint
    p(weights) p(frequency) prod_i p(y_i | weights) p(x_i | y_i, frequency, lengths_i)

    - weights ~ Dirichlet(1, ..., 1)
    - frequency[c] ~ Dirichlet(smoothing, ..., smoothing)
    - y_i ~ Categorical(weights)
    - x_i ~ Multinomial(lengths_i, frequency[y_i])

Shapes
    lengths (n,) words per document, weights (classes,), frequency (classes, words), y (n,) integers,
    x (n, words) counts whose rows sum to ``lengths``.

Priors
    Uniform over class weights; ``smoothing`` imagined occurrences of every word in every class (1: Laplace's
    rule).

Answers
    p(x | y): generate documents of given lengths
    p(y | x): invert; new documents come with args=(lengths, ...)
    p(x): weigh documents of the same length against one another
    p(frequency, weights | x, y): learn, exactly where every y is known
    not p(length): lengths are given, so a document is not strange for being long

Source
    Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, chapter 13; Murphy (2012),
    Machine Learning: A Probabilistic Perspective, section 3.5. At the posterior means of ``frequency`` its
    p(x | y) is that of scikit-learn's ``MultinomialNB(alpha=smoothing)``.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_models.distributions.counts import Counts


def multinomial_naive_bayes(
    lengths: Tensor, classes: int = 2, words: int = 20, smoothing: float = 1.0
) -> Tensor:
    """Tell the story of one document per entry of ``lengths``; returns their counts, shape (n, words).

    Examples
    --------
    >>> import torch
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     multinomial_naive_bayes(torch.tensor([30, 7])).sum(-1)
    tensor([30.,  7.])
    """
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(classes)))
    with pyro.plate("class", classes, dim=-1):
        frequency = pyro.sample("frequency", dist.Dirichlet(torch.full((words,), float(smoothing))))
    with pyro.plate("document", len(lengths), dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", Counts(lengths, frequency[y]))


def exact(
    data: Mapping[str, Tensor],
    lengths: Tensor,
    classes: int = 2,
    words: int = 20,
    smoothing: float = 1.0,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the latent sites given labelled documents, in closed form.

    Parameters
    ----------
    data
        ``x`` (n, words) and ``y`` (n,).
    lengths, classes, words, smoothing
        As the story was called.
    given
        Values of latent sites to condition on; the sites are independent a posteriori, so it only removes
        the sites it names.

    Returns
    -------
    dict
        ``weights`` (Dirichlet over classes) and ``frequency`` (a batch of Dirichlets, one per class).
    """
    member = torch.nn.functional.one_hot(data["y"].long(), classes).double()
    posterior: dict[str, Distribution] = {
        "weights": dist.Dirichlet(1.0 + member.sum(0)),
        "frequency": dist.Dirichlet(smoothing + member.T @ data["x"].double()),
    }
    return {name: q for name, q in posterior.items() if name not in (given or {})}


EXAMPLE = (
    (torch.tensor([14, 11, 17, 12, 19, 13]), 3, 4, 2.0),
    {
        "x": torch.tensor(
            [[2, 3, 5, 4], [3, 2, 4, 2], [4, 9, 2, 2], [2, 6, 2, 2], [9, 4, 4, 2], [6, 2, 3, 2]],
            dtype=torch.float64,
        ),
        "y": torch.tensor([2, 2, 1, 1, 0, 0]),
    },
)
