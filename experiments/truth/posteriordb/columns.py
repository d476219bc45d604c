"""What the linear regressions of the database regress on what: Stan's ``transformed data``, as a table.

The first covariate is always the intercept. Standard deviations divide by rows - 1, as Stan's do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Regression = tuple[Tensor, list[Tensor]]  # response, and the covariates beside the intercept


def regression(model: str, data: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return what a regression regresses on what.

    Parameters
    ----------
    model
        Name of the Stan program.
    data
        Variables of the data set, as Stan gets them.

    Returns
    -------
    tuple[Tensor, Tensor]
        Covariates (rows, columns), intercept first, and response (rows,), float64.

    Raises
    ------
    ValueError
        If the table has no such program.

    Examples
    --------
    >>> rows = {"kid_score": [65.0, 98.0], "mom_hs": [1, 0], "mom_iq": [121.0, 89.0]}
    >>> covariates, response = regression("kidscore_interaction_c2", rows)
    >>> covariates.tolist(), response.tolist()
    ([[1.0, 0.5, 21.0, 10.5], [1.0, -0.5, -11.0, 5.5]], [65.0, 98.0])
    """
    if model not in TABLE:
        raise ValueError(f"model: expected one of {', '.join(TABLE)}, got {model!r}")
    lists = {key: value for key, value in data.items() if isinstance(value, list)}
    variables = {key: torch.tensor(value, dtype=torch.float64) for key, value in lists.items()}
    response, covariates = TABLE[model](SimpleNamespace(**variables))
    return torch.stack([torch.ones_like(response), *covariates], -1), response


def _crossed(a: Tensor, b: Tensor) -> list[Tensor]:
    """Two covariates and their interaction."""
    return [a, b, a * b]


def _centred(x: Tensor) -> Tensor:
    return x - x.mean()


def _halved(x: Tensor) -> Tensor:
    """Centred, in units of two standard deviations."""
    return _centred(x) / (2 * x.std())


def _levels(x: Tensor) -> list[Tensor]:
    """Indicators of the levels 2, 3 and 4."""
    return [(x == level).double() for level in (2, 3, 4)]


def _canopy(v: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of the canopy's volume, area and shape."""
    area = v.diam1 * v.diam2
    return (area * v.canopy_height).log(), area.log(), (v.diam1 / v.diam2).log()


def _nes(v: SimpleNamespace) -> Regression:
    age = _levels(v.age_discrete)
    return v.partyid7, [v.real_ideo, v.race_adj, *age, v.educ1, v.gender, v.income]


def _logmesquite(v: SimpleNamespace) -> Regression:
    sizes = (v.diam1, v.diam2, v.canopy_height, v.total_height, v.density)
    return v.weight.log(), [*(size.log() for size in sizes), v.group]


TABLE: dict[str, Callable[[SimpleNamespace], Regression]] = {
    "kidscore_momhs": lambda v: (v.kid_score, [v.mom_hs]),
    "kidscore_momiq": lambda v: (v.kid_score, [v.mom_iq]),
    "kidscore_momhsiq": lambda v: (v.kid_score, [v.mom_hs, v.mom_iq]),
    "kidscore_interaction": lambda v: (v.kid_score, _crossed(v.mom_hs, v.mom_iq)),
    "kidscore_interaction_c": lambda v: (v.kid_score, _crossed(_centred(v.mom_hs), _centred(v.mom_iq))),
    "kidscore_interaction_c2": lambda v: (v.kid_score, _crossed(v.mom_hs - 0.5, v.mom_iq - 100)),
    "kidscore_interaction_z": lambda v: (v.kid_score, _crossed(_halved(v.mom_hs), _halved(v.mom_iq))),
    "kidscore_mom_work": lambda v: (v.kid_score, _levels(v.mom_work)),
    "log10earn_height": lambda v: (v.earn.log10(), [v.height]),
    "logearn_height": lambda v: (v.earn.log(), [v.height]),
    "logearn_height_male": lambda v: (v.earn.log(), [v.height, v.male]),
    "logearn_logheight_male": lambda v: (v.earn.log(), [v.height.log(), v.male]),
    "logearn_interaction": lambda v: (v.earn.log(), _crossed(v.height, v.male)),
    "logearn_interaction_z": lambda v: (v.earn.log(), _crossed(2 * _halved(v.height), v.male)),
    "logmesquite": _logmesquite,
    "logmesquite_logvolume": lambda v: (v.weight.log(), [_canopy(v)[0]]),
    "logmesquite_logva": lambda v: (v.weight.log(), [*_canopy(v)[:2], v.group]),
    "logmesquite_logvash": lambda v: (v.weight.log(), [*_canopy(v), v.total_height.log(), v.group]),
    "logmesquite_logvas": lambda v: (
        v.weight.log(),
        [*_canopy(v), v.total_height.log(), v.density.log(), v.group],
    ),
    "nes": _nes,
}
