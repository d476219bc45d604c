"""Two-sample tests by a classifier: how well does it tell rows apart that it was not trained on?"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from experiments.compare.result import Comparison

LEAST_ROWS = 20  # of each sample: of 20 held-out rows 15 must be right, of 10 already 9


def hold_out_test(x: Tensor, y: Tensor, classifier: Any, generator: Generator, kind: str) -> Comparison:
    """Train on half of each sample and test the accuracy on the other half.

    Of the larger sample, a random subset of the size of the smaller is taken. Columns are brought to
    mean 0 and standard deviation 1 of the training rows.

    Parameters
    ----------
    x, y
        Rows (n, d) and (m, d), at least 20 of each.
    classifier
        With scikit-learn's ``fit`` and ``predict``, not yet fitted.
    generator, kind
        Of the split; of the result.

    Returns
    -------
    Comparison
        ``value`` is the accuracy; ``p_value``, ``floor`` and ``detectable`` are those of the binomial
        law of the held-out rows; ``error`` is binomial too, for this classifier: how it would vary
        with the training rows is not in it.

    Raises
    ------
    ValueError
        If a sample has fewer than 20 rows.

    Source
    ------
    Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests; the detectable accuracy is
    the limit of Clopper and Pearson (1934), The use of confidence or fiducial limits.
    """
    from scipy.stats import beta, binom

    rows = min(len(x), len(y))
    if rows < LEAST_ROWS:
        raise ValueError(f"x, y: expected at least {LEAST_ROWS} rows of each to train on, got {rows}")
    # One order for both: of two equal samples no row is then in both halves.
    order = torch.randperm(max(len(x), len(y)), generator=generator)
    x, y = (sample[order[order < len(sample)][:rows]] for sample in (x, y))
    half = rows // 2
    trials = 2 * (rows - half)
    train, test = torch.cat([x[:half], y[:half]]), torch.cat([x[half:], y[half:]])
    right = _right(train, test, classifier)
    accuracy, most = right / trials, float(binom.ppf(0.95, trials, 0.5))
    return Comparison(
        value=accuracy,
        error=math.sqrt(accuracy * (1 - accuracy) / trials),
        p_value=float(binom.sf(right - 1, trials, 0.5)),
        floor=most / trials,
        # P(more than `most` right) = .8 there.
        detectable=float(beta.ppf(0.8, most + 1, trials - most)),
        kind=kind,
        null_mean=0.5,
    )


def _right(train: Tensor, test: Tensor, classifier: Any) -> int:
    """Count the rows of ``test`` that are told right; in both, the first half is of x."""
    stddev = train.std(0)
    stddev[stddev == 0] = 1  # a constant column tells nothing, at any scale
    known, new = (((rows - train.mean(0)) / stddev).numpy() for rows in (train, test))
    found = classifier.fit(known, _labels(train).numpy()).predict(new)
    return int((torch.as_tensor(found) == _labels(test)).sum())


def _labels(rows: Tensor) -> Tensor:
    return (torch.arange(len(rows)) >= len(rows) // 2).long()
