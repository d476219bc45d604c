"""Discriminative against generative: what does learning p(y | x) alone cost, when the story is true?

Two Gaussian clouds lie ``distance`` standard deviations apart. Bayes' rule turns the story p(x | y) p(y) into
p(y | x), and that is exactly a logistic function of x. So logistic regression, which learns p(y | x) and
nothing else, is right as well, and both come to the same best rule. They need different numbers of rows: the
story also learns from where the rows lie, the regression only from their labels. Efron's asymptotic relative
efficiency is the ratio of the two excess errors (error less the least possible error), many rows:
(1 + d^2/4) exp(-d^2/8) E[sech(d X / 2)], X standard normal.

Expected: at a distance of 2, error Phi(-1) = .15866 and hardly a difference (.899); at 4, where labels are
nearly certain, the regression needs three times the rows (.343). This is the price where the story is true;
what is paid where it is false is told by ``ng_jordan`` and ``misspecified_story``.

Source: Efron (1975), The efficiency of logistic regression compared to normal discriminant analysis, JASA 70,
table 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.compare.result import Estimate, mean_and_error
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style
from experiments.truth.simulators.two_gaussians import bayes_error, efficiency, law, rule_error, story_excess
from inference import fit_many, prior
from ppl_models.linear_discriminant import exact, linear_discriminant
from ppl_models.logistic_regression import logistic_regression

TABLE = {1.0: 0.995, 1.5: 0.968, 2.0: 0.899, 2.5: 0.786, 3.0: 0.641, 3.5: 0.486, 4.0: 0.343}
SIMULATED = (1.0, 2.0, 3.0, 4.0)
DIMENSIONS = 3  # of x; the efficiency does not depend on it, and more of them make the excess less noisy
SETS = 1_000  # data sets at every distance
# Rows are chosen so that rows * (information on a coefficient in one row) is this, at every distance: the
# relative error of what holds for many rows is of the order dimensions / INFORMATION; twice that is allowed.
INFORMATION = 200.0
SECOND_ORDER = 2 * DIMENSIONS / INFORMATION
FITTED, FITS = 2.0, 24  # distance and number of the data sets that both stories are fitted to by `fit_many`
STRENGTH = 0.01  # imagined rows behind the prior of a class centre
WEAK = 1e4  # ridge variance of the logistic regression: as good as maximum likelihood
SOURCE = "Efron (1975), table 1"
JOINT = "p(weights) p(precision) ∏ p(mean | precision) ∏ᵢ p(yᵢ | weights) p(xᵢ | yᵢ, mean, precision)"


@dataclass(frozen=True)
class Simulated:
    """Excess errors of both on the same data sets, (sets,) each, and the rows of a set."""

    distance: float
    rows: int
    story: Tensor
    regression: Tensor

    @property
    def ratio(self) -> Estimate:
        """Excess of the story over that of the regression: their relative efficiency, measured."""
        return ratio(self.story, self.regression)


@dataclass(frozen=True)
class Fitted:
    """Rules (sets, 1 + dimensions) at the posterior means of both stories, and the same without a fit.

    ``curve`` (161,) is p(y = 1 | x) along the first coordinate, of the first data set; ``trusted`` the share
    of fits that call themselves so.
    """

    story: Tensor
    regression: Tensor
    story_direct: Tensor
    regression_direct: Tensor
    curve: Tensor
    trusted: float


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(linear_discriminant, JOINT)
    run.story(logistic_regression, "p(coefficients) ∏ᵢ p(yᵢ | coefficients, xᵢ)")
    simulated = [simulate(run, distance) for distance in SIMULATED]
    fitted = both_fitted(run)
    run.section(
        "What the labels alone are worth",
        f"At every distance {len(simulated[0].story):,} data sets were drawn. The story's posterior means "
        "are known in closed form, the regression is fitted by maximum likelihood (scikit-learn), and the "
        "error of either rule is a closed form too, so that no test rows are drawn.",
    )
    run.figure(
        "efficiency",
        picture(simulated, fitted),
        "Left: p(y = 1 | x) by Bayes' rule from the fitted story, at a distance of 2, lies on the logistic "
        "curve. Right: excess error of the story over that of the regression; bars: 4 Monte Carlo errors.",
    )
    run.table("efficiency", [row(one) for one in simulated], "Excess errors in percentage points.")
    claims(run, simulated, fitted)


def simulate(run: Run, distance: float) -> Simulated:
    """Draw data sets, learn both rules on each, and say how far each is from the best."""
    sets = 20 if run.smoke else SETS
    rows = rows_at(distance, run.smoke)
    rules = [both_rules(*drawn(distance, rows, run.seed, index)) for index in range(sets)]
    story, regression = (torch.stack(each) for each in zip(*rules, strict=True))
    return Simulated(distance, rows, excess(story, distance), excess(regression, distance))


def rows_at(distance: float, smoke: bool) -> int:
    """Rows of a data set: Efron's information in one row is efficiency / (4 + distance^2)."""
    return 200 if smoke else round(INFORMATION * (4 + distance**2) / efficiency(distance))


def drawn(distance: float, rows: int, seed: int, index: int) -> Any:
    """Draw one data set, (x, y)."""
    return law(distance, DIMENSIONS).sample_labelled(rows, seed=1_000_000 * seed + index)


def both_rules(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Learn (intercept, slope), each (1 + dimensions,): from the story in closed form, and by regression."""
    from sklearn.linear_model import LogisticRegression

    known = exact({"x": x, "y": y}, len(x), 2, DIMENSIONS, strength=STRENGTH)
    story = story_rule(known["weights"].mean, known["precision"].mean, known["mean"].mean)
    learned = LogisticRegression(C=WEAK, solver="newton-cholesky").fit(x.numpy(), y.numpy())
    return story, torch.as_tensor([*learned.intercept_, *learned.coef_[0]])


def story_rule(weights: Tensor, precision: Tensor, mean: Tensor) -> Tensor:
    """Bayes' rule at given parameters: the log odds of class 1 are intercept + slope . x."""
    slope = precision @ (mean[1] - mean[0])
    intercept = (weights[1] / weights[0]).log() - slope @ (mean[0] + mean[1]) / 2
    return torch.cat([intercept[None], slope])


def excess(rules: Tensor, distance: float) -> Tensor:
    """Errors of linear rules (sets, 1 + dimensions) above the least error."""
    return rule_error(rules[:, 0], rules[:, 1:], distance) - bayes_error(distance)


def ratio(above: Tensor, below: Tensor) -> Estimate:
    """Ratio of means of paired values, and its standard error (delta method)."""
    value = float(above.mean() / below.mean())
    return Estimate(value, mean_and_error((above - value * below) / below.mean()).error)


def both_fitted(run: Run) -> Fitted:
    """Fit both stories to many data sets at once; take the rules at their posterior means."""
    count, rows = (2 if run.smoke else FITS), rows_at(FITTED, run.smoke)
    sets = [drawn(FITTED, rows, run.seed, index) for index in range(count)]
    data = [{"x": x, "y": y} for x, y in sets]
    told = fit_many(linear_discriminant, data, (rows, 2, DIMENSIONS, 0.0, 1.0, STRENGTH), seed=run.seed)
    means = [{name: value[i].mean(0) for name, value in told.draws.items()} for i in range(count)]
    ones = torch.ones(rows, 1, dtype=torch.float64)
    each = [(torch.cat([ones, x], 1), 2, 10.0) for x, _ in sets]
    asked = fit_many(logistic_regression, [{"y": y} for _, y in sets], each=each, seed=run.seed)
    coefficients = asked.draws["coefficients"].mean(1)
    direct = [torch.stack(each) for each in zip(*(both_rules(*one) for one in sets), strict=True)]
    return Fitted(
        torch.stack([story_rule(m["weights"], m["precision"], m["mean"]) for m in means]),
        coefficients[..., 1] - coefficients[..., 0],
        direct[0],
        direct[1],
        told[0].probabilities("y", given={"x": along_first()})[:, 1],
        float(torch.cat([told.trusted, asked.trusted]).double().mean()),
    )


def along_first() -> Tensor:
    """Rows along the first coordinate, the others 0, (161, dimensions)."""
    x = torch.zeros(161, DIMENSIONS, dtype=torch.float64)
    x[:, 0] = torch.linspace(-4, 4, 161, dtype=torch.float64)
    return x


def row(one: Simulated) -> dict[str, Any]:
    """Write one distance as a row of the table."""
    known = 100 * story_excess(one.distance, DIMENSIONS) / one.rows
    return {
        "distance": one.distance, "rows": one.rows, "least error / %": 100 * bayes_error(one.distance),
        "excess, story": str(mean_and_error(100 * one.story)), "known": known,
        "excess, regression": str(mean_and_error(100 * one.regression)),
        "known ": known / efficiency(one.distance),
        "relative efficiency": str(one.ratio), "Efron": efficiency(one.distance),
    }  # fmt: skip


def claims(run: Run, simulated: list[Simulated], fitted: Fitted) -> None:
    """Claim the inversion, Efron's table by quadrature, and the same by simulation and by fits."""
    inversion(run, fitted)
    for distance, known in TABLE.items():
        text = f"efficiency at a distance of {distance:g}, the formula by quadrature"
        run.claim(text, efficiency(distance), known, numerical=5.01e-4, source=SOURCE)
    for one in simulated:
        known, measured = efficiency(one.distance), one.ratio
        text = f"efficiency at a distance of {one.distance:g}, {len(one.story):,} sets of {one.rows:,} rows"
        run.claim(
            text, measured.value, known, error=measured.error, numerical=SECOND_ORDER * known, source=SOURCE
        )
        limit = story_excess(one.distance, DIMENSIONS)
        scaled = mean_and_error(one.rows * one.story)
        text = f"rows * excess error of the story at a distance of {one.distance:g}"
        run.claim(
            text, scaled.value, limit, error=scaled.error, numerical=SECOND_ORDER * limit,
            source="closed form for many rows",
        )  # fmt: skip
    same = ratio(excess(fitted.story, FITTED), excess(fitted.story_direct, FITTED))
    text = "excess error of the story fitted by `fit_many`, over that of its exact posterior"
    # 1,000 draws put 1/1,000 of the posterior variance on top of a posterior mean.
    run.claim(text, same.value, 1.0, error=same.error, numerical=2e-3, source="exact posterior")
    same = ratio(excess(fitted.regression, FITTED), excess(fitted.regression_direct, FITTED))
    text = "excess error of the regression fitted by `fit_many`, over that of maximum likelihood"
    run.claim(text, same.value, 1.0, error=same.error, numerical=SECOND_ORDER, source="scikit-learn")


def inversion(run: Run, fitted: Fitted) -> None:
    """Claim what Bayes' rule makes of the story: at the true parameters, and fitted."""
    x = along_first()
    true = {
        "weights": torch.full((2,), 0.5, dtype=torch.float64),
        "precision": torch.eye(DIMENSIONS, dtype=torch.float64),
        "mean": law(FITTED, DIMENSIONS).means[:, 0],
    }
    story = prior(linear_discriminant, (len(x), 2, DIMENSIONS), draws=2)
    by_bayes = story.probabilities("y", given={"x": x, **true})[:, 1]
    away = float((by_bayes - torch.sigmoid(FITTED * x[:, 0])).abs().max())
    text = "p(y | x) by Bayes' rule at the true parameters, less the logistic function: largest difference"
    run.claim(text, away, 0.0, numerical=1e-9, source="closed form: log odds = distance * x1")
    error = bayes_error(FITTED)
    run.claim("error of the best rule at a distance of 2", error, 0.15866, numerical=5e-6, source="Phi(-1)")
    odds = mean_and_error(fitted.story @ torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64))
    text = "log odds at x = (.5, 0, 0), story fitted by `fit_many`, mean over data sets"
    run.claim(text, odds.value, 1.0, error=odds.error, numerical=SECOND_ORDER, source="closed form")
    run.metric("share of fits that are trusted", fitted.trusted)


def picture(simulated: list[Simulated], fitted: Fitted) -> Any:
    """Inversion on the left, efficiency over distance on the right."""
    import matplotlib.pyplot as plt

    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
        x = along_first()[:, 0]
        for sign, colour in ((-1, PALETTE[3]), (1, PALETTE[2])):
            cloud = torch.exp(-((x - sign * FITTED / 2) ** 2) / 2) / math.sqrt(2 * math.pi)
            left.fill_between(x, cloud, color=colour, alpha=0.25, lw=0)
            left.text(sign * 2.9, 0.3, f"p(x | y = {(sign + 1) // 2})", color=colour, ha="center")
        left.plot(x, torch.sigmoid(FITTED * x), color=TRUE, lw=4, alpha=0.5, label="logistic function, exact")
        left.plot(x, fitted.curve, "--", color=ESTIMATED, label="fitted story, by Bayes' rule")
        left.set(xlabel="x, first coordinate", ylabel="p(y = 1 | x)", title="The way back is exact")
        left.legend(loc="upper left")
        distance = torch.linspace(0, 4.3, 87).tolist()
        right.plot(distance, [efficiency(d) for d in distance], color=TRUE, label="Efron (1975)")
        right.axhline(1.0, color=OTHER, lw=1, ls=":")
        right.text(4.3, 1.01, "the story", color=OTHER, ha="right", va="bottom")
        for one in simulated:
            bar = 4 * one.ratio.error
            right.errorbar(one.distance, one.ratio.value, bar, fmt="o", color=ESTIMATED, ms=7, capsize=4)
        right.errorbar([], [], [], fmt="o", color=ESTIMATED, ms=7, capsize=4, label="simulated")
        right.set(xlabel="distance of the classes / standard deviations", ylabel="relative efficiency")
        right.set(title="Learning from labels alone costs rows", ylim=(0, 1.1))
        right.legend(loc="lower left")
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
