"""Prior shift: what if classes are rarer or more common than they were in training?

A disease is rarer in the street than in the hospital: p(y) changes, p(x | y) does not. A story keeps the two
apart, so p(y) is taken out and the new one put in, exactly; and where it is not known either, the same story
learns it from rows without a label, p(y) being all that is left to learn. What a classifier has learned is
p(y | x) of the old world; left alone it goes on answering for that. It too can be corrected, by p'(y | x) ∝
p(y | x) p'(y) / p(y), if somebody tells it what its p(y) was: a generative thought.

Expected: two Gaussians 2 standard deviations apart, learned where both are equally frequent, have an error
of Phi(-1) = .15866 wherever they go; with the right p(y) it falls to .07006 where one class is 9 of 10. Both
ways to estimate p'(y) find it, with the error that theory gives.

Source: Saerens, Latinne and Decaestecker (2002), Adjusting the outputs of a classifier to new a priori
probabilities, Neural Computation 14.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.compare.prior_shift import reweighted, shares
from experiments.compare.result import Estimate, mean_and_error
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, PALETTE, TRUE, style
from experiments.truth.law import Labelled
from experiments.truth.simulators.two_gaussians import bayes_error, law, share_stddev
from inference import fit, prior
from ppl_models.linear_discriminant import linear_discriminant
from ppl_models.logistic_regression import logistic_regression

DISTANCE, DIMENSIONS = 2.0, 2
TRAIN = 20_000  # labelled rows, half of each class
UNLABELLED = (
    1_000  # rows of the new world whose label nobody knows; few, so that TRAIN hardly adds to the error
)
TEST = 20_000  # rows that errors are counted on
SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
SMOKE = (0.5, 0.9)
# The boundary learned from TRAIN rows is off by this standard error (see `story_excess`), in units of x.
OFFSET = math.sqrt((4 + DISTANCE**2) / DISTANCE**2 / TRAIN)
DENSITY = math.exp(-(DISTANCE**2) / 8) / math.sqrt(2 * math.pi)  # of either class at the even boundary
JOINT = "p(weights) p(precision) ∏ p(mean | precision) ∏ᵢ p(yᵢ | weights) p(xᵢ | yᵢ, mean, precision)"
STORY, FOUND, LEFT, TOLD = "story, p(y) swapped", "story, p(y) learned", "regression", "regression, EM"
# Marker, colour, size and fill: three of the four lie on one curve and must be seen through each other.
LOOK = {
    STORY: ("o", ESTIMATED, 13, "none"), FOUND: ("s", ESTIMATED, 5, None),
    LEFT: ("^", OTHER, 8, None), TOLD: ("D", PALETTE[3], 9, "none"),
}  # fmt: skip


@dataclass(frozen=True)
class Learned:
    """What was learned in the old world: parameters of the story, coefficients, and p(y) there."""

    parameters: dict[str, Tensor]
    coefficients: Tensor
    trained: Tensor


@dataclass(frozen=True)
class World:
    """A new p(y=1): shares of wrong answers by name, p(y=1) estimated twice, how far the identity is off."""

    share: float
    wrong: dict[str, Estimate]
    learned: Estimate
    by_em: float
    identity: float


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(linear_discriminant, JOINT)
    learned = learn(run)
    worlds = [go(run, learned, share) for share in (SMOKE if run.smoke else SHARES)]
    run.section(
        "The same clouds, other shares",
        f"Both were learned from {TRAIN:,} labelled rows, half of each class. In every new world p(y) is "
        f"learned from {UNLABELLED:,} rows without labels, and errors are counted on {TEST:,} others.",
    )
    run.figure(
        "errors",
        picture(worlds),
        "Left: share of wrong answers against the share of class 1; curves are closed forms. Right: the "
        "share of class 1 as learned from rows without labels, with 95 % intervals of the story's posterior.",
    )
    run.table("worlds", [row(one) for one in worlds], "Wrong answers in per cent, ± standard error.")
    claims(run, worlds)


def learn(run: Run) -> Learned:
    """Learn the story and the regression where both classes are equally frequent."""
    rows = 400 if run.smoke else TRAIN
    x, y = law(DISTANCE, DIMENSIONS).sample_labelled(rows, seed=run.seed)
    posterior = fit(linear_discriminant, {"x": x, "y": y}, (rows, 2, DIMENSIONS), restarts=2, seed=run.seed)
    parameters = {name: value.mean((0, 1)) for name, value in posterior.draws.items()}
    peer = fit(logistic_regression, {"y": y}, (with_ones(x), 2, 10.0), restarts=2, seed=run.seed)
    trained = torch.bincount(y, minlength=2) / rows
    return Learned(parameters, peer.draws["coefficients"].mean((0, 1)), trained.double())


def with_ones(x: Tensor) -> Tensor:
    """Put the intercept's column of ones before the features."""
    return torch.cat([torch.ones(len(x), 1, dtype=x.dtype), x], 1)


def go(run: Run, learned: Learned, share: float) -> World:
    """Go to a new world, where p(y=1) is ``share``; answer there."""
    joint, place = law(DISTANCE, DIMENSIONS, share), SHARES.index(share)
    unlabelled = joint.sample_labelled(200 if run.smoke else UNLABELLED, seed=run.seed + 100 + place).x
    test = joint.sample_labelled(500 if run.smoke else TEST, seed=run.seed + 200 + place)
    now = torch.tensor([1 - share, share], dtype=torch.float64)
    clouds = {name: learned.parameters[name] for name in ("precision", "mean")}
    data = {"x": unlabelled, **clouds}
    # p(x | y) is given, y is summed out, and p(y) is the only unknown of the very same story.
    posterior = fit(linear_discriminant, data, (len(unlabelled), 2, DIMENSIONS), restarts=2, seed=run.seed)
    estimate = posterior.draws["weights"][..., 1]
    found = posterior.draws["weights"].mean((0, 1))
    old, answers = by_story(learned, test.x, learned.trained), by_regression(learned, test.x)
    em = shares(by_regression(learned, unlabelled), learned.trained)
    p = {
        STORY: by_story(learned, test.x, now),
        FOUND: by_story(learned, test.x, found),
        LEFT: answers,
        TOLD: reweighted(answers, learned.trained, em),
    }
    identity = (reweighted(old, learned.trained, now) - p[STORY]).abs().max()
    return World(
        share,
        {name: wrong(each, test) for name, each in p.items()},
        Estimate(float(estimate.mean()), float(estimate.std())),
        float(em[1]),
        float(identity),
    )


def by_story(learned: Learned, x: Tensor, weights: Tensor) -> Tensor:
    """P(y | x) of the learned clouds under any p(y), (rows, 2)."""
    story = prior(linear_discriminant, (len(x), 2, DIMENSIONS), draws=2)
    given = {"x": x, **learned.parameters, "weights": weights}
    answer: Tensor = story.probabilities("y", given=given)
    return answer


def by_regression(learned: Learned, x: Tensor) -> Tensor:
    """P(y | x) of the logistic regression, (rows, 2)."""
    peer = prior(logistic_regression, (with_ones(x), 2, 10.0), draws=2)
    answer: Tensor = peer.probabilities("y", given={"coefficients": learned.coefficients})
    return answer


def wrong(p: Tensor, test: Labelled) -> Estimate:
    """Share of rows that are named wrongly."""
    return mean_and_error((p.argmax(-1) != test.y).double())


def row(one: World) -> dict[str, Any]:
    """Write one world as a row of the table."""
    return {
        "share of class 1": one.share,
        "learned": str(one.learned),
        "by EM": one.by_em,
        **{name: str(Estimate(100 * value, 100 * error)) for name, (value, error) in one.wrong.items()},
        "least": 100 * bayes_error(DISTANCE, one.share),
    }


def claims(run: Run, worlds: list[World]) -> None:
    """Claim the identity, the errors with and without the new p(y), and the estimates of it."""
    rows = 200 if run.smoke else UNLABELLED
    text = "swapping p(y), less p(y | x) p'(y) / p(y) normalized: largest difference"
    largest = max(one.identity for one in worlds)
    run.claim(text, largest, 0.0, numerical=1e-9, source="Bayes' rule; Saerens et al. (2002)")
    known = bayes_error(DISTANCE, 0.9)
    run.claim("least error at a share of .9", known, 0.07006, numerical=5e-6, source="closed form")
    for one in worlds:
        at = f"share {one.share:g}: "
        # Where shares are uneven an uncorrected boundary's offset costs in the first order.
        offset = DENSITY * abs(2 * one.share - 1) * OFFSET
        value, error = one.wrong[LEFT]
        run.claim(
            f"{at}error of the regression, left alone", value, bayes_error(DISTANCE),
            error=math.hypot(error, offset), source="Phi(-1), whatever the share",
        )  # fmt: skip
        value, error = one.wrong[STORY]
        run.claim(
            f"{at}error of the story, p(y) swapped", value, bayes_error(DISTANCE, one.share), error=error,
            numerical=1e-3, source="closed form; the boundary was learned",
        )  # fmt: skip
        run.claim(
            f"{at}p(y=1) learned by the story from unlabelled rows", one.learned.value, one.share,
            error=one.learned.error, source="the truth, within posterior sds",
        )  # fmt: skip
        theory = share_stddev(DISTANCE, one.share, rows)
        run.claim(
            f"{at}p(y=1) by EM from the regression's answers", one.by_em, one.share, error=theory,
            source="the truth, within errors by Fisher information",
        )  # fmt: skip
    even = next(one for one in worlds if one.share == 0.5)
    theory = share_stddev(DISTANCE, 0.5, rows)
    run.claim(
        "share 0.5: posterior sd of p(y=1) over that by Fisher information", even.learned.error / theory, 1.0,
        error=1 / math.sqrt(2 * 2_000), numerical=0.05, source="closed form for many rows",
    )  # fmt: skip


def picture(worlds: list[World]) -> Any:
    """Errors on the left, estimated shares on the right."""
    import matplotlib.pyplot as plt

    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=[1.4, 1])
        places = [one.share for one in worlds]
        grid = torch.linspace(0.005, 0.995, 199).tolist()
        left.axhline(100 * bayes_error(DISTANCE), color=OTHER, label="p(y) of the old world, exact")
        left.plot(grid, [100 * bayes_error(DISTANCE, s) for s in grid], color=TRUE, label="p(y) known, exact")
        for name, (marker, colour, size, fill) in LOOK.items():
            values = [100 * one.wrong[name].value for one in worlds]
            left.plot(places, values, marker, color=colour, ms=size, mfc=fill or colour, mew=1.8, label=name)
        left.set(xlabel="share of class 1 in the new world", ylabel="wrong answers / %", ylim=(0, 21))
        left.set_title("Put in the new p(y), and the error falls")
        left.legend(ncols=3, loc="upper center", fontsize=9, columnspacing=1, handletextpad=0.4)
        right.plot([0, 1], [0, 1], color=TRUE, lw=1)
        error = [1.96 * one.learned.error for one in worlds]
        values = [one.learned.value for one in worlds]
        right.errorbar(places, values, error, fmt="s", color=ESTIMATED, ms=5, capsize=4, label=FOUND)
        values = [one.by_em for one in worlds]
        right.plot(places, values, "D", color=PALETTE[3], ms=10, mfc="none", mew=1.8, label=TOLD)
        right.set(xlabel="share of class 1 in the new world", ylabel="learned without labels")
        right.set_title("And it can be learned without labels")
        right.legend(loc="upper left")
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
