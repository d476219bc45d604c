"""NumPyro's SVI with a full-rank Gaussian: all steps, and the draws, in one compiled function.

Adam with a rate that falls exponentially over all steps, four draws a step, double precision.

Source: Phan, Pradhan and Jankowiak (2019), Composable effects for flexible and accelerated probabilistic
programming in NumPyro, arXiv:1912.11554; Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), Automatic
differentiation variational inference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.peers.models.in_numpyro import problem
from experiments.peers.posed import posed
from experiments.peers.timing import CHAINS, TimedFit, twice

TITLE = "NumPyro full-rank SVI"
NEEDS = ("jax", "numpyro")
STEPS, PARTICLES, RADIUS = 50_000, 4, 0.5
RATE, LAST_RATE = 0.1, 1e-5


def run(name: str, draws: int, seed: int) -> TimedFit:
    """Fit one posterior twice; the second run reuses the compiled function."""
    import jax
    import numpyro

    numpyro.enable_x64()
    stan, data = posed(name)
    compiled: list[Any] = []

    def fit(seed: int) -> dict[str, Any]:
        model, args = problem(stan, data)
        if not compiled:
            compiled.append(jax.jit(optimization(model, draws)))
        values = compiled[0](jax.random.PRNGKey(seed), *args)
        return {site: np.asarray(found) for site, found in values.items()}

    return twice(fit, seed)


def optimization(model: Any, draws: int) -> Any:
    """Return a function of a random key and the model's arguments: every step, then draws."""
    import jax
    from numpyro.infer import SVI, Trace_ELBO, init_to_uniform
    from numpyro.infer.autoguide import AutoMultivariateNormal
    from numpyro.optim import Adam

    guide = AutoMultivariateNormal(model, init_loc_fn=init_to_uniform(radius=RADIUS))
    adam = Adam(lambda step: RATE * (LAST_RATE / RATE) ** (step / STEPS))
    svi = SVI(model, guide, adam, Trace_ELBO(num_particles=PARTICLES))

    def whole(key: Any, *args: Any) -> Any:
        first, second = jax.random.split(key)
        start = svi.init(first, *args)
        state, _ = jax.lax.scan(lambda state, _: svi.update(state, *args), start, length=STEPS)
        return guide.sample_posterior(second, svi.get_params(state), *args, sample_shape=(CHAINS, draws))

    return whole
