"""Distances between distributions, each with its Monte Carlo error and what it could have seen.

Two densities are compared by :func:`divergence` (or by :func:`kl_from`, where one is known only row
by row, perhaps as a bound), two sets of draws by :func:`two_sample`, draws and a density known up to
a factor by :func:`stein`; :func:`density_coverage` and :func:`modes` say what generated rows miss, and
:func:`bits_per_dimension` what held-out rows cost. :func:`calibration` judges posteriors over
many simulated data sets. Moments beside those of the truth stand in
:mod:`experiments.compare.moments`; a classifier's probabilities are measured by the functions of
:mod:`experiments.compare.classification` and corrected, where classes have become rarer or more common, by
:mod:`experiments.compare.prior_shift`, a score that flags outliers by
:mod:`experiments.compare.detection`. A new divergence is a new file in ``kinds/``, a new two-sample
test a new file in ``statistics/``; both are found by their file name.
"""

from experiments.compare.coverage import DensityCoverage, density_coverage
from experiments.compare.densities import divergence
from experiments.compare.likelihood import Bits, bits_per_dimension, kl_from
from experiments.compare.mode_count import Modes, modes
from experiments.compare.moments import MomentErrors, moment_errors
from experiments.compare.result import Comparison, Estimate
from experiments.compare.samples import two_sample
from experiments.compare.sbc.calibration import calibration
from experiments.compare.sbc.result import Calibration
from experiments.compare.stein_discrepancy import stein

__all__ = [
    "Bits",
    "Calibration",
    "Comparison",
    "DensityCoverage",
    "Estimate",
    "Modes",
    "MomentErrors",
    "bits_per_dimension",
    "calibration",
    "density_coverage",
    "divergence",
    "kl_from",
    "modes",
    "moment_errors",
    "stein",
    "two_sample",
]
