"""From a generative story and data to a posterior that says whether to believe it.

Public are :func:`fit`, :func:`fit_many`, :func:`certify`, :func:`continue_fit`, :func:`prior`,
:func:`reference`, :func:`load`, :class:`SVI`, :class:`Posterior` and :class:`Certificate`. They are looked up
on first use, so that ``import inference`` costs nothing but this page.

Open ``fitting`` first, then ``ladder``; ``many``, ``certifying``, ``continuing`` and
``reference_chains`` are the other ways in. The rest stands in wings, each of which imports only wings before
it, and each of which has a page of its own:

    runtime        settings put back, progress, workers
    story          how a story is called, inspected, conditioned
    compiler       one recorded run as a batched function
    density        story and data as one log density of an unconstrained vector
    guides         approximating families, one per file
    hmc            many short chains, long reference chains
    checks         weights, modes, Stein, tails -> certificate and verdict
    answers        questions to a fit
    arviz_groups   a fit as ArviZ groups
    posterior      what comes back: answers, saves, loads
    svi            Pyro's SVI: hand-written guides, networks, minibatches, any loss
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.certifying import certify
    from inference.checks.certificate import Certificate
    from inference.continuing import continue_fit
    from inference.fitting import fit, prior
    from inference.many import fit_many
    from inference.posterior.load import load
    from inference.posterior.posterior import Posterior
    from inference.reference_chains import reference
    from inference.svi.request import SVI

__all__ = [
    "SVI",
    "Certificate",
    "Posterior",
    "certify",
    "continue_fit",
    "fit",
    "fit_many",
    "load",
    "prior",
    "reference",
]

_HOME = {
    "Certificate": "inference.checks.certificate",
    "Posterior": "inference.posterior.posterior",
    "SVI": "inference.svi.request",
    "certify": "inference.certifying",
    "continue_fit": "inference.continuing",
    "fit": "inference.fitting",
    "fit_many": "inference.many",
    "load": "inference.posterior.load",
    "prior": "inference.fitting",
    "reference": "inference.reference_chains",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
