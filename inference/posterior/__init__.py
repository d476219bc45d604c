"""What a fit returns: :class:`Posterior`, which answers, converts, saves; and how it is loaded again.

Read ``posterior`` first, then ``guide_program`` (the fitted family as a Pyro guide), ``save`` and ``load``
(netCDF, JSON and safetensors; loading executes nothing), ``program_tensors`` (trained networks as numbers).

May import: ``runtime`` to ``arviz_groups``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.posterior.posterior import Posterior

__all__ = ["Posterior"]


def __getattr__(name: str) -> Any:
    """Look the public name up on first use, so that the page costs nothing."""
    if name == "Posterior":
        return import_module("inference.posterior.posterior").Posterior
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
