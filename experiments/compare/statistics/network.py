"""Classifier two-sample test by the network of the benchmark of simulation-based inference.

As "classifier", with two hidden layers of 10 units a column (at most 100) in place of trees: for
accuracies to be set beside those published with the benchmark, where both samples have 10,000
rows. There, 5-fold cross-validation gives the accuracy; here a hold-out does, whose expectation is
that of a network trained on 5/8 as many rows. With few rows it is slow and sees little.

Source: Lueckmann, Boelts, Greenberg, Goncalves and Macke (2021), Benchmarking simulation-based
inference.
"""

from __future__ import annotations

import warnings

import torch
from torch import Generator, Tensor

from experiments.compare.hold_out import hold_out_test
from experiments.compare.result import Comparison

MOST_UNITS = 100


def compare(x: Tensor, y: Tensor, permutations: int, generator: Generator) -> Comparison:
    """Accuracy on the held-out half of rows (n, d) and (m, d), with a binomial p-value.

    Raises
    ------
    ValueError
        If a sample has fewer than 20 rows.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    units = min(10 * x.shape[1], MOST_UNITS)
    seed = int(torch.randint(2**31, (), generator=generator))
    network = MLPClassifier((units, units), max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        # A network stopped early is as valid a test as any.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return hold_out_test(x, y, network, generator, kind="C2ST accuracy (network)")
