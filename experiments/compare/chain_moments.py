"""Are the means and standard deviations of a sampler's draws those of reference draws, given their noise?

Draws of a Markov chain are dependent: their Monte Carlo errors follow from effective sizes. The units of
these errors are the reference's standard deviation and kurtosis, not those of the draws at hand: chains that
are stuck in different places have a huge spread of their own, which would excuse any error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.compare.moments import MomentErrors
from inference.hmc.convergence import ess_raw

__all__ = ["MEAN", "Agreement", "agreement", "chain_moments"]

MEAN, STDDEV = 0.05, 0.05  # in reference standard deviations, and relative
NOISE = 3.0  # Monte Carlo errors that are allowed on top
FEWEST = 100.0  # effective draws below which a Monte Carlo error is itself not known


@dataclass(frozen=True)
class Agreement:
    """The largest errors over all quantities.

    Attributes
    ----------
    mean
        Largest error of a mean, in reference standard deviations; infinite if a quantity is missing.
    stddev
        Largest relative error of a standard deviation.
    worst_mean, worst_stddev
        Names of the quantities that have them.
    within
        Whether every error is at most the tolerance, .05 and 5 %.
    right
        Whether every error is at most the tolerance plus 3 Monte Carlo errors.
    """

    mean: float
    stddev: float
    worst_mean: str
    worst_stddev: str
    within: bool
    right: bool


def agreement(draws: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Agreement:
    """Lay draws beside reference draws; a quantity that is missing, or not finite, is wrong.

    Parameters
    ----------
    draws, reference
        Quantity -> (chains, draws, *shape).

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> reference, draws = torch.randn(2, 4, 1000, 3, generator=generator, dtype=torch.float64)
    >>> agreement({"beta": draws}, {"beta": reference}).right
    True
    >>> agreement({"beta": 0.8 * draws}, {"beta": reference}).right
    False
    >>> agreement({}, {"beta": reference}).mean
    inf
    """
    names: list[str] = []
    parts: list[MomentErrors] = []
    for name, theirs in reference.items():
        names += [name] if theirs.dim() == 2 else [f"{name}[{k + 1}]" for k in range(theirs[0, 0].numel())]
        ours = draws.get(name)
        if ours is None or ours.shape[2:] != theirs.shape[2:] or not bool(ours.isfinite().all()):
            return Agreement(math.inf, math.inf, name, name, within=False, right=False)
        parts.append(MomentErrors(*(values.flatten() for values in chain_moments(ours, theirs))))
    errors = MomentErrors(*(torch.cat(values) for values in zip(*parts, strict=True)))
    mean, stddev = errors.mean.abs(), errors.stddev.abs()
    # Written so that a NaN is wrong: it is not at most anything.
    within = (mean <= MEAN) & (stddev <= STDDEV)
    right = (mean <= MEAN + NOISE * errors.mean_noise) & (stddev <= STDDEV + NOISE * errors.stddev_noise)
    return Agreement(
        float(mean.max()), float(stddev.max()), names[int(mean.argmax())], names[int(stddev.argmax())],
        bool(within.all()), bool(right.all()),
    )  # fmt: skip


def chain_moments(draws: Tensor, reference: Tensor) -> MomentErrors:
    """Compare the moments of dependent draws with those of reference draws.

    With n effective draws, the Monte Carlo error of a mean is sd / sqrt(n); that of a standard deviation is
    sd sqrt((kurtosis - 1) / (4 m)), where m is the effective number of draws for the squared deviations.

    Parameters
    ----------
    draws
        (chains, draws, *shape).
    reference
        (chains, draws, *shape), more of them or better ones; its own Monte Carlo error adds to the noise.

    Returns
    -------
    MomentErrors
        Every member of the shape; its noise is NaN where there are fewer than 100 effective draws.

    Source
    ------
    Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Rank-normalization, folding, and localization:
    an improved R-hat; Kendall and Stuart (1977), The Advanced Theory of Statistics, volume 1, section 10.6.

    Examples
    --------
    >>> import torch
    >>> draws = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).double()
    >>> errors = chain_moments(2 * draws + 1, draws)
    >>> round(float(errors.stddev), 3), round(float(errors.mean_noise), 3)
    (1.0, 0.023)
    """
    theirs = reference.double().flatten(2) if reference.dim() > 2 else reference.double()[..., None]
    ours = draws.double().flatten(2) if draws.dim() > 2 else draws.double()[..., None]
    exact, sd = theirs.flatten(0, 1).mean(0), theirs.flatten(0, 1).std(0)
    kurtosis = (((theirs - exact) / sd) ** 4).flatten(0, 1).mean(0)
    mean, stddev = ours.flatten(0, 1).mean(0), ours.flatten(0, 1).std(0)
    mean_noise, square_noise = torch.zeros_like(sd), torch.zeros_like(sd)
    for values, centre in ((ours, mean), (theirs, exact)):
        mean_noise = mean_noise + 1 / _effective(values)
        square_noise = square_noise + 1 / _effective((values - centre).square())
    shape = reference.shape[2:]
    found = (
        (mean - exact) / sd, mean_noise.sqrt(),
        stddev / sd - 1, ((kurtosis - 1).clamp_min(0) * square_noise).sqrt() / 2,
    )  # fmt: skip
    return MomentErrors(*(values.reshape(shape) for values in found))


def _effective(draws: Tensor) -> Tensor:
    """Effective number of draws, NaN where it is too small to rely on."""
    size = ess_raw(draws)
    return torch.where(size >= FEWEST, size, math.nan)
