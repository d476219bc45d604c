"""PCA by VAE: does a variational autoencoder without hidden layers find principal components?

Its best answer is known. The decoder is linear and the noise alike in every direction, so p(x) is that of
probabilistic PCA, whose likelihood has its maximum in closed form; the guide's family holds the exact
posterior, so the evidence lower bound reaches log p(x). Whatever falls short is the optimizer's.

Expected: the likelihood of the closed form to .02 nats a row, its subspace to 2 degrees, no gap between
the bound and log p(x); on held-out digits the log densities -.933, 16.314 and 25.495 nats of probabilistic
PCA with 2, 10 and 20 factors.

Source: Tipping and Bishop (1999), Probabilistic principal component analysis; Lucas, Tucker, Grosse and
Norouzi (2019), Don't blame the ELBO! A linear VAE perspective on posterior collapse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor

from experiments.compare.result import Estimate
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, TRUE, style
from experiments.truth.simulators.factors import ppca
from inference import fit
from ppl_models.linear_vae import linear_vae
from ppl_models.probabilistic_pca import Maximum, maximum

DIGITS = {2: -0.933, 10: 16.314, 20: 25.495}  # factors -> nats; division by rows - 1, as scikit-learn has it
TRAINING = 1_500
NOISE = 0.01  # added to grey levels / 16: pixels that are always blank have no density otherwise
NATS, DEGREES = 0.02, 2.0  # how near the linear autoencoder has to come
RATE = 0.02  # highest rate of Adam: axes that explain little turn slowly
JOINT = "∏ᵢ p(zᵢ) p(xᵢ | zᵢ): zᵢ ~ Normal(0, I), xᵢ ~ Normal(weight zᵢ + mean, stddev² I)"


@dataclass(frozen=True)
class Task:
    """Rows, and the number of factors to find in them."""

    name: str
    x: Tensor
    factors: int
    steps: int


@dataclass(frozen=True)
class Found:
    """A fitted autoencoder beside the closed form; all in nats a row, the angle in degrees."""

    task: Task
    posterior: Any
    known: Maximum
    learned: Maximum
    shortfall: float
    angle: float
    bound_gap: Estimate

    def row(self) -> dict[str, Any]:
        """Write it as a row of the table."""
        return {
            "rows of": self.task.name,
            "factors": self.task.factors,
            "closed form (nats a row)": float(self.known.density.log_prob(self.task.x.double()).mean()),
            "autoencoder falls short by (nats a row)": self.shortfall,
            "log p(x) - ELBO (nats a row)": str(self.bound_gap),
            "largest angle between subspaces (degrees)": self.angle,
            "seconds": self.posterior.certificate.seconds,
        }


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(linear_vae, JOINT)
    train, test = digits(run.seed)
    held_out(run, train, test)
    tasks = [
        Task("a known law", ppca().sample(300 if run.smoke else 2_000, run.seed).x, 2, 2_000),
        Task("digits", train, 10, 8_000),
    ]
    found = [find(run, task) for task in (tasks[:1] if run.smoke else tasks)]
    run.section(
        "The same answer by training",
        "Rows of a known law (six features, two factors) and of digits (64 pixels, ten factors).",
    )
    run.figure(
        "subspaces",
        picture(found[0]),
        "Rows of the known law along the two principal axes. Arrows: the axes of the closed form, scaled by "
        "what they explain, and those of the autoencoder (its singular vectors: the likelihood leaves their "
        "rotation open). Right: the bound of the fit, rising to "
        "the known maximum.",
    )
    run.table(
        "found", [one.row() for one in found], "The autoencoder beside the closed form, on the training rows."
    )
    for one in found:
        claims(run, one)


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """Grey levels / 16 with a little noise, (1,500, 64) and (297, 64), split at random."""
    from sklearn.datasets import load_digits

    generator = np.random.default_rng(seed)
    x = load_digits().data / 16
    x = x[generator.permutation(len(x))]
    x = torch.from_numpy(x + NOISE * generator.standard_normal(x.shape))
    return x[:TRAINING], x[TRAINING:]


def held_out(run: Run, train: Tensor, test: Tensor) -> None:
    """Claim the log densities of held-out digits, and scikit-learn's."""
    from sklearn.decomposition import PCA

    run.section("The closed form", "Probabilistic PCA of 1,500 digits, weighed on the 297 others.")
    for factors, known in DIGITS.items():
        log_p = maximum(train, factors, correction=1).density.log_prob(test)
        score = PCA(factors).fit(train.numpy()).score(test.numpy())
        at = f"held-out digits, {factors} factors: log p(x), nats"
        run.claim(
            f"{at}, beside scikit-learn", float(log_p.mean()), score, numerical=1e-6, source="PCA.score"
        )
        if run.seed == 0:  # the known numbers belong to this split
            run.claim(
                at, float(log_p.mean()), known, numerical=5e-4, source="scikit-learn, same split and noise"
            )


def find(run: Run, task: Task) -> Found:
    """Train a linear autoencoder; lay its likelihood and its subspace beside the closed form's."""
    steps = 100 if run.smoke else task.steps
    rate = {
        "optimizer": torch.optim.Adam,
        "optim_args": {"lr": RATE},
        "max_lr": RATE,
        "total_steps": steps + 1,
    }
    posterior = fit(
        partial(linear_vae, features=task.x.shape[1], latents=task.factors), {"x": task.x},
        optim=PyroLRScheduler(torch.optim.lr_scheduler.OneCycleLR, rate), steps=steps, batch_size=250,
        restarts=1, draws=20, seed=run.seed,
    )  # fmt: skip
    known = maximum(task.x, task.factors)
    story, x = posterior.story, task.x.double()
    learned = Maximum(story.decoder.bias.double(), story.decoder.weight.double(), story.stddev.double() ** 2)
    shortfall = known.density.log_prob(x).mean() - learned.density.log_prob(x).mean()
    rows = posterior.certificate.rows
    gap = Estimate(math.nan, math.nan) if rows is None else Estimate(rows.gap, rows.gap_stderr)
    return Found(
        task, posterior, known, learned, float(shortfall), angle(known.loading, learned.loading), gap
    )


def angle(a: Tensor, b: Tensor) -> float:
    """The largest principal angle between the spans of two sets of columns, in degrees."""
    cosines = torch.linalg.svdvals(torch.linalg.qr(a)[0].T @ torch.linalg.qr(b)[0])
    return math.degrees(math.acos(min(1.0, float(cosines.min()))))


def claims(run: Run, one: Found) -> None:
    """Claim that training has reached the closed form."""
    source = "Lucas et al. (2019): no local maxima beside the global one"
    at = f"{one.task.name}, {one.task.factors} factors"
    run.claim(
        f"{at}: log density short of the maximum, nats a row",
        one.shortfall,
        NATS,
        relation="at most",
        source=source,
    )
    run.claim(
        f"{at}: angle between the subspaces, degrees", one.angle, DEGREES, relation="at most", source=source
    )
    run.claim(
        f"{at}: log p(x) - ELBO, nats a row", one.bound_gap.value, NATS, error=one.bound_gap.error,
        relation="at most", source="the guide's family holds the exact posterior",
    )  # fmt: skip


def picture(found: Found) -> Any:
    """Rows and axes in the plane of the two principal axes; the bound beside its known maximum."""
    import matplotlib.pyplot as plt

    x = found.task.x.double()
    known, _ = torch.linalg.qr(found.known.loading)
    known = known * (known * found.known.loading).sum(0).sign()
    with style():
        figure, (plane, climb) = plt.subplots(1, 2, figsize=(10.5, 4.2))
        rows = (x - found.known.mean) @ known
        plane.scatter(*rows[:600].T, s=9, color="#bbbbbb", label="rows", linewidths=0)
        left, lengths, _ = torch.linalg.svd(found.learned.loading, full_matrices=False)
        learned = (left * lengths).T @ known
        learned = learned * (learned * (found.known.loading.T @ known)).sum(1, keepdim=True).sign()
        for axes, colour, label, width in (
            (found.known.loading.T @ known, TRUE, "closed form", 5.0),
            (learned, OTHER, "autoencoder", 1.8),
        ):
            for i, (across, up) in enumerate(2 * axes):
                plane.plot([0, across], [0, up], color=colour, lw=width, label=label if i == 0 else None)
        plane.set(
            xlabel="first principal axis", ylabel="second principal axis", title="Rows and axes (two stddev)"
        )
        plane.set_aspect("equal")
        plane.legend(loc="upper left")
        best = float(found.known.density.log_prob(x).mean())
        steps = [step for _, step, _ in found.posterior.history]
        climb.plot(
            steps,
            [elbo / len(x) for *_, elbo in found.posterior.history],
            color=ESTIMATED,
            label="ELBO of the fit",
        )
        climb.axhline(best, color=TRUE, lw=1.2, label="maximum of log p(x), closed form")
        climb.set(
            xlabel="step", ylabel="nats a row", title="The bound reaches it", ylim=(best - 4, best + 0.5)
        )
        climb.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
