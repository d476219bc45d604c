"""Do the draws have as much mass on either side as places all over the prior say?

Chains that begin on both sides of a dip, and seldom cross it, keep the shares that they began with: R-hat
compares chains that all began alike, the gradient is right at every draw, and a wide enough guide covers the
smaller side. In a few unknowns even places know better: weighed by the density, they say how much of the mass
lies below any value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.density.log_density import LogDensity

_LEAST = 200.0  # effective places without which nothing is said
_DRAWS = 1000  # effective draws that chains have at least
_CUTS = 49  # values of each unknown at which the two are compared
_MISPLACED = 0.01  # share of the mass on the wrong side that is tolerated
_ERRORS = 4.0  # standard errors beyond it


def misplaced(density: LogDensity, z: Tensor, places: Tensor, log_p: Tensor) -> list[str]:
    """Reasons against draws of which another share lies below some value than the places say.

    Only the box of the places is compared: what lies beyond it they do not know.

    Args:
        density: that the draws are of.
        z: (draws, size) by chains, unconstrained.
        places: (places, size), even in a box.
        log_p: (places,) log density there, in nats up to a constant.

    Returns:
        One for each site, of the value at which the two differ most; none where too few places tell.
    """
    finite = torch.where(torch.isfinite(log_p), log_p, -torch.inf)
    weights = torch.softmax(finite, 0).nan_to_num(0.0)
    effective = 1 / float(weights.square().sum().clamp(min=1e-300))
    inside = z[((z >= places.amin(0)) & (z <= places.amax(0))).all(1)]
    if effective < _LEAST or not float(weights.sum()) or not len(inside):
        return []
    found: dict[str, str] = {}
    for unknown in range(z.shape[1]):
        cuts, true, drawn = _shares(inside[:, unknown], places[:, unknown], weights)
        stderr = (true * (1 - true) / effective + drawn * (1 - drawn) / min(_DRAWS, len(inside))).sqrt()
        excess = (true - drawn).abs() - _MISPLACED - _ERRORS * stderr
        worst = int(excess.argmax())
        name = density.site_of(unknown)
        if excess[worst] > 0 and name not in found:
            found[name] = (
                f"{name}: {float(drawn[worst]):.1%} of the draws lie below {float(cuts[worst]):.3g} in "
                f"unconstrained space, but {float(true[worst]):.1%} of the mass, by the density at "
                f"{len(places)} places all over the prior. The chains seldom cross a dip of the density, and "
                f"its two sides have wrong shares. Write the story so that it has one mode, or give {name} a "
                f"prior on one side."
            )
    return list(found.values())


def _shares(drawn: Tensor, places: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values of one unknown, and the shares of the places' mass and of the draws below them: (cuts,) each."""
    order = places.argsort()
    below = weights[order].cumsum(0)
    levels = torch.arange(1, _CUTS + 1, dtype=torch.float64) / (_CUTS + 1)
    index = torch.searchsorted(below, levels * below[-1]).clamp(max=len(places) - 1)
    cuts = places[order][index]
    share = torch.searchsorted(drawn.sort().values, cuts, right=True) / len(drawn)
    return cuts, below[index] / below[-1], share.double()
