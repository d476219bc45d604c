"""The work of ``simple_to_complex``: one deep story fitted to one density, here or in another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import process_time
from typing import Any

import torch
from torch import Tensor

from experiments.compare import Estimate, density_coverage, kl_from, modes
from experiments.training.optimizers import contest, one_cycle
from experiments.truth.densities import density
from experiments.truth.law import grid
from inference import fit
from ppl_models import adversarial as adversarial_module
from ppl_models import mmd_generator as mmd_module
from ppl_models.autoregressive import autoregressive
from ppl_models.diffusion import diffusion
from ppl_models.energy_based import energy_based
from ppl_models.normalizing_flow import normalizing_flow
from ppl_models.vae import vae

EXACT, BOUND, NONE = "exact", "bound", "none"
COVERED = 0.1  # of the draws that a mode deserves, so many must come: stragglers of a neighbour do, too


@dataclass(frozen=True)
class Recipe:
    """How a deep story is fitted, chosen on eight Gaussians and two moons and the same for all densities.

    ``make`` and ``options`` are called with the spread of the data, so that a story speaks in its unit.
    """

    make: Callable[[float], Any]
    likelihood: str
    steps: int
    batch: int = 256
    options: Callable[[float, int], dict[str, Any]] = field(default=lambda spread, steps: {})


def _likelihood(rate: float) -> Callable[[float, int], dict[str, Any]]:
    return lambda spread, steps: {"optim": one_cycle(rate, steps)}


RECIPES = {
    "vae": Recipe(lambda spread: partial(vae, latents=2), BOUND, 3000),
    "normalizing_flow": Recipe(
        lambda spread: partial(normalizing_flow, spread=spread), EXACT, 1200, options=_likelihood(0.005)
    ),
    "autoregressive": Recipe(
        lambda spread: partial(autoregressive, spread=spread), EXACT, 1500, options=_likelihood(0.005)
    ),
    "energy_based": Recipe(
        lambda spread: partial(energy_based, spread=1.2 * spread), EXACT, 500, options=_likelihood(0.005)
    ),
    "diffusion": Recipe(lambda spread: partial(diffusion, spread=spread), BOUND, 1500),
    "mmd_generator": Recipe(
        lambda spread: partial(mmd_module.mmd_generator, spread=spread),
        NONE,
        1000,
        options=lambda spread, steps: {"loss": mmd_module.loss, "optim": one_cycle(0.003, steps)},
    ),
    "adversarial": Recipe(
        lambda spread: partial(adversarial_module.adversarial, spread=spread),
        NONE,
        1200,
        options=lambda spread, steps: {
            "loss": adversarial_module.loss(spread=spread),
            "optim": contest(0.002, steps),
        },
    ),
}


@dataclass(frozen=True)
class DensityTask:
    """One story, one density, and the effort.

    Attributes
    ----------
    rows
        To fit.
    fresh, bounded
        Fresh rows for the KL of a density, and of one that is known by a bound.
    drawn
        Draws, and as many fresh rows beside them.
    cells
        Per side of the picture of a density.
    steps
        None: the recipe's.
    """

    story: str
    truth: str
    seed: int
    rows: int = 10_000
    fresh: int = 10_000
    bounded: int = 500
    drawn: int = 1_000
    cells: int = 100
    steps: int | None = None


@dataclass(frozen=True)
class DensityFit:
    """What came of a task; what could not be had is None, and ``failure`` says why if nothing could.

    Attributes
    ----------
    kl
        KL(true || estimated) in nats; ``bound`` where it is an upper bound.
    modes, precision
        Modes covered and how many there are; share of draws near one. None where modes are not points.
    density, coverage
        Of Naeem et al. (2020), draws against fresh rows.
    draws, image
        Rows from the fitted story; its density on a grid over the truth's square.
    seconds
        Of one core, for the fit alone.
    certified
        Whether the fit's certificate says it is to be trusted.
    """

    task: DensityTask
    kl: Estimate | None = None
    bound: bool = False
    modes: tuple[int, int] | None = None
    precision: Estimate | None = None
    density: Estimate | None = None
    coverage: Estimate | None = None
    draws: Tensor | None = None
    image: Tensor | None = None
    seconds: float = float("nan")
    certified: bool = False
    failure: str = ""


def attempt(task: DensityTask) -> DensityFit:
    """Do a task; a failure of the fit or of a question is a result, too."""
    try:
        return perform(task)
    except (ValueError, RuntimeError, ArithmeticError) as error:
        return DensityFit(task, failure=f"{type(error).__name__}: {error}")


def perform(task: DensityTask) -> DensityFit:
    """Fit, then judge by density (where there is one) and by draws (always)."""
    recipe, law = RECIPES[task.story], density(task.truth)
    x = law.sample_labelled(task.rows, seed=task.seed + 1).x
    spread, steps = float(x.std(0).mean()), task.steps or recipe.steps
    start = process_time()
    posterior = fit(
        recipe.make(spread), {"x": x}, batch_size=recipe.batch, steps=steps, restarts=1, seed=task.seed,
        progress=False, **recipe.options(spread, steps),
    )  # fmt: skip
    seconds = process_time() - start
    with torch.no_grad():
        draws = posterior.sample("x", args=(task.drawn,), seed=task.seed + 3).double()
        found = _by_draws(task, law, draws)
        if recipe.likelihood != NONE:
            found |= _by_density(task, law, posterior, recipe)
    certified = bool(posterior.certificate.trusted)
    return DensityFit(task, draws=draws, seconds=seconds, certified=certified, **found)


def _by_draws(task: DensityTask, law: Any, draws: Tensor) -> dict[str, Any]:
    real = law.sample_labelled(task.drawn, seed=task.seed + 4).x
    near = density_coverage(real, draws, permutations=19)
    found: dict[str, Any] = {
        name: Estimate(getattr(near, name).value, getattr(near, name).error) for name in near._fields
    }
    if law.modes is not None:
        count = len(law.modes)
        least = max(1, round(COVERED * len(draws) / count))
        hit = modes(draws, law.modes, law.noise_stddev, least=least)
        found["modes"] = (round(hit.covered.value * count), count)
        found["precision"] = Estimate(hit.precision.value, hit.precision.error)
    return found


def _by_density(task: DensityTask, law: Any, posterior: Any, recipe: Recipe) -> dict[str, Any]:
    bound = recipe.likelihood == BOUND
    fresh = law.sample_labelled(task.bounded if bound else task.fresh, seed=task.seed + 2).x
    log_q, error = posterior.log_prob({"x": fresh}, stderr=True)
    kl = kl_from(law.log_prob(fresh), log_q, error if bound else None, bound=bound)
    shared = _error_of_log_z(posterior)  # the same for all rows, so that no average takes it out
    found: dict[str, Any] = {"kl": Estimate(kl.value, (kl.error**2 + shared**2) ** 0.5), "bound": bound}
    if not bound:
        points, _ = grid(law.bounds, task.cells)
        found["image"] = posterior.log_prob({"x": points}).exp().reshape(task.cells, task.cells).T
    return found


def _error_of_log_z(posterior: Any) -> float:
    """Standard error of log Z in nats, 0 where the density needs no Z."""
    energy = getattr(posterior.story, "energy", None)
    return 0.0 if energy is None else float(energy.weigh()[1].max())
