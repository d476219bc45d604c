"""Posteriors that are hard to approximate, each in its own way, and known all the same, one per file.

A file has constants, chosen before anything was fitted to them, and ``posterior()``, which returns a
:class:`experiments.truth.known_posterior.KnownPosterior`. They are found by their file name.

Examples
--------
>>> from experiments.truth.posteriors import posterior
>>> funnel = posterior("funnel")
>>> funnel.judge(funnel.exact_draws(4000)).right
True
"""

import sys

from experiments.compare import found
from experiments.truth.known_posterior import KnownPosterior


def names() -> list[str]:
    """Return the names of all posteriors, sorted."""
    return found.names(sys.modules[__name__])


def posterior(name: str) -> KnownPosterior:
    """Return a posterior by the name of its file.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those that there are.
    """
    known: KnownPosterior = found.part(sys.modules[__name__], name, "name").posterior()
    return known
