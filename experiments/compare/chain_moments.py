"""Are the means, standard deviations and tails of a sampler's draws those of reference draws?

Draws of a Markov chain are dependent: their Monte Carlo errors follow from effective sizes. The units of
these errors are the reference's standard deviation and kurtosis, not those of the draws at hand: chains that
are stuck in different places have a huge spread of their own, which would excuse any error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from experiments.compare.moments import MomentErrors
from inference.hmc.convergence import ess_raw

__all__ = ["MEAN", "TAIL", "Agreement", "agreement", "chain_moments", "tail_factors"]

MEAN, STDDEV = 0.05, 0.05  # in reference standard deviations, and relative
TAIL = 1.5  # factor by which the mass beyond the 1 % and 99 % quantiles may be off
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
    tails
        Quantity -> largest factor, of 1 or more, between 1 % and the share of draws beyond the reference's
        1 % or 99 % quantile; infinite where no draw is beyond. ``tail`` is the largest of all.
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
    tails: Mapping[str, float] = field(default_factory=dict)

    @property
    def tail(self) -> float:
        """The largest factor by which the mass of a tail is off; infinite if a quantity is missing."""
        return max(self.tails.values(), default=math.inf)


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
    tails: dict[str, float] = {}
    for name, theirs in reference.items():
        names += [name] if theirs.dim() == 2 else [f"{name}[{k + 1}]" for k in range(theirs[0, 0].numel())]
        ours = draws.get(name)
        if ours is None or ours.shape[2:] != theirs.shape[2:] or not bool(ours.isfinite().all()):
            return Agreement(math.inf, math.inf, name, name, within=False, right=False)
        tails[name] = float(tail_factors(ours, theirs).max())
        parts.append(MomentErrors(*(values.flatten() for values in chain_moments(ours, theirs))))
    errors = MomentErrors(*(torch.cat(values) for values in zip(*parts, strict=True)))
    mean, stddev = errors.mean.abs(), errors.stddev.abs()
    # Written so that a NaN is wrong: it is not at most anything.
    within = (mean <= MEAN) & (stddev <= STDDEV)
    right = (mean <= MEAN + NOISE * errors.mean_noise) & (stddev <= STDDEV + NOISE * errors.stddev_noise)
    return Agreement(
        float(mean.max()), float(stddev.max()), names[int(mean.argmax())], names[int(stddev.argmax())],
        bool(within.all()), bool(right.all()), tails,
    )  # fmt: skip


def tail_factors(draws: Tensor, reference: Tensor, share: float = 0.01) -> Tensor:
    """By what factor the mass in either tail is off, the larger one of both tails.

    Parameters
    ----------
    draws, reference
        (chains, draws, *shape).
    share
        Of the reference beyond each of the two quantiles. With 100 of its draws there, the factor of a right
        sampler is off by 10 %.

    Returns
    -------
    Tensor
        The shape's factors, at least 1.

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> reference, draws = torch.randn(2, 4, 10_000, generator=generator, dtype=torch.float64)
    >>> [round(float(tail_factors(x, reference)), 1) for x in (draws, draws.clamp(-2, 2))]
    [1.1, inf]
    """
    ours, theirs = (x.double().flatten(0, 1) for x in (draws, reference))
    low, high = theirs.quantile(share, 0), theirs.quantile(1 - share, 0)
    found = torch.stack([(ours < low).double().mean(0), (ours > high).double().mean(0)]) / share
    return torch.maximum(found, 1 / found).amax(0)


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
