"""A straight line through logarithms: with what power does something grow?"""

from __future__ import annotations

import math
from collections.abc import Sequence


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Slope of log y on log x, its standard error, and the intercept, by least squares.

    Examples
    --------
    >>> [round(v, 6) for v in slope([1.0, 10.0, 100.0], [2.0, 20.0, 200.0])]
    [1.0, 0.0, 0.693147]
    """
    log_x, log_y = [math.log(v) for v in x], [math.log(v) for v in y]
    middle, level = sum(log_x) / len(x), sum(log_y) / len(x)
    spread = sum((v - middle) ** 2 for v in log_x)
    found = sum((a - middle) * (b - level) for a, b in zip(log_x, log_y, strict=True)) / spread
    rest = [b - level - found * (a - middle) for a, b in zip(log_x, log_y, strict=True)]
    error = math.sqrt(sum(r * r for r in rest) / max(len(x) - 2, 1) / spread)
    return found, error, level - found * middle
