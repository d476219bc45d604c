"""Approximating families, one per file, all with the same three verbs: fit, scaled, log_prob.

A family is a frozen value: ``fit(problems, ends, ...)`` makes one, ``scaled(e)`` maps standardized draws to
unconstrained vectors, ``log_prob(z)`` is its log density. The rungs are found by scanning: every
module here that defines ``fit`` and ``NAME`` is a rung, so that adding one touches one file.

Read ``gaussian`` first, then ``lbfgs``, ``survey`` and ``starts`` (where fits begin), ``natural_gradient``
(how a Gaussian is fitted), ``full_rank``, ``mean_field``, ``laplace`` (the rungs), ``mixture`` and ``blend``
(several at once), ``flow`` with ``flow_layers``, ``flow_warp`` and ``flow_training``. ``serialization``
writes a family as tensors.

May import: ``runtime``, ``story``, ``compiler``, ``density``.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def rungs() -> dict[str, ModuleType]:
    """Return the guides that can be asked for by name.

    Example:
        >>> rungs().keys() >= {"flow", "full_rank", "laplace", "mean_field"}
        True
    """
    modules = [import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__)]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}
