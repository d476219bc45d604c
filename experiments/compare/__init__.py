"""Distances between distributions, each with its Monte Carlo error and what it could have seen.

Two densities are compared by :func:`divergence`, two sets of draws by :func:`two_sample`; a
classifier's probabilities are measured by the functions of
:mod:`experiments.compare.classification`, a score that flags outliers by
:mod:`experiments.compare.detection`. A new divergence is a new file in ``kinds/``, a new
two-sample test a new file in ``statistics/``; both are found by their file name.
"""

from experiments.compare.densities import divergence
from experiments.compare.result import Comparison, Estimate
from experiments.compare.samples import two_sample

__all__ = ["Comparison", "Estimate", "divergence", "two_sample"]
