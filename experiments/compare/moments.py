"""Means and standard deviations of draws beside those of the exact law."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution


class MomentErrors(NamedTuple):
    """Errors of means and standard deviations, coordinate by coordinate.

    Attributes
    ----------
    mean, mean_noise
        Estimated less exact mean, and its Monte Carlo standard error, in exact standard deviations.
    stddev, stddev_noise
        Estimated over exact standard deviation less 1, and its Monte Carlo standard error.
    """

    mean: Tensor
    mean_noise: Tensor
    stddev: Tensor
    stddev_noise: Tensor

    def beyond(self, mean: float, stddev: float, noise: float = 4.0) -> Tensor:
        """Say where an error exceeds its tolerance by more than so many Monte Carlo errors."""
        off = self.mean.abs() > mean + noise * self.mean_noise
        return off | (self.stddev.abs() > stddev + noise * self.stddev_noise)

    def average(self, where: Tensor) -> MomentErrors:
        """Average the errors of some coordinates, which shows a bias that each of them hides.

        Its noise assumes that different coordinates were drawn independently.

        Examples
        --------
        >>> import torch
        >>> noise = torch.full((100,), 0.05)
        >>> errors = MomentErrors(torch.zeros(100), noise, torch.full((100,), 0.2), noise)
        >>> errors.beyond(0.1, 0.1).any().item()
        False
        >>> errors.average(torch.ones(100, dtype=torch.bool)).beyond(0.1, 0.1).item()
        True
        """
        mean, mean_noise, stddev, stddev_noise = (values[where] for values in self)
        noise = [(n.square().sum().sqrt() / len(n)) for n in (mean_noise, stddev_noise)]
        return MomentErrors(mean.mean(), noise[0], stddev.mean(), noise[1])


def moment_errors(draws: Tensor, law: Distribution) -> MomentErrors:
    """Compare the moments of independent draws with the exact ones.

    The Monte Carlo error of a mean is sd / sqrt(draws). That of a standard deviation is
    sd sqrt((kurtosis - 1) / (4 draws)), by the delta method from the variance of a sample
    variance; the kurtosis is that of the draws.

    Parameters
    ----------
    draws
        (restarts, draws, *shape) or (draws, *shape).
    law
        A distribution over ``shape`` that knows its mean and variance.

    Returns
    -------
    MomentErrors
        Every member of the law's shape.

    Raises
    ------
    ValueError
        If the draws' trailing shape is not the law's.

    Source
    ------
    Kendall and Stuart (1977), The Advanced Theory of Statistics, volume 1, section 10.6.

    Examples
    --------
    >>> import torch
    >>> law = torch.distributions.Normal(torch.zeros(3), 2.0)
    >>> errors = moment_errors(law.sample((4, 250)), law)
    >>> errors.mean.shape, errors.beyond(mean=0.1, stddev=0.1).any().item()
    (torch.Size([3]), False)
    """
    shape = law.mean.shape
    leading = draws.ndim - len(shape)
    if leading not in (1, 2) or draws.shape[leading:] != shape:
        raise ValueError(
            f"draws: expected (restarts, draws, *{tuple(shape)}) or (draws, *{tuple(shape)}), "
            f"got {tuple(draws.shape)}"
        )
    flat = draws.reshape(-1, *shape)
    stddev, exact = flat.std(0), law.variance.sqrt()
    kurtosis = ((flat - flat.mean(0)) ** 4).mean(0) / stddev**4
    noise = stddev / exact / math.sqrt(len(flat))
    return MomentErrors(
        mean=(flat.mean(0) - law.mean) / exact,
        mean_noise=noise,
        stddev=stddev / exact - 1,
        stddev_noise=noise * (kurtosis - 1).clamp_min(0).sqrt() / 2,
    )
