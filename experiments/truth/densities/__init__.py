"""Densities in the plane whose log density, draws and labels are exact, one per file.

A file has constants, chosen before anything was fitted to them, and ``density()``, which returns a
:class:`experiments.truth.law.Law` of rows of two, mostly within [-4, 4]. They are found by their
file name.

Examples
--------
>>> from experiments.truth.densities import density
>>> law = density("two_moons")
>>> x, y = law.sample_labelled(1000, seed=0)
>>> law.log_prob(x).shape, law.probabilities(x).shape
(torch.Size([1000]), torch.Size([1000, 2]))
"""

import sys

from experiments.compare import found
from experiments.truth.law import Law


def names() -> list[str]:
    """Return the names of all densities, sorted."""
    return found.names(sys.modules[__name__])


def density(name: str) -> Law:
    """Return a density by the name of its file.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those that there are.
    """
    law: Law = found.part(sys.modules[__name__], name, "name").density()
    return law
