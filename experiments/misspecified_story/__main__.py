"""A wrong story: what does Bayes' rule make of p(x | y) that is not the truth?

Inversion is only as good as the story that is inverted. Two wrong ones, each beside a right answer.

Copied evidence: six features are correlated given the class, and naive Bayes takes each for news of its own.
Its log odds are the true ones times 1 + 5 correlation, here 4: the boundary is right and every probability
too sure. With exact copies of one feature the factor is the number of copies. A story with correlations
repairs it.

Skewed classes: x given y has a long tail on one side, and a story of normal classes ends up with quadratic
log odds where the truth is linear.

Expected: p(y | x) and its expected log loss at the closed forms, in nats; logistic regression, which never
asked how x came about, is right in both worlds.

Source: Domingos and Pazzani (1997), On the optimality of the simple Bayesian classifier; White (1982),
Maximum likelihood estimation of misspecified models, for what a wrong story converges to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from experiments.compare.result import Estimate, mean_and_error
from experiments.misspecified_story import figures
from experiments.report import Run, launch
from experiments.truth.law import Law
from experiments.truth.simulators.shared_covariance import equicorrelated
from experiments.truth.simulators.skewed_classes import SkewedClasses
from experiments.truth.simulators.two_gaussians import expected_log_loss
from inference import fit_many, prior
from ppl_models.diagonal_discriminant import diagonal_discriminant, exact
from ppl_models.gaussian_naive_bayes import gaussian_naive_bayes
from ppl_models.linear_discriminant import linear_discriminant
from ppl_models.logistic_regression import logistic_regression

DISTANCE, FEATURES, CORRELATION = 2.0, 6, 0.6
FACTOR = 1 + (FEATURES - 1) * CORRELATION
SETS, ROWS, TEST = 16, 2_000, 20_000
# A posterior mean is off its limit by the order of features / rows; four times that, relatively, is allowed.
SMALL = 4 * FEATURES / ROWS
EXCESS = FEATURES / ROWS  # of an excess log loss, in nats: what estimating 12 means and variances costs
THIRD = 0.1  # the next order of "coefficients / (2 rows)", relatively
COPIES = (1, 2, 3, 5, 8)
NAIVE, FULL, NORMAL, PEER = "naive Bayes", "with correlations", "normal classes", "logistic regression"
JOINT = "p(weights) p(variance) p(mean | variance) ∏ᵢ p(yᵢ | weights) ∏ⱼ p(xᵢⱼ | yᵢ, mean, variance)"


@dataclass(frozen=True)
class World:
    """A truth, held-out rows with the true log odds, and what was learned: log odds (sets, rows) by name."""

    law: Law
    x: Tensor
    y: Tensor
    true: Tensor
    learned: dict[str, Tensor]

    def factor(self, name: str) -> Estimate:
        """Log odds in multiples of the true ones, by least squares; mean over the data sets."""
        return mean_and_error(self.learned[name] @ self.true / self.true.square().sum())

    def loss(self, name: str) -> Estimate:
        """Excess log loss in nats: KL(true || estimated p(y | x)), mean over rows; mean over the sets."""
        return mean_and_error(excess_loss(self.true, self.learned[name]).mean(-1))


def excess_loss(true: Tensor, estimated: Tensor) -> Tensor:
    """KL between two p(y | x) of two classes, from their log odds, in nats."""
    p = torch.sigmoid(true)
    return p * (softplus(-estimated) - softplus(-true)) + (1 - p) * (softplus(estimated) - softplus(true))


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(diagonal_discriminant, JOINT)
    copied = learn(
        run, equicorrelated(DISTANCE, FEATURES, CORRELATION), {NAIVE: told_apart, FULL: told_whole}
    )
    skewed = learn(run, SkewedClasses(), {NORMAL: told_normal})
    copies = copied_feature(run)
    run.section(
        "A wrong story is sure of the wrong thing",
        f"Every story and the regression are fitted to {len(copied.learned[NAIVE])} data sets of {ROWS:,} "
        "rows of each world; p(y | x) at their posterior means is laid beside the true one.",
    )
    run.figure(
        "inversion",
        figures.inversion(copied, skewed, FACTOR, {NAIVE: known_loss(), NORMAL: nearest_loss()}),
        "Left: share of class 1 among held-out rows of which this was said; line: closed form. Middle: "
        "skewed classes (filled) and the normals nearest to them (dashed), and p(y | x). Right: excess log "
        "loss over the truth; black: closed form or quadrature.",
    )
    worlds = {"correlated": copied, "skewed": skewed}
    rows = [row(name, one, learned) for name, one in worlds.items() for learned in one.learned]
    run.table("loss", rows, "± standard error over data sets.")
    known = [{"copies": k, "log odds in multiples of those of one": v} for k, v in copies.items()]
    run.table("copies", known, "One feature, copied, told to naive Bayes as so many features.")
    claims(run, copied, skewed, copies)


def learn(run: Run, law: Law, stories: dict[str, Callable[..., Tensor]]) -> World:
    """Fit every story, and the regression, to all data sets at once; ask for held-out log odds."""
    sets, rows = (2, 200) if run.smoke else (SETS, ROWS)
    data = [law.sample_labelled(rows, seed=1_000 * run.seed + index) for index in range(sets)]
    x, y = law.sample_labelled(500 if run.smoke else TEST, seed=1_000 * run.seed + 999)
    learned = {name: story([d._asdict() for d in data], x, run.seed) for name, story in stories.items()}
    learned[PEER] = asked([d._asdict() for d in data], x, run.seed)
    true = law.probabilities(x).log()
    return World(law, x, y, true[:, 1] - true[:, 0], learned)


def told_apart(data: list[dict[str, Tensor]], x: Tensor, seed: int) -> Tensor:
    """Naive Bayes: features are independent given the class."""
    rows, features = data[0]["x"].shape
    draws = fit_many(diagonal_discriminant, data, (rows, 2, features), seed=seed).draws
    precision = torch.diag_embed(1 / draws["variance"].mean(1))
    return linear_odds(draws["weights"].mean(1), draws["mean"].mean(1), precision, x)


def told_whole(data: list[dict[str, Tensor]], x: Tensor, seed: int) -> Tensor:
    """A story whose classes share a covariance, as they do in truth."""
    rows, features = data[0]["x"].shape
    draws = fit_many(linear_discriminant, data, (rows, 2, features), seed=seed).draws
    weights, mean, precision = (draws[site].mean(1) for site in ("weights", "mean", "precision"))
    return linear_odds(weights, mean, precision, x)


def linear_odds(weights: Tensor, mean: Tensor, precision: Tensor, x: Tensor) -> Tensor:
    """Log odds by Bayes' rule of classes of one shape: (sets, rows)."""
    slope = (precision @ (mean[:, 1] - mean[:, 0])[..., None])[..., 0]
    middle = (mean[:, 0] + mean[:, 1]) / 2
    return (weights[:, 1] / weights[:, 0]).log()[:, None] + slope @ x.mT - (slope * middle).sum(-1)[:, None]


def told_normal(data: list[dict[str, Tensor]], x: Tensor, seed: int) -> Tensor:
    """Normal classes, each with its own mean and variance."""
    draws = fit_many(gaussian_naive_bayes, data, (len(data[0]["x"]), 2, 1), seed=seed).draws
    weights, mean, variance = (draws[site].mean(1) for site in ("weights", "mean", "variance"))
    normals = torch.distributions.Normal(mean[..., 0], variance[..., 0].sqrt())
    return (normals.log_prob(x[:, None]) + weights.log()).diff(dim=-1)[..., 0].mT


def asked(data: list[dict[str, Tensor]], x: Tensor, seed: int) -> Tensor:
    """Logistic regression with an intercept."""
    each = [(with_ones(one["x"]), 2, 5.0) for one in data]
    fits = fit_many(logistic_regression, [{"y": one["y"]} for one in data], each=each, seed=seed)
    return fits.draws["coefficients"].mean(1).diff(dim=-1)[..., 0] @ with_ones(x).mT


def with_ones(x: Tensor) -> Tensor:
    """Put the intercept's column of ones before the features."""
    return torch.cat([torch.ones(len(x), 1, dtype=x.dtype), x], 1)


def copied_feature(run: Run) -> dict[int, float]:
    """Tell one feature many times over; log odds in multiples of those of one copy, where furthest off."""
    one = equicorrelated(DISTANCE, 1, 0.0)
    y = torch.arange(100) % 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        x = one.sample_given(y)
    odds = {}
    for copies in COPIES:
        rows = x.expand(-1, copies)
        means = {site: law.mean for site, law in exact({"x": rows, "y": y}, len(y), 2, copies).items()}
        story = prior(diagonal_discriminant, (len(y), 2, copies), draws=2)
        odds[copies] = story.probabilities("y", given={"x": rows, **means}).logit()[:, 1]
    near = odds[1].abs() < 1  # further out a probability of 8 copies is 1 to all digits
    ratios = {k: (v / odds[1])[near] for k, v in odds.items()}
    return {k: float(v[(v - k).abs().argmax()]) for k, v in ratios.items()}


def known_loss() -> float:
    """Excess log loss of log odds that are FACTOR times the true ones, in nats."""
    return expected_log_loss(DISTANCE, FACTOR) - expected_log_loss(DISTANCE)


def nearest_loss(points: int = 24_001) -> float:
    """Excess log loss of the normals nearest to the skewed classes, in nats, by a trapezoid rule up to 60."""
    law, x = SkewedClasses(), torch.linspace(0, 60, points, dtype=torch.float64)[1:]
    normals = law.nearest_normals().log_prob(x[:, None]).diff(dim=-1)[:, 0]
    return float(torch.trapezoid(law.log_prob(x[:, None]).exp() * excess_loss(law.log_odds(x), normals), x))


def row(world: str, one: World, name: str) -> dict[str, Any]:
    """Write one story as a row of the table."""
    wrong = mean_and_error(((one.learned[name] > 0) != one.y.bool()).double().mean(-1))
    return {
        "classes": world, "learned": name, "wrong / %": str(Estimate(100 * wrong.value, 100 * wrong.error)),
        "excess log loss / nats": str(one.loss(name)), "log odds / true": str(one.factor(name)),
    }  # fmt: skip


def claims(run: Run, copied: World, skewed: World, copies: dict[int, float]) -> None:
    """Claim factors and excess losses, of what is wrong and of what is right."""
    away = max(abs(value / k - 1) for k, value in copies.items())
    text = "log odds of a feature copied k times, over k times those of one: largest relative difference"
    run.claim(text, away, 0.0, numerical=1e-9, source="closed form")
    for name, known in ((NAIVE, FACTOR), (FULL, 1.0), (PEER, 1.0)):
        value, error = copied.factor(name)
        text = f"correlated features, {name}: log odds in multiples of the true ones"
        run.claim(text, value, known, error=error, numerical=SMALL * known, source="1 + 5 correlation, or 1")
    # Held-out rows are the same for all data sets: their share of the error does not average out.
    normals = SkewedClasses().nearest_normals().log_prob(skewed.x).diff(dim=-1)[:, 0]
    for text, one, name, known, limit in (
        ("correlated features", copied, NAIVE, known_loss(), FACTOR * copied.true),
        ("skewed classes", skewed, NORMAL, nearest_loss(), normals),
    ):
        value, error = one.loss(name)
        shared = mean_and_error(excess_loss(one.true, limit)).error
        run.claim(
            f"{text}, {name}: excess log loss, nats", value, known, error=(error**2 + shared**2) ** 0.5,
            numerical=EXCESS, source="the story nearest to the truth, by quadrature",
        )  # fmt: skip
    rows = 200 if run.smoke else ROWS
    for text, one in (("correlated features", copied), ("skewed classes", skewed)):
        value, error = one.loss(PEER)
        known = (1 + one.x.shape[1]) / (2 * rows)
        run.claim(
            f"{text}, {PEER}: excess log loss, nats", value, known, error=error, numerical=THIRD * known,
            source="coefficients / (2 rows): right, but for what rows cannot tell",
        )  # fmt: skip
    value, error = copied.loss(FULL)
    text = f"correlated features, {FULL}: excess log loss, nats"
    known = (1 + FEATURES) / (2 * rows)
    source = "coefficients / (2 rows); a true story learns faster"
    run.claim(text, value, known, error=error, relation="at most", numerical=THIRD * known, source=source)


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
