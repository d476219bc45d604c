"""Does the posterior reach to where its density is NaN? Then mass may lie there that no draw shows.

A fit meets points without a density far away, where a story's numbers overflow; there the density has fallen
to nothing on the way, and nothing is lost. From every such point a straight line leads to the nearest draw.
If the density at the last point of the line that has one is no lower than at the least probable draw, the
hole lies beside the posterior, whose draws then end at its rim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.compiler.batched_function import undefined
from inference.density.holes import Holes
from inference.density.log_density import LogDensity

_MOST, _UNTRACED = 64, 8  # holes that are looked into, and where plain Pyro does it
_HALVINGS = 40
_NEIGHBOURS = 4  # of a hole; one that has none is a single point, as is the tip of |a|
_NEAR = 1e-3  # standard deviations away
_NAMED = 3  # sites of which a place is told


def holes_beside(density: LogDensity, holes: Holes, z: Tensor, log_p: Tensor) -> list[str]:
    """Reasons not to believe draws that end where the density is NaN.

    Args:
        density: the target.
        holes: what was met on the way.
        z: (draws, size).
        log_p: (draws,) their log densities, in nats.
    """
    drawn = z[log_p.isfinite()]
    if not holes.points or len(drawn) < 2:
        return []
    met = f"{holes.found} of {holes.asked} points"  # before what is asked here is counted along
    scale = drawn.std(0).clamp(min=1e-300)
    met_last = list(holes.points)[-_MOST if density.traced else -_UNTRACED :]
    points = _wide(density, torch.stack(met_last), scale)
    if not len(points):
        return []
    rim = _rims(density, points, drawn[torch.cdist(points / scale, drawn / scale).argmin(1)])
    highest = int(rim.argmax())
    if not float(rim[highest]) >= float(log_p[log_p.isfinite()].min()):
        return []
    return [_reason(density, met, points[highest], float(rim[highest]))]


def _wide(density: LogDensity, points: Tensor, scale: Tensor) -> Tensor:
    """The points around which there is no density either."""
    noise = torch.Generator().manual_seed(0)
    shape = len(points), _NEIGHBOURS, points.shape[1]
    around = torch.randn(shape, generator=noise, dtype=points.dtype) * _NEAR * scale + points[:, None]
    lost = undefined(*density.value_and_grad(around.flatten(0, 1))).unflatten(0, shape[:2])
    return points[lost.all(1)]


def _rims(density: LogDensity, points: Tensor, draws: Tensor) -> Tensor:
    """Log densities at the last points that have one, on the way from draws to holes."""
    inside, outside = draws.clone(), points.clone()
    values = torch.full_like(points[:, 0], -torch.inf)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        value, grad = density.value_and_grad(middle)
        lost = undefined(value, grad)
        values = torch.where(lost, values, value)
        inside, outside = (
            torch.where(lost[:, None], inside, middle),
            torch.where(lost[:, None], middle, outside),
        )
    return values


def _reason(density: LogDensity, met: str, point: Tensor, rim: float) -> str:
    """What was found, where, and whose fault it is."""
    where = ", ".join(
        f"{name} = {float(value.flatten()[0]):.4g}{', ...' if value.numel() > 1 else ''}"
        for name, value in list(density.constrain(point[None]).items())[:_NAMED]
    )
    value, plain = float(density.log_prob(point[None])), density.by_pyro(point)
    wrong = math.isfinite(plain) and not math.isfinite(value)
    whose = f"plain Pyro says {plain:.4g}: the recording is wrong" if wrong else "Pyro's own is"
    return (
        f"The log density, or its gradient, is NaN or +inf at {met}, beside draws of the posterior (log "
        f"density at the rim: {rim:.4g} nats): at {where}, say ({whose}). NaN is not -inf: mass may lie "
        f"there. Bound or rewrite what over- or underflows (logits for probabilities, a scale away from 0)."
    )
