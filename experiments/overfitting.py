"""Overfitting: by how much does an estimated distribution look better on its own rows than it is?

An estimate has seen its training rows, so it gives them more density than new ones, and with enough
capacity more than the truth itself does, whose mean log density is -entropy. For regular models
the gap is (parameters) / (rows), asymptotically. For the maximum-likelihood Gaussian in d dimensions it is
known exactly: with k = d (d + 3) / 2 parameters and n rows, k / (n - d - 2). Averaging over the posterior
instead of plugging in its best guess makes the loss on new rows smaller, also in closed form.

Expected: both closed forms; mixtures of more and more Gaussians, fitted by maximum likelihood to rows of
eight, climb above -entropy on their own rows while they fall on new ones, which are best at eight.

Source: Akaike (1974), A new look at the statistical model identification; Aitchison (1975), Goodness of
prediction fit; Geisser (1993), Predictive inference, for the Student t predictive.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from experiments.compare.result import mean_and_error
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style
from experiments.truth.densities import density
from ppl_models.gaussian_mixture import gaussian_mixture

D = 5
SIZES = (12, 16, 24, 40, 80, 160, 320)
SETS = 4_000  # data sets of each size
COMPONENTS = (1, 2, 4, 6, 8, 10, 12, 16, 24, 32)
ROWS, FRESH, MIXTURES = 200, 10_000, 10  # rows to fit, fresh rows, data sets of mixtures
BEST = 8  # the truth has so many
FLOOR = 1e-4  # least variance of a component, in the square of the unit of x
JOINT = "∏ᵢ Σ_c p(yᵢ = c) Normal(xᵢ; mean_c, covariance_c), with more and more components"


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(gaussian_mixture, JOINT)
    mixtures = capacity(run)
    run.section("A Gaussian, exactly", f"{D} features, the truth a standard normal; means over data sets.")
    rows = [gaussian(n, 100 if run.smoke else SETS, run.seed + n) for n in SIZES]
    run.figure(
        "gap",
        gaps(rows),
        "Left: training less held-out log density of the maximum-likelihood Gaussian, and (parameters) / "
        "(rows). Right: what a new row loses against the truth, plugged in and averaged over the posterior.",
    )
    run.table("gaussian", rows, "Nats a row.")
    for row in rows:
        n = row["rows"]
        run.claim(
            f"Gaussian, {n} rows: training - held-out, nats", row["gap"], row["gap known"],
            error=row["gap error"], source="k / (n - d - 2)",
        )  # fmt: skip
        for how in ("plugged in", "averaged"):
            run.claim(
                f"Gaussian, {n} rows, {how}: KL(true || estimated), nats", row[how], row[f"{how} known"],
                error=row[f"{how} error"], source="Wishart and beta moments",
            )  # fmt: skip
    claims(run, *mixtures)


def gaussian(n: int, sets: int, seed: int) -> dict[str, Any]:
    """Fit Gaussians to standard normal rows; training and held-out log densities beside closed forms."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sets, n, D, generator=generator, dtype=torch.float64)
    new = torch.randn(sets, D, generator=generator, dtype=torch.float64)
    mean = x.mean(1)
    scatter = (x - mean[:, None]).mT @ (x - mean[:, None])
    log_det, inverse = torch.linalg.slogdet(scatter).logabsdet, torch.linalg.inv(scatter)
    constant = -D / 2 * math.log(2 * math.pi / n) - log_det / 2
    training = constant - D / 2
    # The mean over new rows is taken exactly, given the data: E (x - m)' A (x - m) = trace A + m' A m.
    held_out = constant - n / 2 * (inverse.diagonal(dim1=1, dim2=2).sum(1) + form(inverse, mean))
    predictive = (
        math.lgamma(n / 2) - math.lgamma((n - D) / 2) - D / 2 * math.log(math.pi * (n + 1) / n)
        - log_det / 2 - n / 2 * (form(inverse, new - mean) * n / (n + 1)).log1p()
    )  # fmt: skip
    negative_entropy = -D / 2 * math.log(2 * math.pi * math.e)
    truth = -D / 2 * math.log(2 * math.pi) - new.square().sum(1) / 2
    gap = mean_and_error(training - held_out)
    plugged, averaged = mean_and_error(negative_entropy - held_out), mean_and_error(truth - predictive)
    return {
        "rows": n, "gap": gap.value, "gap error": gap.error, "gap known": D * (D + 3) / 2 / (n - D - 2),
        "plugged in": plugged.value, "plugged in error": plugged.error, "plugged in known": known(n)[0],
        "averaged": averaged.value, "averaged error": averaged.error, "averaged known": known(n)[1],
    }  # fmt: skip


def form(matrix: Tensor, vector: Tensor) -> Tensor:
    """The form v' A v of every data set: (sets, d, d) and (sets, d) -> (sets,)."""
    return torch.einsum("si,sij,sj->s", vector, matrix, vector)


def known(n: int) -> tuple[float, float]:
    """E KL(true || plugged in) and E KL(true || averaged) of a Gaussian, in nats.

    E log |scatter| and E scatter^-1 are those of a Wishart with n - 1 degrees of freedom; the averaged
    density is Student t under the prior |covariance|^-(d + 1)/2, and 1 / (1 + its quadratic form)
    is Beta((n - d) / 2, d / 2).
    """
    half = torch.arange(n - 1, n - 1 - D, -1, dtype=torch.float64) / 2
    log_det = float(half.digamma().sum()) + D * math.log(2)
    plugged = (log_det - D * math.log(n)) / 2 + D / 2 * (n + 1) / (n - D - 2) - D / 2
    psi = torch.tensor([n / 2, (n - D) / 2], dtype=torch.float64).digamma()
    log_p = (
        math.lgamma(n / 2) - math.lgamma((n - D) / 2) - D / 2 * math.log(math.pi * (n + 1) / n)
        - log_det / 2 - n / 2 * float(psi[0] - psi[1])
    )  # fmt: skip
    return plugged, -D / 2 * math.log(2 * math.pi * math.e) - log_p


def capacity(run: Run) -> tuple[float, Tensor]:
    """Fit mixtures of more and more components; return -entropy, and (sets, components, 2) log densities."""
    from sklearn.mixture import GaussianMixture

    law = density("eight_gaussians")
    fresh = law.sample_labelled(500 if run.smoke else FRESH, seed=run.seed + 999).x.numpy()
    found = []
    for one in range(2 if run.smoke else MIXTURES):
        x = law.sample_labelled(ROWS, seed=run.seed + one).x.numpy()
        fits = [
            GaussianMixture(
                k,
                reg_covar=FLOOR,
                max_iter=500,
                tol=1e-4,
                n_init=1 if run.smoke else 3,
                random_state=run.seed,
            ).fit(x)
            for k in COMPONENTS
        ]
        found.append([[fitted.score(x), fitted.score(fresh)] for fitted in fits])
    negative_entropy, scores = -float(law.entropy()), torch.tensor(found, dtype=torch.float64)
    run.section(
        "More and more components",
        f"{ROWS} rows of eight Gaussians in the plane; mixtures by maximum likelihood (scikit-learn), with "
        "full covariances; mean over data sets.",
    )
    run.figure(
        "capacity",
        capacities(negative_entropy, scores),
        "Log density of the training rows and of new ones. Above the black line an estimate "
        "says more of its rows than the truth can. Right: the gap, and (parameters) / (rows).",
    )
    return negative_entropy, scores


def claims(run: Run, negative_entropy: float, scores: Tensor) -> None:
    """Claim what capacity does."""
    training, held_out = scores.unbind(-1)
    most = mean_and_error(training[:, -1])
    run.claim(
        f"{COMPONENTS[-1]} components: training log density, nats a row", most.value, negative_entropy,
        error=most.error, relation="at least", source="-entropy: above what the truth itself reaches",
    )  # fmt: skip
    best = COMPONENTS.index(BEST)
    fall = mean_and_error(held_out[:, best] - held_out[:, -1])
    run.claim(
        f"held-out log density lost from {BEST} to {COMPONENTS[-1]} components, nats a row", fall.value, 0.1,
        error=fall.error, relation="at least", source="at least .1, stated before the fits",
    )  # fmt: skip
    run.claim(
        "components that are best on new rows", COMPONENTS[int(held_out.mean(0).argmax())], BEST,
        source="the truth has eight",
    )  # fmt: skip
    worst = mean_and_error(held_out[:, best])
    run.claim(
        f"{BEST} components: held-out log density, nats a row", worst.value, negative_entropy,
        error=worst.error, relation="at most", source="-entropy: KL >= 0",
    )  # fmt: skip


def capacities(negative_entropy: float, scores: Tensor) -> Any:
    """Training and held-out log density, and the gap, over capacity."""
    import matplotlib.pyplot as plt

    k, mean = torch.tensor(COMPONENTS), scores.mean(0)
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
        for i, (label, colour) in enumerate((("training rows", OTHER), ("new rows", ESTIMATED))):
            left.plot(k, mean[:, i], "o-", color=colour, label=label)
            for one in scores[..., i]:
                left.plot(k, one, color=colour, lw=0.6, alpha=0.3)
        left.axhline(negative_entropy, color=TRUE, lw=1.2, label="the truth itself, −entropy")
        left.axvline(BEST, color="#999999", ls=":", lw=1)
        left.set(xlabel="components", ylabel="log density, nats a row", title="Too good to be true")
        left.legend(loc="lower left")
        right.plot(k, mean[:, 0] - mean[:, 1], "o-", color=PALETTE[5], label="training − new rows")
        right.plot(k, (6 * k - 1) / ROWS, color=TRUE, ls="--", label="(parameters) / (rows)")
        right.axvline(BEST, color="#999999", ls=":", lw=1)
        right.set(xlabel="components", ylabel="gap, nats a row", title="The gap grows with the parameters")
        right.legend(loc="upper left")
    return figure


def gaps(rows: list[dict[str, Any]]) -> Any:
    """The Gaussian's gap and losses over rows, beside closed forms."""
    import matplotlib.pyplot as plt

    n = torch.tensor([row["rows"] for row in rows])
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
        left.loglog(n, [row["gap known"] for row in rows], color=TRUE, label="k / (n − d − 2), exact")
        left.loglog(n, D * (D + 3) / 2 / n, color=OTHER, ls="--", label="k / n, parameters / rows")
        left.loglog(n, [row["gap"] for row in rows], "o", color=ESTIMATED, ms=7, label="measured")
        left.set(xlabel="rows n", ylabel="training − held-out, nats a row", title="The gap")
        right.loglog(n, [row["plugged in known"] for row in rows], color=TRUE, label="closed forms")
        right.loglog(n, [row["averaged known"] for row in rows], color=TRUE)
        for how, colour in (("plugged in", OTHER), ("averaged", ESTIMATED)):
            label = f"{how}, measured"
            right.loglog(n, [row[how] for row in rows], "o", color=colour, ms=7, label=label)
        right.set(xlabel="rows n", ylabel="KL(true || estimated), nats", title="Averaging loses less")
        for axis in (left, right):
            axis.set_xticks(n.tolist(), [str(int(one)) for one in n])
            axis.minorticks_off()
            axis.legend()
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
