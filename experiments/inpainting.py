"""In-painting: are the missing halves of rows completed as the exact conditional says?

Generation given something: of a row only some features are seen, and the others are to be drawn. If rows are
made by a few factors with Gaussian noise, what is missing given what is seen is Gaussian with a known mean
and covariance. The linear autoencoder learns that law from whole rows; half-seen rows are then completed
by drawing its factors given the seen features. There is one answer behind a row, but many completions: their
spread must be that of the conditional, and the place of the truth among them uniform.

Expected: standard deviations of the completions within 5 % of the exact ones; ranks of what was hidden
inside the simultaneous band of uniform ranks.

Source: Tipping and Bishop (1999), Probabilistic principal component analysis; Dawid (1984), Statistical
theory: the prequential approach, for the probability integral transform.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.compare.sbc.ecdf_bands import rank_test
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, TRUE, style
from experiments.training.optimizers import one_cycle
from experiments.truth.images import digits
from experiments.truth.simulators.factors import ppca
from inference import fit
from ppl_models.linear_vae import linear_vae

ROWS, HIDDEN, COMPLETIONS = 4_000, 400, 199
SEEN = 3  # of six features
STEPS, RATE = {"known law": 1_500, "digits": 1_500}, 0.02
FACTORS, NOISE = 15, 0.05  # of digits / 16; noise keeps blank pixels from having no density
SPREAD = 0.05  # stated before the fit: share by which a standard deviation may be off
JOINT = "∏ᵢ p(zᵢ) p(xᵢ seen | zᵢ) p(xᵢ missing | zᵢ)"


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(linear_vae, JOINT)
    law = ppca()
    posterior = learned(run, law.sample(300 if run.smoke else ROWS, run.seed).x, 2, "known law")
    hidden = law.sample(HIDDEN, run.seed + 1).x
    drawn = completed(posterior, hidden, torch.arange(6) >= SEEN)[..., SEEN:]
    mean, covariance = conditional(law.marginal(), hidden[:, :SEEN])
    ranks = (drawn < hidden[:, SEEN:]).sum(0).T  # (features, rows)
    test = rank_test(HIDDEN, COMPLETIONS)
    run.section("A known law", "Six features of two factors; the first three are seen.")
    run.figure(
        "conditional",
        picture(drawn, mean, covariance, ranks, test),
        "Left: mean of the completions of every row against the exact conditional mean. Middle: "
        "completions of one row and the exact 95 % contour. Right: ranks of the hidden values, less "
        "uniform, inside their 95 % band.",
    )
    for j in range(6 - SEEN):
        sd = float(covariance[j, j].sqrt())
        run.claim(
            f"missing feature {j + 1}: sd of completions / exact",
            float(drawn[..., j].var(0).mean().sqrt()) / sd, 1.0,
            error=(2 * COMPLETIONS * HIDDEN) ** -0.5, numerical=SPREAD, source="Gaussian conditional",
        )  # fmt: skip
        judged = test.judge(ranks[j][None])[0]
        run.claim(
            f"missing feature {j + 1}: p-value of uniform ranks", judged.p_value, 0.001,
            relation="at least", source="simultaneous band at 99.9 %",
        )  # fmt: skip
    noise = drawn - drawn.mean(0)
    correlation = torch.corrcoef(noise.flatten(0, 1).T)[0, 1]
    exact = covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()
    run.claim(
        "correlation of the first two missing features", float(correlation), float(exact),
        error=(COMPLETIONS * HIDDEN) ** -0.5, numerical=SPREAD, source="Gaussian conditional",
    )  # fmt: skip
    images(run)


def learned(run: Run, x: Tensor, factors: int, name: str) -> Any:
    """Train a linear autoencoder on whole rows."""
    steps = 60 if run.smoke else STEPS[name]
    return fit(
        partial(linear_vae, features=x.shape[1], latents=factors), {"x": x}, optim=one_cycle(RATE, steps),
        steps=steps, batch_size=250, restarts=1, draws=20, seed=run.seed,
    )  # fmt: skip


def completed(posterior: Any, x: Tensor, missing: Tensor, count: int = COMPLETIONS) -> Tensor:
    """Draw what is missing of every row, (features,) True there: (count, rows, features)."""
    half = np.ma.masked_array(x.numpy(), missing.expand(x.shape).numpy())
    drawn: Tensor = posterior.sample("x", given={"x": half}, args=(len(x),), num_samples=count)
    return drawn.double()


def conditional(law: Any, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (rows, missing) and covariance (missing, missing) of the later features given the first."""
    k, covariance = seen.shape[1], law.covariance_matrix
    slope = torch.linalg.solve(covariance[:k, :k], covariance[:k, k:]).T
    mean = law.mean[k:] + (seen - law.mean[:k]) @ slope.T
    return mean, covariance[k:, k:] - slope @ covariance[:k, k:]


def images(run: Run) -> None:
    """Complete lower halves of digits, several times each."""
    import matplotlib.pyplot as plt

    data = digits.load(run.seed)
    generator = torch.Generator().manual_seed(run.seed)
    x = data.train.x / 16
    posterior = learned(
        run, x + NOISE * torch.randn(x.shape, generator=generator).double(), FACTORS, "digits"
    )
    new = digits.few(data, 1, 1).test.x / 16
    drawn = completed(posterior, new, digits.lower_half(), 5)
    shown = torch.cat([new[None], drawn]).unflatten(-1, (8, 8))
    run.section("Digits", f"{FACTORS} factors, learned from whole digits; held-out ones are completed.")
    with style():
        figure, axes = plt.subplots(6, 10, figsize=(8, 5.2))
        for i, row in enumerate(axes):
            for j, axis in enumerate(row):
                axis.imshow(shown[i, j].numpy(), cmap="Greys", vmin=0, vmax=1)
                axis.axhline(3.5, color=OTHER, lw=0.8)
                axis.set(xticks=[], yticks=[])
            row[0].set_ylabel("true" if i == 0 else f"drawn {i}", rotation=0, ha="right", va="center")
    run.figure(
        "digits",
        figure,
        "Top: held-out digits. Below: their upper halves (above the line) with five completions each: one "
        "answer, many guesses. A Gaussian story knows which pixels go together, not what a digit is.",
    )


def picture(drawn: Tensor, mean: Tensor, covariance: Tensor, ranks: Tensor, test: Any) -> Any:
    """Means, one row's completions, and ranks."""
    import matplotlib.pyplot as plt

    with style():
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4))
        left.plot(mean.flatten(), drawn.mean(0).flatten(), ".", color=ESTIMATED, ms=4)
        ends = [float(mean.min()), float(mean.max())]
        left.plot(ends, ends, color=TRUE, lw=1)
        left.set(xlabel="exact conditional mean", ylabel="mean of completions", title="400 rows, 3 features")
        angle = torch.linspace(0, 2 * torch.pi, 200).double()
        ring = 2.4477 * torch.linalg.cholesky(covariance[:2, :2]) @ torch.stack([angle.cos(), angle.sin()])
        middle.plot(*drawn[:, 0, :2].T, "o", color=ESTIMATED, ms=4, alpha=0.6, label="completions")
        middle.plot(*(mean[0, :2, None] + ring), color=TRUE, label="exact, 95 %")
        middle.set(xlabel="missing feature 1", ylabel="missing feature 2", title="One row, many completions")
        middle.legend()
        lower, upper = test.band()
        right.fill_between(
            test.at, lower - test.at, upper - test.at, color="#dddddd", label="95 % band", lw=0
        )
        for j, share in enumerate(test.counts(ranks).double() / HIDDEN):
            right.plot(test.at, share - test.at, label=f"missing feature {j + 1}")
        right.set(xlabel="rank of the truth / 200", ylabel="ECDF − uniform", title="Ranks of what was hidden")
        right.legend()
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
