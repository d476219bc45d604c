"""Which posteriors the peers fit, and the data as Stan gets them."""

from __future__ import annotations

from typing import Any

from experiments.truth.posteriordb import archive

__all__ = ["EIGHT", "posed"]

# Chosen before anything was measured: a hierarchy, regressions with and without priors and with columns that
# are nearly collinear, a recursion in time, a Gaussian process with counts.
EIGHT = (
    "eight_schools-eight_schools_noncentered",
    "kidiq-kidscore_interaction",
    "earnings-logearn_interaction_z",
    "nes1980-nes",
    "mesquite-logmesquite_logvash",
    "arma-arma11",
    "gp_pois_regr-gp_pois_regr",
    "sblri-blr",
)


def posed(name: str) -> tuple[str, dict[str, Any]]:
    """Return the Stan program of one of the eight and its data.

    Raises
    ------
    ValueError
        If PDB_PATH does not lead to the database, or the posterior is none of the eight.
    """
    if name not in EIGHT:
        raise ValueError(f"name: expected one of {', '.join(EIGHT)}, got {name!r}")
    stan, data = {row[0]: row[1:] for row in archive.posteriors()}[name]
    return stan, archive.data(data)
