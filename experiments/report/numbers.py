"""Numbers as people read them, and as JSON can hold them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["aligned", "jsonable", "readable", "with_error"]


def readable(value: Any) -> str:
    """Four significant digits for a float, thousands separated for an integer, text as it is.

    >>> readable(0.123456), readable(1234567), readable(2.0), readable("digits")
    ('0.1235', '1,234,567', '2', 'digits')
    """
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isfinite(value) and 1e3 <= abs(value) < 1e7:
        return f"{value:,.1f}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:.4g}"


def with_error(value: float, error: float | None, plus_minus: str = "±") -> str:
    """A value beside its Monte Carlo error, both cut where the error has two digits.

    >>> with_error(0.913421, 0.00723)
    '0.9134 ± 0.0072'
    """
    if not error or not math.isfinite(error) or not math.isfinite(value):
        return readable(value)
    decimals = 1 - math.floor(math.log10(abs(error)))
    if not -6 <= decimals <= 8:
        return f"{value:.4g} {plus_minus} {error:.2g}"
    shown = (f"{round(float(x), decimals):,.{max(decimals, 0)}f}" for x in (value, error))
    return f" {plus_minus} ".join(shown)


def jsonable(value: Any) -> Any:
    """The same value in types that strict JSON has; NaN and infinities become strings.

    >>> jsonable({"khat": float("inf"), "sizes": (1, 2)})
    {'khat': 'inf', 'sizes': [1, 2]}
    """
    value = _plain(value)
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines for the terminal, each column as wide as its longest cell.

    >>> print(aligned([["site", "kind"], ["mu", "latent"]]))
    site  kind
    mu    latent
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _plain(value: Any) -> Any:
    """Arrays, tensors and NumPy scalars as Python's own numbers and lists."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return value.tolist() if hasattr(value, "tolist") else value
