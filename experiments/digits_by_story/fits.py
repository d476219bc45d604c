"""The work of ``digits_by_story``: one story fitted to digits and asked, here or in another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.digits_by_story.closed import CLASSES, LOCATION, PIXELS, analysed, solved
from experiments.training.optimizers import one_cycle_of_rate
from experiments.truth.images.digits import LEVELS, Digits, Images, dequantized
from inference import fit
from ppl_models import adversarial as adversarial_module
from ppl_models import mmd_generator as mmd_module
from ppl_models.autoregressive import autoregressive
from ppl_models.binomial_pixels import binomial_pixels
from ppl_models.conditional_vae import conditional_vae
from ppl_models.diffusion import diffusion
from ppl_models.energy_based import energy_based
from ppl_models.multinomial_naive_bayes import multinomial_naive_bayes
from ppl_models.normalizing_flow import normalizing_flow
from ppl_models.semi_supervised_vae import semi_supervised_vae

EXACT = "P(x), averaged over posterior draws"
PROGRAM = "P(x), exact"
DENSITY = "density of x + u, exact: above the bits of P(x)"
BOUND = "P(x) by importance sampling: an upper bound"
DENSITY_BOUND = "density of x + u by importance sampling: an upper bound"
ANNEALED = "density of x + u with an annealed log Z: in expectation too few bits"
BAG = "P(x | total ink): the ink is given and costs nothing"
SPREADS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of the prior, in grey levels; the best on the rows kept aside is taken
FACTORS = (2, 4, 8, 12, 16, 24)  # of every class; the best on the rows kept aside is taken
SPREAD = 6.0  # of dequantized grey levels over all pixels, roughly
COPIES = 4  # of every training image, each with noise of its own, for densities of x + u
LABELLED = 10  # images of each digit whose label the semi-supervised story is shown
ALPHA = 1000.0  # as in the experiment semi_supervised


@dataclass(frozen=True)
class DigitsTask:
    """One story and the digits.

    ``kept`` training rows are kept aside: to stop training, and to choose a prior.
    """

    story: str
    digits: Digits
    seed: int
    kept: int = 144
    steps: int | None = None
    draws: int = 100


@dataclass(frozen=True)
class DigitsFit:
    """What came of a task; what could not be had is None, and ``refused`` says why.

    Attributes
    ----------
    log_p, error
        Log density of held-out rows in nats, (rows,), and its Monte Carlo error.
    shared
        Error of log Z in nats, the same for all rows of a class; 0 where no Z is estimated.
    p
        p(y | x) of held-out rows, (rows, 10).
    drawn
        One image for the label of every held-out row, whole grey levels.
    seconds
        Of one core, for the fit alone.
    """

    story: str
    log_p: Tensor | None = None
    error: Tensor | None = None
    shared: float = 0.0
    p: Tensor | None = None
    drawn: Tensor | None = None
    seconds: float = float("nan")
    certified: str = ""
    how: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A posterior that is asked for images; ``args`` are the story's for the rows that are asked about."""

    posterior: Any
    how: str
    args: Callable[[Tensor], tuple[Any, ...] | None] = lambda x: None
    inked: Tensor | None = None  # images whose total ink the drawn ones get, where the story needs one

    def log_prob(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(x) in nats and its error, (rows,) each."""
        found: tuple[Tensor, Tensor] = self.posterior.log_prob({"x": x}, args=self.args(x), stderr=True)
        return found

    def probabilities(self, x: Tensor) -> Tensor:
        """p(y | x), (rows, 10)."""
        found: Tensor = self.posterior.probabilities("y", {"x": x}, args=self.args(x))
        return found

    def sample(self, y: Tensor, seed: int) -> Tensor:
        """One image of every label, (rows, 64)."""
        args = None if self.inked is None else self.args(self.inked)
        found: Tensor = self.posterior.sample("x", given={"y": y}, args=args, seed=seed)
        return found


@dataclass(frozen=True)
class Recipe:
    """How a story is fitted, what its log p(x) is, and whether it speaks of x + u or of grey levels."""

    fit: Callable[[DigitsTask], Any]
    kind: str
    continuous: bool


def perform(task: DigitsTask) -> DigitsFit:
    """Fit, weigh, invert, generate; a failure of any of them is a result, too."""
    recipe, start = RECIPES[task.story], process_time()
    refused: dict[str, str] = {}
    found = _try(lambda: recipe.fit(task), "fit", refused)
    if found is None:
        return DigitsFit(task.story, refused=refused)
    seconds = process_time() - start
    x, y = task.digits.test
    x = dequantized(x, task.seed + 1) if recipe.continuous else x
    with torch.no_grad():
        log_p, error = _try(lambda: found.log_prob(x), "weigh", refused) or (None, None)
        p = _try(lambda: found.probabilities(x), "invert", refused)
        drawn = _try(lambda: found.sample(y, task.seed + 2), "generate", refused)
    if drawn is not None:
        # Dequantization undone, and what lies outside the scale is shown at its end.
        drawn = (drawn.floor() if recipe.continuous else drawn).clamp(0, LEVELS).double()
    posterior = getattr(found, "posterior", None)
    certified = "" if posterior is None else "yes" if posterior.certificate.trusted else "no"
    return DigitsFit(
        task.story, log_p, error, _error_of_log_z(posterior), p, drawn, seconds, certified,
        found.how, refused,
    )  # fmt: skip


def _try(ask: Callable[[], Any], question: str, refused: dict[str, str]) -> Any:
    try:
        return ask()
    except (ValueError, RuntimeError, ArithmeticError) as error:
        refused[question] = str(error).split("\n")[0].split(". ")[0]
        return None


def _error_of_log_z(posterior: Any) -> float:
    energy = getattr(getattr(posterior, "story", None), "energy", None)
    return 0.0 if energy is None else float(energy.weigh(repeats=4)[1].max())


def aside(task: DigitsTask) -> tuple[Images, Images]:
    """Training rows without those kept aside, and these; the digits were shuffled when they were split."""
    x, y = task.digits.train
    return Images(x[task.kept :], y[task.kept :]), Images(x[: task.kept], y[: task.kept])


def _conjugate(task: DigitsTask) -> Any:
    """Solve in closed form, the spread of the prior chosen on the rows kept aside."""
    train, kept = aside(task)
    data, judged = _noisy(train, task.seed), dequantized(kept.x, task.seed + 3)
    weighed = {s: float(solved(task.story, data, s).log_prob(judged)[0].mean()) for s in SPREADS}
    best = max(weighed, key=lambda spread: weighed[spread])
    found = solved(task.story, _noisy(task.digits.train, task.seed), best)
    return replace(found, how=f"posterior in closed form, prior spread {best:g} grey levels")


def _noisy(images: Images, seed: int, copies: int = 1) -> dict[str, Tensor]:
    x = torch.cat([dequantized(images.x, seed + 10 * copy) for copy in range(copies)])
    return {"x": x, "y": images.y.repeat(copies)}


def _ladder(task: DigitsTask) -> Fitted:
    data = {"x": task.digits.train.x, "y": task.digits.train.y}
    found = fit(binomial_pixels, data, draws=task.draws, restarts=1, seed=task.seed, progress=False)
    return Fitted(found, f"ladder of guides, {task.draws} draws")


def _bags(task: DigitsTask) -> Fitted:
    """An image as a bag of drops of ink, as many as it has."""
    x, y = task.digits.train
    found = fit(
        multinomial_naive_bayes, {"x": x, "y": y}, _lengths(x), draws=task.draws, restarts=1, seed=task.seed,
        progress=False,
    )  # fmt: skip
    return Fitted(found, f"ladder of guides, {task.draws} draws", _lengths, task.digits.test.x)


def _lengths(x: Tensor) -> tuple[Any, ...]:
    return (x.sum(-1).long(), CLASSES, PIXELS)


def _factors(task: DigitsTask) -> Any:
    """Plug in the maximum of the likelihood; the number of factors is chosen on the rows kept aside."""
    train, kept = aside(task)
    data, judged = _noisy(train, task.seed), dequantized(kept.x, task.seed + 3)
    weighed = {k: float(analysed(data, k, task.seed).log_prob(judged)[0].mean()) for k in FACTORS}
    best = max(weighed, key=lambda factors: weighed[factors])
    found = analysed(_noisy(task.digits.train, task.seed), best, task.seed)
    return replace(found, how=f"maximum likelihood by EM, {best} factors; {found.how}")


def _deep(
    make: Any,
    steps: int,
    continuous: bool,
    rate: float,
    task: DigitsTask,
    loss: Any = None,
    beta: float = 0.9,
) -> Fitted:
    """SVI; with a likelihood, the parameters that are best on the rows kept aside are taken."""
    train, kept = aside(task)
    steps = task.steps or steps
    data = _noisy(train, task.seed, COPIES) if continuous else {"x": train.x, "y": train.y}
    stop = _noisy(kept, task.seed + 3) if continuous else {"x": kept.x, "y": kept.y}
    found = fit(
        make, data, optim=one_cycle_of_rate(rate, steps, beta), loss=loss, steps=steps, restarts=1, draws=1,
        batch_size=min(128, len(train.y)), held_out=None if loss is not None else stop, seed=task.seed,
        progress=False,
    )  # fmt: skip
    return Fitted(found, f"SVI, at most {steps} steps" if loss is None else f"{steps} steps by its loss")


def _contest(task: DigitsTask) -> Fitted:
    """Generator against critic; the critic starts at random numbers of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        critic = adversarial_module.loss(PIXELS, CLASSES, location=LOCATION, spread=SPREAD)
    generator = partial(adversarial_module.adversarial, latents=8, **_UNIT)
    return _deep(generator, 3000, True, 0.001, task, loss=critic, beta=0.5)


def _few_labels(task: DigitsTask) -> Fitted:
    """Labels of a few images only."""
    x, y = task.digits.train
    shown = torch.cat([(y == digit).nonzero()[:LABELLED, 0] for digit in range(CLASSES)])
    hidden = np.ones(len(y), dtype=bool)
    hidden[shown.numpy()] = False
    steps = task.steps or 1200
    found = fit(
        partial(semi_supervised_vae, latents=6, hidden=64, alpha=ALPHA),
        {"x": x, "y": np.ma.masked_array(y.numpy(), mask=hidden)}, optim=one_cycle_of_rate(0.005, steps, 0.9),
        steps=steps, batch_size=100, restarts=1, draws=1, seed=task.seed, progress=False,
    )  # fmt: skip
    return Fitted(found, f"SVI, {steps} steps, {len(shown)} labels of {len(y)}")


_UNIT: dict[str, Any] = {"features": PIXELS, "classes": CLASSES, "location": LOCATION, "spread": SPREAD}
_VAE = partial(conditional_vae, hidden=96)
_FLOW = partial(normalizing_flow, couplings=4, bins=8, hidden=64, **_UNIT)
_MADE = partial(autoregressive, PIXELS, CLASSES, LEVELS + 1, components=6, hidden=128)
_DIFFUSION = partial(diffusion, steps=10, hidden=96, looks=4, **_UNIT)
_ENERGY = partial(energy_based, particles=16, temperatures=8, hidden=64, **_UNIT)
_MMD = partial(mmd_module.mmd_generator, latents=8, **_UNIT)
RECIPES = {
    "binomial_pixels": Recipe(_ladder, EXACT, False),
    "multinomial_naive_bayes": Recipe(_bags, BAG, False),
    "gaussian_naive_bayes": Recipe(_conjugate, DENSITY, True),
    "linear_discriminant": Recipe(_conjugate, DENSITY, True),
    "gaussian_classes": Recipe(_conjugate, DENSITY, True),
    "factor_analysers": Recipe(_factors, DENSITY, True),
    "conditional_vae": Recipe(partial(_deep, _VAE, 1000, False, 0.005), BOUND, False),
    "semi_supervised_vae": Recipe(_few_labels, BOUND, False),
    "normalizing_flow": Recipe(partial(_deep, _FLOW, 600, True, 0.003), DENSITY, True),
    "autoregressive": Recipe(partial(_deep, _MADE, 600, False, 0.005), PROGRAM, False),
    "diffusion": Recipe(partial(_deep, _DIFFUSION, 1500, True, 0.003), DENSITY_BOUND, True),
    "energy_based": Recipe(partial(_deep, _ENERGY, 100, True, 0.003), ANNEALED, True),
    "mmd_generator": Recipe(partial(_deep, _MMD, 3000, True, 0.003, loss=mmd_module.loss), "", True),
    "adversarial": Recipe(_contest, "", True),
}
