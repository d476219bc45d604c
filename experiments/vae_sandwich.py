"""VAE sandwich: where does log p(x) of a nonlinear autoencoder lie, and does the workbench say so?

Nobody can write log p(x) of a decoder down, but it can be enclosed. From below: the ELBO, the
importance-weighted bounds with K draws of the guide, and annealed importance sampling from the prior. From
above: the same annealing run backwards from an exact draw of the posterior, which there is for rows that the
story itself has drawn together with their z (bidirectional Monte Carlo). With two latent numbers a grid adds
up the integral as well, and is the truth here.

Expected: ELBO <= importance-weighted bounds, rising with K, <= log p(x) <= backward annealing; the two
annealed bounds meet as steps are added; and `posterior.log_prob` lies between them.

Source: Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders; Grosse, Ghahramani and Adams
(2015), Sandwiching the marginal likelihood; Wu, Burda, Salakhutdinov and Grosse (2017), On the quantitative
analysis of decoder-based generative models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from experiments.compare.annealing import importance_bound, tuned
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style
from experiments.truth.densities import density
from experiments.truth.quadrature import even
from inference import fit
from ppl_models.vae import vae

STEPS, TRAINING_ROWS = 2_000, 5_000
ROWS = 100
DRAWS = (1, 8, 64, 512)
MOST_DRAWS = 4_096
ANNEALING = (10, 40, 160, 640)
CHAINS = 8
# Committed before any bound was computed, in nats a row: how near the two annealed bounds must come, and how
# far an estimate by 256 draws of the guide, on average too low, may lie from the truth.
GAP, BIAS = 0.05, 0.05
GRID = 401  # points along each latent axis, over seven standard deviations to both sides
NUMERICAL = 1e-4
JOINT = "∏ᵢ Normal(zᵢ; 0, I) ∏ⱼ Normal(xᵢⱼ; decoder(zᵢ)ⱼ, stddevⱼ²)"


@dataclass(frozen=True)
class Curve:
    """Bounds by their effort: for every effort, those of all rows less the truth (rows,), in nats."""

    name: str
    colour: str
    efforts: Sequence[int]
    excess: Sequence[Tensor]

    def point(self, i: int) -> tuple[float, float]:
        """Mean over the rows and its standard error; -1 is the most effort."""
        rows = self.excess[i]
        return float(rows.mean()), float(rows.std()) / math.sqrt(len(rows))


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(vae, JOINT)
    posterior = trained(run)
    story, encoder = deepcopy(posterior.story).double(), deepcopy(posterior.guide.encoder).double()
    x, z = drawn(story, 10 if run.smoke else ROWS, run.seed)
    truth, coarse = (quadrature(story, x, points) for points in (GRID, GRID // 2 + 1))
    curves = bounds(run, story, encoder, x, z, truth)
    with torch.no_grad():
        estimate, noise = posterior.log_prob({"x": x.float()}, stderr=True)
    answer = Curve("posterior.log_prob", TRUE, (256,), (estimate.double() - truth,))
    run.section(
        "The sandwich",
        f"{len(x)} rows that the trained story drew, with their z. Every bound is laid beside the integral "
        "over z on a grid, row by row; the Monte Carlo errors are over rows.",
    )
    run.figure(
        "sandwich",
        picture(story, x, z, curves, answer),
        "Left: rows drawn by the trained story. Right: bounds less the true log p(x), mean over rows with "
        "two standard errors; K = 1 is the ELBO.",
    )
    run.table(
        "bounds",
        [row(curve, i) for curve in (*curves, answer) for i in range(len(curve.efforts))],
        "Nats a row, less the truth.",
    )
    run.metric("posterior.log_prob: its own standard error, mean over rows", float(noise.mean()), unit="nats")
    run.claim(
        "quadrature: largest change by four times the points, nats", float((truth - coarse).abs().max()), 0.0,
        numerical=NUMERICAL, source="converged",
    )  # fmt: skip
    bound_claims(run, *curves)
    answer_claims(run, answer, *curves)


def trained(run: Run) -> Any:
    """Train the autoencoder on the pinwheel."""
    x = density("pinwheel").sample_labelled(250 if run.smoke else TRAINING_ROWS, seed=run.seed).x.float()
    return fit(
        vae, {"x": x}, batch_size=250, steps=30 if run.smoke else STEPS, restarts=1, draws=20, seed=run.seed
    )


def drawn(story: Any, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of the story, each with an exact draw of its posterior: x (rows, 2), z (rows, 2)."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = torch.randn(rows, 2, dtype=torch.float64)
        return story.noise(z).sample(), z


def quadrature(story: Any, x: Tensor, points: int) -> Tensor:
    """Log p(x) of rows by the trapezoid rule over z: (rows,), in nats."""
    axis = even(-7.0, 7.0, points)
    z = torch.cartesian_prod(axis, axis)
    z = z[z.square().sum(-1) < 49]  # beyond, the prior holds e^-24.5
    cell = 2 * math.log(axis[1] - axis[0])
    with torch.no_grad():
        mean, prior = story.decoder(z), Normal(0.0, 1.0).log_prob(z).sum(-1) + cell
        return torch.stack(
            [(prior + Normal(mean, story.stddev).log_prob(row).sum(-1)).logsumexp(0) for row in x]
        )


def bounds(run: Run, story: Any, encoder: Any, x: Tensor, z: Tensor, truth: Tensor) -> tuple[Curve, ...]:
    """Importance-weighted bounds, and annealing from below and from above."""
    few = run.smoke
    log_weights = weights(story, encoder, x, 512 if few else 2 * MOST_DRAWS, run.seed)
    draws = DRAWS if few else (*DRAWS, MOST_DRAWS)
    weighted = [importance_bound(log_weights, k) - truth for k in draws]

    def log_likelihood(at: Tensor) -> Tensor:
        total: Tensor = story.noise(at).log_prob(x)
        return total

    efforts = ANNEALING[:1] if few else ANNEALING
    paths = [tuned(log_likelihood, len(x), 2, steps, seed=run.seed) for steps in efforts]
    below = [path.forward(CHAINS, seed=run.seed) - truth for path in paths]
    above = [path.backward(z, CHAINS, seed=run.seed + 1) - truth for path in paths]
    return (
        Curve("importance-weighted, K draws of the guide", ESTIMATED, draws, weighted),
        Curve("annealed from the prior", PALETTE[2], efforts, below),
        Curve("annealed backwards from exact draws", OTHER, efforts, above),
    )


def weights(story: Any, encoder: Any, x: Tensor, draws: int, seed: int) -> Tensor:
    """Log p(x, z) - log q(z | x) at draws of the guide: (draws, rows)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        mean, log_stddev = encoder(x).chunk(2, -1)
        found = []
        for _ in range(draws // 512):
            noise = torch.randn(512, *mean.shape, generator=generator, dtype=torch.float64)
            z = mean + log_stddev.exp() * noise
            log_q = Normal(mean, log_stddev.exp()).log_prob(z).sum(-1)
            found.append(Normal(0.0, 1.0).log_prob(z).sum(-1) + story.noise(z).log_prob(x) - log_q)
    return torch.cat(found)


def row(curve: Curve, i: int) -> dict[str, Any]:
    """Write one bound as a row of the table."""
    value, error = curve.point(i)
    effort = curve.efforts[i]
    return {"bound": curve.name, "draws or steps": effort, "less the truth": value, "its error": error}


def bound_claims(run: Run, weighted: Curve, below: Curve, above: Curve) -> None:
    """Claim on which side of log p(x) every bound lies, and that the annealed ones meet."""
    source = "Burda et al. (2016), theorem 1"
    for i, k in enumerate(weighted.efforts):
        value, error = weighted.point(i)
        name = "ELBO" if k == 1 else f"importance-weighted bound, K = {k}"
        run.claim(
            f"{name} less log p(x), nats", value, 0.0, error=error, relation="at most",
            numerical=NUMERICAL, source=source,
        )  # fmt: skip
        if i:
            rise = weighted.excess[i] - weighted.excess[i - 1]
            error = float(rise.std()) / math.sqrt(len(rise))
            text = f"rise of the bound from K = {weighted.efforts[i - 1]} to {k}, nats"
            run.claim(text, float(rise.mean()), 0.0, error=error, relation="at least", source=source)
    source = "Grosse et al. (2015)"
    for i, steps in enumerate(below.efforts):
        for curve, relation in ((below, "at most"), (above, "at least")):
            value, error = curve.point(i)
            text = f"{curve.name}, {steps} steps, less log p(x), nats"
            run.claim(text, value, 0.0, error=error, relation=relation, numerical=NUMERICAL, source=source)
    gap = above.excess[-1] - below.excess[-1]
    run.claim(
        f"gap of the annealed bounds, {below.efforts[-1]} steps, nats", float(gap.mean()), GAP,
        error=float(gap.std()) / math.sqrt(len(gap)), relation="at most", source="stated before",
    )  # fmt: skip


def answer_claims(run: Run, answer: Curve, weighted: Curve, below: Curve, above: Curve) -> None:
    """Claim that what `posterior.log_prob` says lies inside the sandwich, and near the truth."""
    value, error = answer.point(0)
    for other, relation in ((weighted, "at least"), (above, "at most")):
        bound = other.excess[0 if other is weighted else -1]
        apart = answer.excess[0] - bound
        name = "the ELBO" if other is weighted else "the upper bound"
        run.claim(
            f"posterior.log_prob less {name}, nats", float(apart.mean()), 0.0,
            error=float(apart.std()) / math.sqrt(len(apart)), relation=relation, source="the sandwich",
        )  # fmt: skip
    run.claim(
        "posterior.log_prob less the quadrature, nats", value, 0.0, error=error, numerical=BIAS,
        source="quadrature",
    )  # fmt: skip


def picture(story: Any, x: Tensor, z: Tensor, curves: Sequence[Curve], answer: Curve) -> Any:
    """The story's rows, and all bounds by their effort."""
    import matplotlib.pyplot as plt

    with style():
        figure, (plane, axis) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=[1, 1.7])
        many, _ = drawn(story, 4_000, 1)
        plane.scatter(*many.T, s=3, color="#bbbbbb", lw=0, label="drawn by the story")
        plane.scatter(*x.T, s=12, color=ESTIMATED, lw=0, label="rows of the sandwich")
        plane.set(xlabel="x₁", ylabel="x₂", title="What the decoder makes")
        plane.set_aspect("equal")
        plane.legend(loc="upper left", markerscale=2)
        for curve in (*curves, answer):
            points = [curve.point(i) for i in range(len(curve.efforts))]
            values, errors = zip(*points, strict=True)
            axis.errorbar(
                curve.efforts, values, [2 * error for error in errors], color=curve.colour, capsize=3,
                marker="*" if curve is answer else "o", ms=13 if curve is answer else 6, label=curve.name,
            )  # fmt: skip
        axis.axhline(0, color=TRUE, lw=1)
        axis.text(0.99, -0.07, "log p(x) by quadrature", ha="right", transform=axis.get_yaxis_transform())
        axis.set_xscale("log")
        axis.set(
            xlabel="draws K, or annealing steps", ylabel="bound less log p(x), nats a row",
            title="Enclosed from both sides",
        )  # fmt: skip
        axis.legend(loc="upper right")
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
