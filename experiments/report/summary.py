"""ArviZ's summary of a posterior, whole for a file and rounded for a reader."""

from __future__ import annotations

import math
import warnings
from typing import Any

from experiments.report.blocks import Table

__all__ = ["summarize"]

# A summary line costs about 5 ms; variables that do not fit into this many lines are left out.
MOST_ROWS = 2000


def summarize(idata: Any, file: str = "") -> tuple[Table, Table]:
    """``arviz.summary`` of the group ``posterior``: in full precision, and rounded for display.

    ``idata`` is an ArviZ 0.x InferenceData or the DataTree of ArviZ 1.x. Means, standard deviations
    and intervals are rounded where the standard deviation has three digits.
    """
    import arviz

    kept, left_out = _choose(idata["posterior"])
    caption = "A chain is one restart of the fit."
    if left_out:
        caption += f" Left out for their size: {', '.join(left_out)}."
    if not kept:
        empty = Table([], [], caption, file)
        return empty, empty
    with warnings.catch_warnings():
        # Constant and discrete variables have no R-hat or ESS; ArviZ warns and gives NaN.
        warnings.simplefilter("ignore", RuntimeWarning)
        frame = arviz.summary(idata, var_names=kept, round_to="none")
    full = Table.of(frame, caption, file)
    return full, Table(full.columns, _rounded(full), caption, file)


def _choose(group: Any) -> tuple[list[str], list[str]]:
    kept: list[str] = []
    left_out: list[str] = []
    rows = 0
    for name, variable in group.data_vars.items():
        size = int(variable[0, 0].size)
        fits = rows + size <= MOST_ROWS
        rows += size if fits else 0
        (kept if fits else left_out).append(str(name))
    return kept, left_out


def _rounded(table: Table) -> list[list[Any]]:
    """All elements of a variable are rounded alike, where the smallest one needs it."""
    names = [str(name) for name in table.columns]
    stddev = names.index("sd") if "sd" in names else None
    digits: dict[str, int] = {}
    for row in table.rows:
        variable = str(row[0]).partition("[")[0]
        value = row[stddev] if stddev is not None else None
        if isinstance(value, float) and 0 < value < math.inf:
            needed = 2 - math.floor(math.log10(value))
            digits[variable] = max(digits.get(variable, 0), needed)
    return [
        [
            _cell(name, value, digits.get(str(row[0]).partition("[")[0], 3))
            for name, value in zip(names, row, strict=True)
        ]
        for row in table.rows
    ]


def _cell(name: str, value: Any, digits: int) -> Any:
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    if name.startswith("ess"):
        return round(value)
    if name == "r_hat":
        return f"{value:.3f}"
    if name.startswith("mcse"):
        return f"{value:.2g}"
    return f"{value:,.{digits}f}" if digits <= 6 else value
