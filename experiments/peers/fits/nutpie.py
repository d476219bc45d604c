"""nutpie's NUTS on a PyMC model, compiled by Numba: four chains on two cores, its default warm-up.

Source: nutpie, github.com/pymc-devs/nutpie; Abril-Pla et al. (2023), PyMC: a modern and comprehensive
probabilistic programming framework in Python, PeerJ Computer Science 9.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.peers.models.in_pymc import model
from experiments.peers.posed import posed
from experiments.peers.timing import CHAINS, TimedFit, twice

TITLE = "nutpie"
NEEDS = ("numba", "pymc", "nutpie")
CORES = 2


def run(name: str, draws: int, seed: int) -> TimedFit:
    """Fit one posterior twice; the second run reuses the compiled model."""
    import nutpie

    stan, data = posed(name)
    compiled: list[Any] = []
    divergent: list[int] = []

    def fit(seed: int) -> dict[str, Any]:
        if not compiled:
            compiled.append(nutpie.compile_pymc_model(model(stan, data)))
        settings = {"draws": draws, "chains": CHAINS, "cores": CORES, "seed": seed, "progress_bar": False}
        trace = nutpie.sample(compiled[0], **settings)
        divergent.append(int(trace.sample_stats["diverging"].sum()))
        return {str(site): values.to_numpy() for site, values in trace.posterior.data_vars.items()}

    return replace(twice(fit, seed), notes={"divergent": divergent})
