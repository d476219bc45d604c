"""Which quantities have tails so heavy that their mean or standard deviation cannot be told from draws?

The largest draws of a quantity are fitted by a generalized Pareto distribution, as importance weights are
(Vehtari, Simpson, Gelman, Yao and Gabry 2024, "Pareto smoothed importance sampling", JMLR 25, section 3).
With a shape of 1/2 or more its variance does not exist, with 1 or more not even its mean. An average is
not to be relied on from a shape of .7 on, as with weights; the average of squares, whose tails have twice
the shape, from .35 on. Such draws may be right, and their quantiles too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inference.checks.importance import Replicate
from inference.checks.psis import fit_generalized_pareto
from inference.density.log_density import LogDensity

_SPREAD, MEAN = 0.35, 0.7  # shapes from which standard deviations, and means, are not to be relied on
CARRIED = 0.5  # where chains can take over: from .7 on a tail is lost, from .5 on it is too short
_MOST = 5000  # elements that are looked at


def tail_shape(values: Tensor) -> Tensor:
    """Larger Pareto shape of both tails of every column (draws, columns) -> (columns,)."""
    ordered = values.T.sort(-1).values
    return torch.maximum(_shape(ordered), _shape(-ordered.flip(-1)))


def carried(values: Mapping[str, Tensor], log_weights: Tensor) -> dict[str, Tensor]:
    """How few weighted draws carry the standard deviations: the tail shape of weight x squared deviation.

    Weights that pass for the whole may fail for one quantity, whose squares are largest where the proposal
    is thinnest (Vehtari et al. 2024, section 2.4). Resampled draws then end too early, and do not show it.

    Args:
        values: site -> (draws, *shape), a weighted pool.
        log_weights: (draws,) normalized.

    Returns:
        site -> shapes (elements,).
    """
    weights = log_weights.exp()[:, None]
    shapes = {}
    for name, value in values.items():
        flat = value.double().reshape(len(value), -1)[:, :_MOST]
        square = (flat - (weights * flat).sum(0)).square() * weights
        if flat.numel():
            shapes[name] = _shape(square.T.sort(-1).values)
    return shapes


def uncarried(density: LogDensity, replicates: Sequence[Replicate], limit: float = CARRIED) -> list[str]:
    """Reasons against resampled draws: sites whose spread too few of the weighted ones carry.

    The limit is that from which chains can do better; where there are none to take over, that of a lost tail.

    Every element's shape is averaged over the restarts, since each estimate of it errs by about .1, and the
    largest of many would err upwards.
    """
    found: dict[str, list[Tensor]] = {}
    for replicate in replicates:
        if replicate.heavy is not None and replicate.certified:
            z, log_weights = replicate.heavy
            for name, shape in carried(density.constrain(z), log_weights).items():
                found.setdefault(name, []).append(shape)
    worst = {name: float(torch.stack(shapes).mean(0).max()) for name, shapes in found.items()}
    return [
        f"{name}: too few of the weighted draws carry its standard deviation (Pareto shape {shape:.2f} of "
        f"weight x squared deviation, above {limit}): its tail is cut off."
        for name, shape in worst.items()
        if shape >= limit
    ]


def _shape(ordered: Tensor) -> Tensor:
    """Pareto shape of the upper tail of every row of ascending values."""
    draws = ordered.shape[1]
    count = _in_tail(draws)
    excess = (ordered[:, -count:] - ordered[:, -count - 1, None]).clamp(min=0)
    return fit_generalized_pareto(excess)[0].nan_to_num(-math.inf)


def _in_tail(draws: int) -> int:
    """How many of the largest draws the shape is fitted to."""
    return math.ceil(min(draws / 5, 3 * math.sqrt(draws)))


def heavy(values: Mapping[str, Tensor], *, by_chains: bool = False) -> list[str]:
    """Notes about sites (restart, draw, *shape) with elements whose tails are, or may be, too heavy.

    A shape k errs by about (1 + k) / sqrt(draws in the tail) (Hosking and Wallis 1987); one such error below
    the limit is not taken for light. Of draws by chains two are not: chains end a tail too early, never too
    late, so that it looks lighter than it is.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> cauchy = torch.empty(4, 1000, dtype=torch.float64).cauchy_(generator=generator)
        >>> heavy({"x": cauchy})[0][:41], heavy({"x": cauchy.clamp(-1, 1)})
        ('x: its tails are so heavy (Pareto shape 1', [])
    """
    notes = []
    for name, value in values.items():
        flat = value.flatten(0, 1).double()
        if len(flat) < 400 or not value.is_floating_point():
            continue
        flat = flat.reshape(len(flat), -1)[:, :_MOST]
        shape = tail_shape(flat)
        worst = float(shape.max()) if shape.numel() else -math.inf
        error = (1 + worst) / math.sqrt(_in_tail(len(flat)))
        if not worst + (2 if by_chains else 1) * error >= _SPREAD:
            continue
        lost = "mean and standard deviation are" if worst >= MEAN else "standard deviation is"
        notes.append(
            f"{name}: its tails are so heavy (Pareto shape {worst:.2f} +- {error:.2f}) that the {lost} not "
            f"to be relied on: there may be none, or a rare mode carries it. Report quantiles."
        )
    return notes
