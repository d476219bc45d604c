"""From a generative story and data to a posterior that says whether to believe it.

The public names are :func:`fit`, :func:`fit_many`, :func:`prior`, :func:`reference`, :func:`load` and
:class:`Posterior`. They are looked up on first use, so that ``import inference`` costs nothing but this page.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.certificate import Certificate
    from inference.fitting import fit, prior
    from inference.many import fit_many
    from inference.posterior import Posterior
    from inference.storage import load
    from inference.trusted_sampler import reference

__all__ = ["Certificate", "Posterior", "fit", "fit_many", "load", "prior", "reference"]

_HOME = {
    "Certificate": "inference.certificate",
    "Posterior": "inference.posterior",
    "fit": "inference.fitting",
    "fit_many": "inference.many",
    "load": "inference.storage",
    "prior": "inference.fitting",
    "reference": "inference.trusted_sampler",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
