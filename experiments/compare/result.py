"""What a comparison returns: a number that says how far it can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Standard normal quantiles: a test of level 5 % (one-sided) that sees a difference 4 times in 5.
Z_LEVEL = 1.6448536269514722
Z_POWER = 0.8416212335729143


class Estimate(NamedTuple):
    """A mean and its standard error, in the unit of the values that were averaged.

    As text, the error has two significant digits and the value as many decimals; an error of
    zero, or one that is not finite, is left out.

    Examples
    --------
    >>> print(Estimate(0.9123, 0.0149))
    0.912 ± 0.015
    """

    value: float
    error: float

    def __str__(self) -> str:
        if self.error == 0 or not math.isfinite(self.error):
            return number(self.value)
        decimals = max(1 - math.floor(math.log10(abs(self.error))), 0)
        return f"{self.value:.{decimals}f} ± {self.error:.{decimals}f}"


@dataclass(frozen=True)
class Comparison:
    """How far two distributions lie apart, and what could have been seen.

    Attributes
    ----------
    value
        The estimated distance, in its own unit (nats for KL and JS, the data's unit for energy).
    error
        Monte Carlo standard error of ``value``.
    p_value
        Of the test that both are one law; None where there is no test.
    floor
        What two samples of one and the same law would show: the 95 % quantile of ``value`` under
        that null, so a larger value is significant at 5 %. 0 where no sampling noise is left.
    detectable
        The smallest distance that would have been told from none 4 times in 5, on the scale of
        ``value``. "Not rejected" means no more than "smaller than this, if at all".
    kind
        The name of the distance.
    null_mean
        Mean of ``value`` under the null: the upward bias of a distance that cannot be negative.
    bound
        "upper" where ``value`` estimates an upper bound of the distance, as it does when a
        density is known only by a lower bound of its logarithm; empty where it estimates itself.
    similarity
        True where ``value`` falls as the laws move apart (coverage): ``floor`` is then the 5 %
        quantile, and smaller values are significant.
    """

    value: float
    error: float
    p_value: float | None
    floor: float
    detectable: float
    kind: str
    null_mean: float = 0.0
    bound: str = ""
    similarity: bool = False

    @property
    def excess(self) -> float:
        """``value`` less its mean under the null: the distance with its bias taken off."""
        return self.value - self.null_mean

    def row(self) -> dict[str, str]:
        """Write one row of a table of comparisons."""
        return {
            self.kind: self._measured(),
            "floor": number(self.floor, 2),
            "p": "" if self.p_value is None else number(self.p_value, 2),
            "detectable": number(self.detectable, 2),
        }

    def __str__(self) -> str:
        parts = [f"{self.kind} {self._measured()}"]
        if self.p_value is not None:
            parts.append(f"p = {number(self.p_value)}")
            side = "above" if self.similarity else "below"
            parts.append(f"95 % of pairs of samples of one law stay {side} {number(self.floor)}")
        parts.append(f"{number(self.detectable)} would have been seen 4 times in 5")
        return "; ".join(parts)

    def _measured(self) -> str:
        return f"{'at most ' if self.bound else ''}{Estimate(self.value, self.error)}"


def mean_and_error(values: Tensor) -> Estimate:
    """Mean of independent values (rows,) and its standard error.

    Raises
    ------
    ValueError
        If there are fewer than two values: one value has no error.

    Examples
    --------
    >>> mean_and_error(torch.tensor([1.0, 2.0, 3.0]))
    Estimate(value=2.0, error=0.5773502691896258)
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values: expected at least 2 in one dimension, got {tuple(values.shape)}")
    values = values.double()
    if not torch.isfinite(values).all():
        return Estimate(values.mean().item(), math.nan)
    return Estimate(values.mean().item(), (values.std() / math.sqrt(len(values))).item())


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, without a needless exponent."""
    if value == 0 or not math.isfinite(value) or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{decimals}f}"
