"""Bayes inversion: what can a story of how digits are made do that a classifier cannot?

The story is naive Bayes on grey levels, p(x | y) p(y), written by hand and fitted to 1,437 of
scikit-learn's handwritten digits. One fit generates images of a digit, inverts to p(y | x), knows
log p(x), and fills in what is missing. Beside it stands multinomial logistic regression, which
knows p(y | x) and nothing else.

Expected: with so many images the classifier names digits better, and naive Bayes, which counts
correlated pixels as independent evidence, is too sure of itself; only the story can do the rest.
Its posterior is known in closed form, so the estimate is laid beside it. And the story is wrong:
a two-sample test must tell its images from held-out digits.

Source: Ng and Jordan (2002), On discriminative vs. generative classifiers; Domingos and Pazzani
(1997), On the optimality of the simple Bayesian classifier under zero-one loss.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from experiments.bayes_inversion import figures
from experiments.bayes_inversion.peer import discriminative_peer, peer_half_seen, peer_probabilities
from experiments.bayes_inversion.truth import estimated_against_exact, estimated_against_true
from experiments.compare.classification import (
    accuracy,
    calibration_error,
    correct,
    log_loss,
    nats,
    reliability,
    scores,
)
from experiments.compare.detection import auc
from experiments.compare.result import Estimate, mean_and_error
from experiments.report import Run, launch
from experiments.report.launch import positive
from experiments.truth.images.binomial_pixels import log_joint, predictive_log_joint
from experiments.truth.images.digits import LEVELS, Digits, Images, few, load, lower_half, no_digits
from inference import fit, prior
from ppl_models.binomial_pixels import binomial_pixels, exact

JOINT = (
    "p(weights) p(ink) ∏ᵢ p(yᵢ | weights) ∏ⱼ p(xᵢⱼ | yᵢ, ink): weights ~ Dirichlet(1, …, 1), "
    "ink[y, j] ~ Beta(1, 1), yᵢ ~ Categorical(weights), xᵢⱼ ~ Binomial(16, ink[yᵢ, j])"
)
DIGITS = 10
NO_DIGITS = 150  # images of every kind that is no digit
STORY, PEER = "story (naive Bayes)", "logistic regression"
HELD_OUT, LOG_P, SURE = "held-out digits", "log p(x) of the story", "highest p(y | x) of the peer"


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what this experiment can be told."""
    parser.add_argument(
        "--draws", type=positive, default=250, help="posterior draws per restart (default 250)"
    )
    parser.add_argument(
        "--restarts", type=positive, default=4, help="replicates of the whole fit (default 4)"
    )


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    digits = few(load(seed=run.seed), 25, 8) if run.smoke else load(seed=run.seed)
    data = {"x": digits.train.x, "y": digits.train.y}
    run.story(binomial_pixels, JOINT)
    posterior = fit(binomial_pixels, data, seed=run.seed, **effort(run))
    truth = exact(data)
    peer = discriminative_peer(digits.train, run.seed)

    the_picture(run, digits, posterior)
    generation(run, digits, posterior)
    inversion(run, digits, posterior, truth, peer)
    density = no_digit_is_likely(run, digits, posterior, peer)
    half_seen(run, digits, posterior, peer)
    estimated_against_exact(run, digits, posterior, truth, density)
    estimated_against_true(run, digits, posterior, truth)
    run.posterior("digits", posterior)


def effort(run: Run) -> dict[str, Any]:
    """Return what the fit may spend."""
    if run.smoke:
        return {"draws": 25, "restarts": 2}
    return {"draws": run.options.draws, "restarts": run.options.restarts}


def the_picture(run: Run, digits: Digits, posterior: Any) -> None:
    """Data, estimated distribution, falling loss, generated images: the whole idea, executed."""
    run.section(
        "The picture",
        "A story p(x | y) p(y) with unknown ink and class weights is fitted to images by making "
        "the negative evidence lower bound fall. What comes back is a distribution, and "
        "a distribution can be drawn from.",
    )
    y = torch.arange(DIGITS).repeat_interleave(7)
    drawn = posterior.sample("x", given={"y": y}, seed=run.seed)
    ink = posterior.draws["ink"].flatten(0, 1).mean(0)
    run.figure(
        "the_picture",
        figures.the_picture(by_digit(digits.train, 7), ink, posterior.history, drawn),
        "From left to right: data; the estimated distribution (mean ink of each pixel, one image "
        "per digit); the loss, falling; images x′ ~ p(x | y) from the fitted story.",
    )


def by_digit(images: Images, rows: int) -> Tensor:
    """Return the first images of every digit, (10 * rows, 64), sorted by digit."""
    return torch.cat([images.x[images.y == digit][:rows] for digit in range(DIGITS)])


def generation(run: Run, digits: Digits, posterior: Any) -> None:
    """Draw x' ~ p(x | y) for every digit."""
    run.section(
        "Generate: y is given, x is asked for",
        "Every image uses a posterior draw of its own. Pixels are independent given the digit, so "
        "the strokes are right on average and ragged in each image: the price of the naive story.",
    )
    y = torch.arange(DIGITS).repeat_interleave(8)
    drawn = posterior.sample("x", given={"y": y}, seed=run.seed + 1)
    run.figure(
        "generated",
        figures.generated(by_digit(digits.train, 8), drawn),
        "Eight training images of each digit, and eight drawn from p(x | y).",
    )


def inversion(run: Run, digits: Digits, posterior: Any, truth: Mapping[str, Distribution], peer: Any) -> None:
    """Ask the same fit for p(y | x), and a classifier that knows nothing else."""
    run.section(
        "Invert: x is given, y is asked for",
        "Bayes inversion is p(y | x) = p(x | y) p(y) / p(x), averaged over the posterior. The peer "
        f"is multinomial logistic regression with C = {peer.best_params_['C']:g}, tuned by "
        "cross-validated log loss on the training images.",
    )
    x, y = digits.test
    answers = {
        STORY: posterior.probabilities("y", given={"x": x}),
        "story, exact posterior": predictive_log_joint(x, truth).softmax(-1),
        "story, plugged in": plugged_in(run, digits, truth),
        PEER: peer_probabilities(peer, x),
    }
    claim_closed_form(run, "p(y | x)", answers[STORY], own_log_joint(posterior, x).softmax(-1))
    run.table(
        "inversion",
        [{"model": name, **scores(p, y)} for name, p in answers.items()],
        f"{len(y)} held-out digits, ± standard error. Right probabilities stay below the floor of "
        "the calibration error (ten bins) in 95 % of cases.",
    )
    run.text(who_wins(run, answers[STORY], answers[PEER], y))
    run.figure(
        "reliability",
        figures.reliability({name: reliability(answers[name], y) for name in (STORY, PEER)}),
        "How often the most probable digit is right, against its probability, with 95 % intervals. "
        "On the diagonal a probability means what it says.",
    )


def plugged_in(run: Run, digits: Digits, truth: Mapping[str, Distribution]) -> Tensor:
    """Condition the unfitted story on the exact posterior means: scikit-learn's multinomial."""
    from sklearn.naive_bayes import MultinomialNB

    means = {site: law.mean for site, law in truth.items()}
    given = {"x": digits.test.x, **means}
    ours: Tensor = prior(binomial_pixels).probabilities("y", given=given)
    train, test = (torch.cat([x, LEVELS - x], -1).numpy() for x in (digits.train.x, digits.test.x))
    theirs = MultinomialNB(alpha=1, class_prior=means["weights"].numpy())
    theirs = theirs.fit(train, digits.train.y.numpy()).predict_proba(test)
    run.claim(
        "plug-in p(y | x) at the exact posterior means, largest difference",
        (ours - torch.as_tensor(theirs)).abs().max().item(),
        0.0,
        numerical=1e-9,
        source="scikit-learn, MultinomialNB(alpha=1) on [x, 16 - x], same class weights",
    )
    return ours


def own_log_joint(posterior: Any, x: Tensor, seen: Tensor | None = None) -> Tensor:
    """Log E[p(x, y | θ)] over the posterior's own draws of θ, in closed form: (rows, 10)."""
    weights, ink = (posterior.draws[site].flatten(0, 1) for site in ("weights", "ink"))
    return log_joint(x, weights, ink, seen).logsumexp(0) - math.log(len(ink))


def claim_closed_form(run: Run, what: str, answer: Tensor, known: Tensor) -> None:
    """Claim that an answer is the closed form given the posterior's own draws."""
    run.claim(
        f"{what} given the posterior's own draws, largest difference",
        (answer - known).abs().max().item(),
        0.0,
        numerical=1e-6,
        source="closed form: log p(x, y | weights, ink), averaged over the draws",
    )


def who_wins(run: Run, story: Tensor, peer: Tensor, y: Tensor) -> str:
    """Compare two classifiers row by row, so that the error is that of the difference."""
    more = mean_and_error(correct(peer, y) - correct(story, y))
    less = mean_and_error(nats(story, y) - nats(peer, y))
    run.metric("accuracy, peer minus story", *more)
    run.metric("log loss, story minus peer", *less, unit="nats")
    sentences = [verdict("Accuracy", more, ""), verdict("Log loss", less, " nats")]
    for name, p in ((STORY, story), (PEER, peer)):
        calibration = calibration_error(p, y)
        run.metric(f"accuracy, {name}", *accuracy(p, y))
        run.metric(f"log loss, {name}", *log_loss(p, y), unit="nats")
        run.metric(f"calibration error, {name}", calibration.value, calibration.error)
        wrong = calibration.value > calibration.floor
        sentences.append(
            f"The probabilities of {name} {'are too far off to be' if wrong else 'may be'} right."
        )
    return " ".join(sentences)


def verdict(score: str, difference: Estimate, unit: str) -> str:
    """Say who is ahead (positive: the peer), if the difference exceeds two standard errors."""
    by = f"{Estimate(abs(difference.value), difference.error)}{unit} on the same rows."
    if abs(difference.value) <= 2 * difference.error:
        return f"{score}: neither is ahead, the difference is {by}"
    return f"{score}: {PEER if difference.value > 0 else STORY} wins by {by}"


def no_digit_is_likely(run: Run, digits: Digits, posterior: Any, peer: Any) -> Tensor:
    """Flag images that are no digits by log p(x), the label summed out; return it for digits."""
    run.section(
        "Only generative: log p(x) knows what is no digit",
        "A classifier must choose one of ten digits, whatever it is shown. The story also says how "
        "probable the image itself is. The peer has no p(x), so the probability of its favourite "
        "digit stands in.",
    )
    images = {HELD_OUT: digits.test.x, **no_digits(digits.test.x[:NO_DIGITS], seed=run.seed)}
    # Of an image that is none the Monte Carlo error is large, and no matter: it is hundreds of nats off.
    density = {name: posterior.log_prob({"x": x}, stderr=True)[0] for name, x in images.items()}
    sure = {name: peer_probabilities(peer, x).max(-1).values for name, x in images.items()}
    own = own_log_joint(posterior, digits.test.x).logsumexp(-1)
    claim_closed_form(run, "log p(x)", density[HELD_OUT], own)
    flags = {
        name: {LOG_P: auc(density[HELD_OUT], density[name]), SURE: auc(sure[HELD_OUT], sure[name])}
        for name in images
        if name != HELD_OUT
    }
    for name, areas in flags.items():
        for score, area in areas.items():
            run.metric(f"AUC, {score}, {name}", *area)
    run.figure(
        "no_digits",
        figures.surprise(images, density),
        "Surprise, -log p(x), of held-out digits and of images that are none.",
    )
    run.table(
        "no_digits",
        [{"images": name, **{k: str(v) for k, v in areas.items()}} for name, areas in flags.items()],
        "AUC: the probability that a held-out digit scores higher than an image that is none; .5 "
        "is chance, 1 is perfect, below .5 the images look more like digits than digits do.",
    )
    run.text(fooled(flags))
    return density[HELD_OUT]


def fooled(flags: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Say what log p(x) does not flag."""
    missed = [name for name, areas in flags.items() if areas[LOG_P].value < 0.6]
    if not missed:
        return "No kind of image fooled log p(x)."
    return (
        f"What fools log p(x): {', '.join(missed)}. To a story of independent pixels the average "
        "of two digits is as probable as a digit, or more so: a high density is no proof of being "
        "typical, and a better story is needed to flag these."
    )


def half_seen(run: Run, digits: Digits, posterior: Any, peer: Any) -> None:
    """Hide the lower half of every held-out image: classify it, and complete it."""
    run.section(
        "Only generative: half of the image is missing",
        "A masked pixel is one more unknown, and the story sums it out: nothing is retrained and "
        "nothing imputed. The peer needs a value for every pixel, or another training run for this "
        "very mask, which is shown for fairness.",
    )
    (x, y), hidden = digits.test, lower_half()
    masked = np.ma.masked_array(x.numpy(), mask=hidden.expand_as(x).numpy())
    answer = posterior.probabilities("y", given={"x": masked})
    known = own_log_joint(posterior, x, seen=~hidden).softmax(-1)
    claim_closed_form(run, "p(y | upper half)", answer, known)
    answers = {"story, the same fit": answer, **peer_half_seen(digits, peer, hidden, run.seed)}
    for name, p in answers.items():
        run.metric(f"accuracy, half of the pixels, {name}", *accuracy(p, y))
    run.table(
        "half_seen",
        [{"model": name, **scores(p, y)} for name, p in answers.items()],
        f"The lower half of {len(y)} held-out digits is hidden.",
    )
    rows = torch.stack([(y == digit).nonzero()[0, 0] for digit in range(DIGITS)])
    completed = posterior.sample("x", given={"x": masked[rows]}, num_samples=5, seed=run.seed + 2)
    run.figure(
        "half_seen",
        figures.half_seen(x[rows], hidden, completed, answer[rows]),
        "What is seen, five completions x′ ~ p(x | upper half), the truth, and p(y | upper half).",
    )


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
