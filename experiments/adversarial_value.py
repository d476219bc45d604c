"""Adversarial value: where does the contest of generator and critic end, and what does the end not say?

A critic D tells data from made rows; its value is E_data[log D] + E_made[log(1 - D)]. For the best critic it
is -log 4 + 2 JS: -1.38629 where data and made rows have one law, and -1.25741 for the best Gaussian generator
(mean -.8815, standard deviation 1.9860, JS .06444) of the mixture .7 Normal(-2, 1) + .3 Normal(2, .7^2). Any
other critic's value is smaller: a lower bound.

Expected: both values by quadrature; trained critics reach them from below. Beyond its value the contest says
nothing of the density: a trained generator refuses `log_prob`, and what can be done is to count the modes
that it hits. The same holds for a generator trained by MMD.

Source: Goodfellow et al. (2014), Generative adversarial nets, theorem 1; the best Gaussian was found for this
workbench by minimising JS by quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.nn.functional import softplus

from experiments.compare import critic, modes
from experiments.compare.mode_count import Modes
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style
from experiments.training.optimizers import contest, one_cycle
from experiments.truth.densities import density
from experiments.truth.quadrature import even
from inference import fit
from ppl_models import adversarial, mmd_generator
from ppl_models.networks.mlp import mlp

VALUE = {"matched": -1.38629, "best Gaussian": -1.25741}
BEST = (-0.8815, 1.9860)
ROUNDING = 1e-5  # of the known values, to five digits
# Committed before any critic was trained: how far below the best value it may end, in nats.
SHORT = 0.003
STEPS, ROWS = 2_000, 100_000
GRID = even(-14.0, 14.0, 2_801)
MADE = 2_000  # rows of a generator, of which the modes are counted
CONTESTS = {"adversarial": 1_200, "mmd_generator": 1_000}  # steps
COLOURS = dict(zip(VALUE, (PALETTE[2], ESTIMATED), strict=True))
JOINT = "∫ Normal(z; 0, I) δ(x − g(z)) dz"


@dataclass(frozen=True)
class Critic:
    """A generator's law against the data's, and a trained critic of it.

    ``odds`` (grid,) are the critic's log odds, ``best_odds`` those of the best critic; ``history`` holds the
    value of every batch of training, ``held_out`` the value on fresh rows and its error. All in nats.
    """

    name: str
    best_odds: Tensor
    odds: Tensor
    best: float
    value: float
    held_out: tuple[float, float]
    history: Tensor


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    data = MixtureSameFamily(Categorical(torch.tensor([0.7, 0.3]).double()), Normal(*_components()))
    made = {"matched": data, "best Gaussian": Normal(*torch.tensor(BEST).double())}
    critics = [trained(run, name, data, law) for name, law in made.items()]
    fits = {name: generator(run, name) for name in CONTESTS}
    counted = {name: (rows, count(rows)) for name, (_, rows) in fits.items()}
    run.story(adversarial.adversarial, JOINT)
    run.section(
        "The value of the contest", "The critic's network sees draws only; the best critic is p / (p + q)."
    )
    run.figure(
        "value",
        value_picture(data, made, critics),
        "Left: the two laws. Middle: probability that a row is the data's, best and trained critic. Right: "
        "value of the batches in training (mean of 50); it ends at -log 4 + 2 JS, from below.",
    )
    run.table("critics", [row(one) for one in critics], "Nats. Value of the trained critic by quadrature.")
    run.section("What it does not say", "No generator knows the density of its rows: count the modes.")
    run.figure(
        "modes",
        modes_picture(counted),
        "Made rows on eight Gaussians; rings hold 98.9 % of the data, numbers are the rows inside.",
    )
    claims(run, critics)
    for name, (posterior, _) in fits.items():
        mode_claims(run, name, posterior, counted[name][1])


def _components() -> tuple[Tensor, Tensor]:
    return torch.tensor([-2.0, 2.0]).double(), torch.tensor([1.0, 0.7]).double()


def integral(odds: Tensor, p: Tensor, q: Tensor) -> float:
    """The value of log odds (grid,) between densities (grid,), in nats."""
    return float(-(p * softplus(-odds) + q * softplus(odds)).sum() * (GRID[1] - GRID[0]))


def trained(run: Run, name: str, data: Any, law: Any) -> Critic:
    """Train a critic of a fixed generator; its value by quadrature and on fresh rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = mlp(1, 64, 1)
    history = critic.train(network, data, law, steps=10 if run.smoke else STEPS, seed=run.seed)
    p, q = data.log_prob(GRID), law.log_prob(GRID)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed + 1)
        odds = network(GRID.float()[:, None])[:, 0].double()
        rows = (1000 if run.smoke else ROWS,)
        terms = critic.value_terms(
            network, data.sample(rows)[:, None].float(), law.sample(rows)[:, None].float()
        )
    error = math.hypot(*(float(term.std()) / math.sqrt(len(term)) for term in terms))
    held_out = (float(sum(term.double().mean() for term in terms)), error)
    best, value = (integral(log_odds, p.exp(), q.exp()) for log_odds in (p - q, odds))
    return Critic(name, p - q, odds, best, value, held_out, history)


def generator(run: Run, name: str) -> tuple[Any, Tensor]:
    """Train a generator on eight Gaussians; return the fit, and made rows (rows, 2)."""
    law = density("eight_gaussians")
    x = law.sample_labelled(500 if run.smoke else 5_000, seed=run.seed).x.float()
    spread, steps = float(x.std()), 30 if run.smoke else CONTESTS[name]
    if name == "adversarial":
        story: Any = partial(adversarial.adversarial, spread=spread)
        asked: dict[str, Any] = {"optim": contest(0.002, steps)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            loss: Any = adversarial.loss(spread=spread)
    else:
        story, loss = partial(mmd_generator.mmd_generator, spread=spread), mmd_generator.loss
        asked = {"optim": one_cycle(0.003, steps)}
    posterior = fit(
        story, {"x": x}, loss=loss, steps=steps, batch_size=250, restarts=1, seed=run.seed, **asked
    )
    return posterior, posterior.sample("x", args=(200 if run.smoke else MADE,), seed=run.seed)


def count(rows: Tensor) -> Modes:
    """Count the rows near every mode of the eight Gaussians."""
    law: Any = density("eight_gaussians")
    return modes(rows, law.modes, law.noise_stddev)


def refuses(posterior: Any, values: Mapping[str, Tensor]) -> bool:
    """Whether the fit says that it has no density."""
    try:
        posterior.log_prob(values)
    except ValueError:
        return True
    return False


def row(one: Critic) -> dict[str, Any]:
    """Write one critic as a row of the table."""
    held_out, error = one.held_out
    return {
        "generator": one.name, "-log 4 + 2 JS": one.best, "trained critic": one.value,
        "on fresh rows": held_out, "its error": error, "JS": (one.best + math.log(4)) / 2,
    }  # fmt: skip


def claims(run: Run, critics: list[Critic]) -> None:
    """Claim the two values, and that a trained critic reaches them from below."""
    source = "Goodfellow et al. (2014), theorem 1: -log 4 + 2 JS"
    for one in critics:
        at, (held_out, error) = one.name, one.held_out
        run.claim(
            f"{at}: value of the best critic", one.best, VALUE[at], numerical=ROUNDING,
            source="quadrature, rounded",
        )  # fmt: skip
        run.claim(
            f"{at}: value of a trained critic", one.value, one.best, numerical=1e-6, relation="at most",
            source=source,
        )  # fmt: skip
        run.claim(
            f"{at}: value of a trained critic, near the best", one.value, one.best - SHORT,
            relation="at least", source="how near was stated before training",
        )  # fmt: skip
        run.claim(
            f"{at}: its value on fresh rows", held_out, one.value, error=error, source="its own quadrature"
        )


def mode_claims(run: Run, name: str, posterior: Any, found: Modes) -> None:
    """Claim that a generator hits all modes and has no density."""
    run.claim(f"{name}: modes hit, of 8", float((found.counts > 0).sum()), 8.0, source="eight_gaussians")
    run.claim(
        f"{name}: log_prob refuses", float(refuses(posterior, {"x": torch.zeros(1, 2)})), 1.0,
        source="the image of a network has no known density",
    )  # fmt: skip
    run.metric(f"{name}: share of rows within three standard deviations of a mode", found.precision.value)


def value_picture(data: Any, made: Mapping[str, Any], critics: list[Critic]) -> Any:
    """The laws, the critics, and the value in training."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, 3, figsize=(13, 4))
        near = (GRID > -7) & (GRID < 6)
        x = GRID[near]
        axes[0].plot(x, data.log_prob(x).exp(), color=TRUE, label="data")
        axes[0].plot(
            x, made["best Gaussian"].log_prob(x).exp(), color=COLOURS["best Gaussian"], label="best Gaussian"
        )
        axes[0].set(xlabel="x", ylabel="density", title="Data and generator")
        for one in critics:
            axes[1].plot(x, one.best_odds[near].sigmoid(), color=TRUE, lw=1.2)
            axes[1].plot(x, one.odds[near].sigmoid(), color=COLOURS[one.name], ls="--", label=one.name)
            every = min(50, len(one.history))
            smooth = one.history[: len(one.history) // every * every].reshape(-1, every).mean(1)
            axes[2].plot(
                every * torch.arange(1, len(smooth) + 1), smooth, color=COLOURS[one.name], label=one.name
            )
            axes[2].axhline(one.best, color=TRUE, lw=1.2, ls=":")
            label = f"{one.best:.5f}"
            axes[2].text(1.0, one.best + 0.004, label, transform=axes[2].get_yaxis_transform(), ha="right")
        axes[1].plot([], [], color=TRUE, lw=1.2, label="best critic")
        axes[1].set(xlabel="x", ylabel="D(x)", ylim=(0, 1), title="Critics, trained (dashed) and best")
        axes[2].set(xlabel="step", ylabel="value, nats", title="The contest's value", ylim=(-1.45, -1.22))
        for axis in axes:
            axis.legend(loc="upper left" if axis is axes[1] else "best")
        axes[2].legend(loc="lower right")
    return figure


def modes_picture(counted: Mapping[str, tuple[Tensor, Modes]]) -> Any:
    """Made rows, the modes' rings, and how many rows each holds."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Circle

    law: Any = density("eight_gaussians")
    with style():
        figure, axes = plt.subplots(1, len(counted), figsize=(10, 4.9), squeeze=False)
        for axis, (name, (rows, found)) in zip(axes[0], counted.items(), strict=True):
            axis.scatter(*rows.T, s=4, color=ESTIMATED, lw=0, alpha=0.6)
            for centre, hits in zip(law.modes.tolist(), found.counts.tolist(), strict=True):
                axis.add_patch(Circle(centre, 3 * law.noise_stddev, fill=False, ec=TRUE, lw=0.8))
                axis.text(
                    1.52 * centre[0], 1.52 * centre[1], str(hits), ha="center", va="center", color=OTHER
                )
            missing = int((found.counts == 0).sum())
            title = (
                f"{name.replace('_', ' ')}: {missing} of 8 modes missed, {found.precision.value:.0%} in rings"
            )
            axis.set(xlim=(-5, 5), ylim=(-5, 5), xlabel="x₁", ylabel="x₂", title=title)
            axis.set_aspect("equal")
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
