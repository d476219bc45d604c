"""The part of ``bayes_inversion`` that lays what was estimated beside what is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from experiments.bayes_inversion import figures
from experiments.compare import two_sample
from experiments.compare.moments import MomentErrors, moment_errors
from experiments.compare.result import Estimate, mean_and_error
from experiments.report import Run
from experiments.truth.images.binomial_pixels import predictive_log_joint, predictive_sample
from experiments.truth.images.digits import Digits, Images

# An estimate further off than this is wrong, and the fit must say so itself.
TOLERANCE = {"mean": 0.1, "stddev": 0.1}  # exact sds; share of the exact sd

STORY, DIGITS, EXACT = (
    "held-out digits | fitted story",
    "held-out digits | training digits",
    "exact posterior's images | fitted story",
)


def estimated_against_exact(
    run: Run, digits: Digits, posterior: Any, truth: Mapping[str, Distribution], density: Tensor
) -> None:
    """Lay the estimated posterior of all 650 unknowns, and log p(x), beside the closed form."""
    trusted = posterior.certificate.trusted
    run.section(
        "Estimated against exact: the posterior",
        f"The fit says of itself: {'trusted' if trusted else 'not trusted'}. Tolerated are .1 exact sd "
        "in a mean and 10 % in a sd, beyond four Monte Carlo errors of the draws. Where a pixel is "
        "blank in every training image of a digit, the exact posterior of its ink is a Beta that leans "
        "on zero; a Gaussian of the logit cannot follow it and comes out too wide.",
    )
    x, y = digits.train
    blank = torch.stack([(x[y == digit] == 0).all(0) for digit in range(10)])
    ink, weights = (moment_errors(posterior.draws[site], truth[site]) for site in ("ink", "weights"))
    groups = {
        "ink, always blank": MomentErrors(*(e[blank] for e in ink)),
        "ink, other pixels": MomentErrors(*(e[~blank] for e in ink)),
        "weights": weights,
    }
    off = sum(is_off(errors) for errors in groups.values())
    run.claim(
        "unknowns and groups of unknowns off by more than .1 sd (mean) or 10 % (sd), in a fit that "
        "calls itself trusted",
        off if trusted else 0,
        0,
        source="the exact posterior, Dirichlet and Beta; off means beyond four Monte Carlo errors",
    )
    run.metric("unknowns and groups of unknowns off beyond tolerance", off)
    run.table(
        "posterior_errors",
        [error_row(run, name, errors) for name, errors in groups.items()],
        "Errors of posterior means in exact sds, and of posterior sds in % of the exact sd: averages, "
        "largest ones, and how many unknowns (and whether their average) are off.",
    )
    run.figure(
        "estimated_against_exact",
        figures.posterior_errors(posterior.draws["ink"], truth["ink"], ink, blank),
        "Errors of the posterior mean and sd of every ink (grey: tolerated), and two marginals "
        "beside the exact density.",
    )
    run.text(held_out_density(run, digits, density, truth))


def is_off(errors: MomentErrors) -> int:
    """Count the unknowns that are off; their average counts as one more."""
    average = errors.average(torch.ones_like(errors.mean, dtype=torch.bool))
    return int(errors.beyond(**TOLERANCE).sum()) + int(average.beyond(**TOLERANCE))


def error_row(run: Run, name: str, errors: MomentErrors) -> dict[str, str | int]:
    """Write one row of the table of errors; keep its numbers as metrics."""
    average = errors.average(torch.ones_like(errors.mean, dtype=torch.bool))
    row: dict[str, str | int] = {"group": name, "unknowns": errors.mean.numel()}
    for moment, unit, scale in (("mean", "exact sd", 1), ("stddev", "%", 100)):
        noise = f"{moment}_noise"
        values, noises = getattr(errors, moment).flatten(), getattr(errors, noise).flatten()
        top = int(values.abs().argmax())
        for what, value, error in (
            ("average", getattr(average, moment), getattr(average, noise)),
            ("largest", values[top], noises[top]),
        ):
            estimate = Estimate(scale * value.item(), scale * error.item())
            run.metric(f"{what} error of a posterior {moment}, {name}", *estimate, unit)
            row[f"{'mean' if moment == 'mean' else 'sd'}, {what}"] = str(estimate)
    row["off"] = is_off(errors)
    return row


def held_out_density(run: Run, digits: Digits, estimated: Tensor, truth: Mapping[str, Distribution]) -> str:
    """Compare log p(x) of held-out digits under both posteriors, in a sentence."""
    exact = predictive_log_joint(digits.test.x, truth).logsumexp(-1)
    below = mean_and_error(exact - estimated)
    run.metric("log p(x) of a held-out digit, exact", *mean_and_error(exact), unit="nats")
    run.metric("log p(x) of a held-out digit, exact less estimated", *below, unit="nats")
    return (
        f"A held-out digit has log p(x) {mean_and_error(exact)} nats on average under the exact "
        f"posterior; exact less estimated is {below} nats."
    )


def estimated_against_true(
    run: Run, digits: Digits, posterior: Any, truth: Mapping[str, Distribution]
) -> None:
    """Test images of the fitted story against held-out digits; they must differ."""
    run.section(
        "Estimated against true: the distribution",
        "Are images of the fitted story like digits? The energy test compares two sets of images; "
        "digits against digits, and the fitted story against the same story with its exact "
        "posterior, show what it says of one law.",
    )
    rows, train = len(digits.test.y), digits.train.x
    story = posterior.sample(["x", "y"], args=(rows,), seed=run.seed + 3)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(run.seed))
    pairs = {
        STORY: (digits.test.x, story["x"]),
        DIGITS: (digits.test.x, train[order[:rows]]),
        EXACT: (predictive_sample(truth, rows, seed=run.seed).x, story["x"]),
    }
    tests = {name: two_sample(*pair, seed=run.seed) for name, pair in pairs.items()}
    claim_tests(run, {name: test.p_value or 0.0 for name, test in tests.items()})
    for name, test in tests.items():
        run.metric(f"energy distance, {name}", test.value, test.error, "grey levels")
    run.table(
        "two_sample",
        [{"samples": name, **test.row()} for name, test in tests.items()],
        f"Energy distance of {rows} against {rows} images, in grey levels. Two samples of one law "
        "stay below the floor in 95 % of cases; what is detectable is seen 4 times in 5.",
    )
    run.text(
        "Naive Bayes is not the truth. Its means are right, but given the digit its pixels are "
        "independent and those of real strokes are not: styles of writing move many pixels "
        "together. So its images vary too little, and it counts correlated pixels as independent "
        "evidence, which makes its p(y | x) too sure."
    )
    run.figure(
        "estimated_against_true",
        figures.distributions(digits.test, Images(story["x"], story["y"])),
        "Held-out digits and as many images of the fitted story. Every point is a pixel of a digit "
        "(means, sds), a pair of pixels (correlations) or an image (principal components).",
    )


def claim_tests(run: Run, p: Mapping[str, float]) -> None:
    """Claim what the tests must show; with 999 relabellings a p-value is .001 or more."""
    run.claim(
        "held-out digits against the fitted story are told apart: p",
        p[STORY],
        0.001,
        source="naive Bayes is not the truth",
        relation="at most",
    )
    for name, source in (
        (DIGITS, "two samples of one law; fails by chance once in 1,000"),
        (EXACT, "one story, estimated and exact posterior; fails by chance once in 1,000"),
    ):
        run.claim(f"{name}: not told apart, p", p[name], 0.002, source=source, relation="at least")
