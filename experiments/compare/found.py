"""Parts found by file name: a new one touches one source file."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def names(package: ModuleType) -> list[str]:
    """Return the names of the modules of a package, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def part(package: ModuleType, name: str, argument: str) -> ModuleType:
    """Import the module ``name`` of a package.

    Raises
    ------
    ValueError
        If there is none; the message names the ``argument`` and what there is.
    """
    if name not in names(package):
        raise ValueError(f"{argument}: expected one of {', '.join(names(package))}, got {name!r}")
    return import_module(f"{package.__name__}.{name}")
