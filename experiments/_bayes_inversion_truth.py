"""The part of ``bayes_inversion`` that lays what was estimated beside what is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributions import Distribution

from experiments import _bayes_inversion_figures as figures
from experiments.compare import two_sample
from experiments.compare.moments import MomentErrors, moment_errors
from experiments.compare.result import Estimate, mean_and_error
from experiments.report import Run
from experiments.truth.binomial_pixels import predictive_log_joint, predictive_sample
from experiments.truth.digits import Digits, Images

# An estimate further off than this is wrong, and the fit must say so itself.
TOLERANCE = {"mean": 0.1, "stddev": 0.1}  # exact sds; share of the exact sd

STORY, DIGITS, EXACT = (
    "held-out digits | fitted story",
    "held-out digits | training digits",
    "exact posterior's images | fitted story",
)


def estimated_against_exact(
    run: Run, digits: Digits, posterior: Any, truth: Mapping[str, Distribution]
) -> None:
    """Lay the estimated posterior of all 650 unknowns beside the closed form."""
    run.section("Estimated against exact: the posterior")
    errors = {site: moment_errors(posterior.draws[site], law) for site, law in truth.items()}
    x, y = digits.train
    blank = torch.stack([(x[y == digit] == 0).all(0) for digit in range(10)])
    groups = {"always blank": errors["ink"].average(blank), "inked": errors["ink"].average(~blank)}
    every = [*errors.values(), *groups.values()]
    off = sum(int(e.beyond(**TOLERANCE).sum()) for e in every)
    trusted = posterior.certificate.trusted
    run.claim(
        "unknowns and groups of unknowns off by more than .1 sd (mean) or 10 % (sd), in a fit that "
        "calls itself trusted",
        off if trusted else 0,
        0,
        source="the exact posterior, Dirichlet and Beta; off means beyond four Monte Carlo errors",
    )
    run.metric("unknowns and groups of unknowns off beyond tolerance", off)
    run.text(
        f"The fit says of itself: {'trusted' if trusted else 'not trusted'}. Tolerated are .1 exact sd "
        "in the mean and 10 % in the sd, beyond four Monte Carlo errors of the draws. "
        f"{off} of 650 unknowns and 2 groups of pixels are off. {record_errors(run, errors.values())} "
        f"{record_groups(run, groups)} {int(blank.sum())} pixels are blank in every training image of "
        "a digit: there the exact posterior is a Beta that leans on zero, which no Gaussian of the "
        f"logit can follow. {held_out_density(run, digits, posterior, truth)}"
    )
    run.figure(
        "estimated_against_exact",
        figures.posterior_errors(posterior.draws["ink"], truth["ink"], errors["ink"], blank),
        "Errors of the posterior mean and sd of every ink (grey: tolerated), and two marginals "
        "beside the exact density.",
    )


def record_errors(run: Run, errors: Any) -> str:
    """Keep the largest errors; say them in a sentence."""
    largest = []
    for moment, unit, scale in (("mean", "exact sd", 1), ("stddev", "%", 100)):
        values = torch.cat([getattr(e, moment).flatten() for e in errors]).abs()
        noise = torch.cat([getattr(e, f"{moment}_noise").flatten() for e in errors])
        top = int(values.argmax())
        largest.append(Estimate(scale * values[top].item(), scale * noise[top].item()))
        run.metric(f"largest error of a posterior {moment}", *largest[-1], unit)
    return f"The largest errors are {largest[0]} exact sd and {largest[1]} % of an exact sd."


def record_groups(run: Run, groups: Mapping[str, MomentErrors]) -> str:
    """Keep the average errors of groups of pixels; say them in a sentence."""
    words = []
    for name, e in groups.items():
        mean = Estimate(e.mean.item(), e.mean_noise.item())
        stddev = Estimate(100 * e.stddev.item(), 100 * e.stddev_noise.item())
        run.metric(f"average error of a posterior mean, {name}", *mean, "exact sd")
        run.metric(f"average error of a posterior sd, {name}", *stddev, "%")
        words.append(f"{mean} exact sd and {stddev} % of an exact sd where pixels are {name}")
    return f"On average the errors are {' and '.join(words)}."


def held_out_density(run: Run, digits: Digits, posterior: Any, truth: Mapping[str, Distribution]) -> str:
    """Compare log p(x) of held-out digits under both posteriors, in a sentence."""
    exact = predictive_log_joint(digits.test.x, truth).logsumexp(-1)
    estimated, noise = posterior.log_prob({"x": digits.test.x}, stderr=True)
    below = mean_and_error(exact - estimated)
    run.metric("log p(x) of a held-out digit, exact", *mean_and_error(exact), unit="nats")
    run.metric("largest Monte Carlo error of a log p(x)", noise.max().item(), unit="nats")
    run.metric("log p(x) of a held-out digit, exact less estimated", *below, unit="nats")
    return (
        f"A held-out digit has log p(x) {mean_and_error(exact)} nats on average under the exact "
        f"posterior; exact less estimated is {below} nats. An average over finitely many draws "
        "misses the rare ones that explain ink where it was never seen, which lowers the estimate."
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
