"""NumPyro's NUTS: four chains in parallel, 1,000 steps of warm-up each, double precision.

The whole of a chain, warm-up included, is one compiled function, mapped over as many devices as there are
chains, as an example of NumPyro's documentation proposes: a second run is then 15 times faster than that of
an ``MCMC`` object that is run again, which traces anew. The mass matrix is dense: several times faster than
the default on nearly collinear regressions, and no slower elsewhere. Of starts and first steps, those that
serve ``arma11`` best: within .5 of zero in the unconstrained space, and a first step size by search. One
chain in ten is still stuck there, where the recursion explodes.

Source: Phan, Pradhan and Jankowiak (2019), Composable effects for flexible and accelerated probabilistic
programming in NumPyro, arXiv:1912.11554.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from experiments.peers.models.in_numpyro import problem
from experiments.peers.posed import posed
from experiments.peers.timing import CHAINS, TimedFit, twice

TITLE = "NumPyro NUTS"
NEEDS = ("jax", "numpyro")
WARM_UP, RADIUS = 1000, 0.5


def run(name: str, draws: int, seed: int) -> TimedFit:
    """Fit one posterior twice; the second run reuses the compiled sampler."""
    import jax
    import numpyro

    numpyro.enable_x64()
    numpyro.set_host_device_count(CHAINS)
    stan, data = posed(name)
    compiled: list[Any] = []
    divergent: list[int] = []

    def fit(seed: int) -> dict[str, Any]:
        model, args = problem(stan, data)
        if not compiled:
            compiled.append(jax.pmap(chain(model, draws), in_axes=(0, *(None for _ in args))))
        values, diverging = compiled[0](jax.random.split(jax.random.PRNGKey(seed), CHAINS), *args)
        divergent.append(int(diverging.sum()))
        return {site: np.asarray(found) for site, found in values.items()}

    return replace(twice(fit, seed), notes={"divergent": divergent})


def chain(model: Any, draws: int) -> Any:
    """Return a function of a random key and the model's arguments that runs one chain."""
    from numpyro.infer import MCMC, NUTS, init_to_uniform

    def whole(key: Any, *args: Any) -> Any:
        start = init_to_uniform(radius=RADIUS)
        kernel = NUTS(model, dense_mass=True, find_heuristic_step_size=True, init_strategy=start)
        mcmc = MCMC(kernel, num_warmup=WARM_UP, num_samples=draws, progress_bar=False)
        mcmc.run(key, *args)
        return mcmc.get_samples(), mcmc.get_extra_fields()["diverging"]

    return whole
