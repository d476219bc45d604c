"""Digits by story: which story of digits comes nearest to them, and at what price?

Every conditional story p(x | y) p(y), designed and deep, is fitted to the same 1,437 handwritten digits and
asked the same three questions about 360 others. Weigh: how many bits per pixel does p(x) need for them?
Invert: how often does p(y | x) name the digit? Generate: can a two-sample test tell x ~ p(x | y), the labels
those of the held-out digits, from the held-out digits themselves? The price is seconds of one core. What a
story refuses to answer stands in its row, with the reason.

Stories of whole grey levels 0 .. 16 give P(x). Stories of real numbers are fitted to x + u, u uniform on
[0, 1): their bits of x + u are an upper bound of the bits of P(x), so that all are on one scale.

Expected: stories that know how pixels hang together (a covariance, factors, a network) need fewer bits than
naive Bayes of their own kind, and invert better; a better p(x) need not be a better p(y | x), since a story
of 64 pixels spends next to nothing of its effort on the 3.3 bits of a label; stories without a likelihood
can only be judged by what they draw.

Source: Theis, van den Oord and Bethge (2016), A note on the evaluation of generative models, for why these
three answers may disagree, and for x + u; Ng and Jordan (2002) for inversion.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from experiments.compare import Comparison, Estimate, bits_per_dimension, two_sample
from experiments.compare.classification import accuracy, correct
from experiments.compare.result import mean_and_error, number
from experiments.digits_by_story import figures
from experiments.digits_by_story.fits import BAG, LABELLED, RECIPES, DigitsFit, DigitsTask, perform
from experiments.report import Run, launch
from experiments.training.pool import results
from experiments.truth.images.binomial_pixels import predictive_log_joint
from experiments.truth.images.digits import PIXELS, Digits, Images, load
from ppl_models.binomial_pixels import exact

ALONE = True  # has processes of its own, one for each core
DIGITS = 10
REAL = "real_digits"
WITHOUT = ("mmd_generator", "adversarial")  # have no likelihood, and say so
# A story that knows how pixels hang together, beside naive Bayes of the same kind of pixel.
RICHER = (
    ("gaussian_classes", "gaussian_naive_bayes"),
    ("factor_analysers", "gaussian_naive_bayes"),
    ("normalizing_flow", "gaussian_naive_bayes"),
    ("conditional_vae", "binomial_pixels"),
    ("autoregressive", "binomial_pixels"),
)
SMOKE = ("binomial_pixels", "gaussian_classes", "conditional_vae", "mmd_generator")
SLOWEST = ("energy_based", "semi_supervised_vae", "normalizing_flow", "diffusion", "autoregressive")


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what this experiment can be told."""
    parser.add_argument("--stories", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="processes of one thread each; 0: none but this one (default 2)",
    )


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    digits = few(load(seed=run.seed)) if run.smoke else load(seed=run.seed)
    found = all_results(run, digits)
    nearness = {name: apart(run, one.drawn, digits) for name, one in found.items() if one.drawn is not None}
    nearness[REAL] = apart(run, some_training(digits, run.seed), digits)
    the_picture(run, digits, found)
    the_table(run, digits, found, nearness)
    the_answer(run, digits, found, nearness)
    claims(run, digits, found, nearness)


def few(digits: Digits) -> Digits:
    """Keep as many of every digit as a smoke run can use, the digits in turn."""
    kept = []
    for (x, y), rows in zip(digits, (14, 3), strict=True):
        first = torch.stack([(y == digit).nonzero()[:rows, 0] for digit in range(DIGITS)])
        kept.append(Images(x[first.T.flatten()], y[first.T.flatten()]))
    return Digits(*kept)


def all_results(run: Run, digits: Digits) -> dict[str, DigitsFit]:
    """Fit and ask every story; the slowest first, so that no process waits at the end."""
    effort: dict[str, Any] = {"kept": 20, "steps": 4, "draws": 10} if run.smoke else {}
    stories = run.options.stories
    if run.smoke and stories == list(RECIPES):
        stories = list(SMOKE)
        run.text(f"A smoke run tries {', '.join(SMOKE)} only.")
    order = sorted(stories, key=lambda story: story not in SLOWEST)
    tasks = [DigitsTask(story, digits, run.seed, **effort) for story in order]
    done = {}
    for one in results(perform, tasks, 0 if run.smoke else run.options.workers):
        print(f"{run.seconds:6.0f} s  {one.story}: {one.seconds:.0f} s of one core {one.refused or ''}")
        done[one.story] = one
    return {story: done[story] for story in stories}


def apart(run: Run, drawn: Tensor, digits: Digits) -> Comparison:
    """Energy distance between images and held-out digits, both in whole grey levels."""
    return two_sample(drawn, digits.test.x, permutations=99 if run.smoke else 999, seed=run.seed)


def some_training(digits: Digits, seed: int) -> Tensor:
    """As many training digits as there are held-out ones, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    return digits.train.x[torch.randperm(len(digits.train.y), generator=generator)[: len(digits.test.y)]]


def the_picture(run: Run, digits: Digits, found: Mapping[str, DigitsFit]) -> None:
    """One image of every digit from every story."""
    run.section(
        "Side by side",
        "Every story is told which digit to make. Stories of real numbers are shown as whole grey levels: "
        "rounded down, which undoes the noise that was added, and cut off at 0 and 16.",
    )
    first = torch.stack([(digits.test.y == digit).nonzero()[0, 0] for digit in range(DIGITS)])
    shown = {REAL: digits.test.x[first]}
    run.figure(
        "side_by_side",
        figures.side_by_side(
            shown | {name: None if one.drawn is None else one.drawn[first] for name, one in found.items()}
        ),
        "Held-out digits (top), and the first image that each story draws for every label: none was picked.",
    )


def the_table(
    run: Run, digits: Digits, found: Mapping[str, DigitsFit], nearness: Mapping[str, Comparison]
) -> None:
    """Every story, every question."""
    run.section(
        "One table",
        f"Bits per dimension of {len(digits.test.y)} held-out digits: 17 grey levels at random take "
        f"{torch.tensor(17.0).log2():.2f}. The semi-supervised story saw {LABELLED * DIGITS} labels, all "
        "others every label. Multinomial naive Bayes tells how an image's ink is spread and not how much "
        "there is: its bits leave out the ink, it is given that of the held-out images, and more than 16 "
        "levels may fall on one pixel.",
    )
    judge = named_by_peer(digits)
    blank = {"bits per dimension": "", "which p(x)": "", "accuracy of p(y | x)": "", "seconds": ""}
    rows = [{"story": REAL} | blank | drawn_row(nearness[REAL], None)]
    for name, one in found.items():
        share = None if one.drawn is None else judge(one.drawn, digits.test.y)
        rows.append({"story": name} | answers_row(run, one, digits) | drawn_row(nearness.get(name), share))
    run.table(
        "stories", rows,
        "± standard errors over held-out rows. Energy: energy distance between generated images and held-out "
        "digits in grey levels; two samples of one law stay below its floor in 95 % of cases; p of the "
        "permutation test. Top row: training digits beside held-out digits. Drawn as asked: share of "
        "generated images that a support vector machine, fitted to the training digits, names as the digit "
        "asked for.",
    )  # fmt: skip
    run.table(
        "fits",
        [
            {
                "story": name, "fit": one.how, "certified": one.certified,
                "refused": refusals(one),
            }
            for name, one in found.items()
        ],
        "How each was fitted, what its certificate says (a single restart, so that few can be trusted: there "
        "is nothing to compare it with), and what it refused to answer and why.",
    )  # fmt: skip


def the_answer(
    run: Run, digits: Digits, found: Mapping[str, DigitsFit], nearness: Mapping[str, Comparison]
) -> None:
    """Say which story is nearest by which question, and where the three disagree."""
    bits = {name: bits_of(one).value for name, one in found.items() if one.log_p is not None}
    bits = {name: value for name, value in bits.items() if value >= 0 and RECIPES[name].kind != BAG}
    named = {name: accuracy(one.p, digits.test.y).value for name, one in found.items() if one.p is not None}
    near = {name: one.value for name, one in nearness.items() if name != REAL}
    passed = [name for name in near if (nearness[name].p_value or 0.0) > 0.05]
    run.text(
        f"Fewest bits: {_order(bits)}. Most digits named: {_order({k: -v for k, v in named.items()})}. "
        f"Nearest by draws: {_order(near)}. "
        f"Not told from held-out digits at 5 %: {', '.join(passed) or 'none'}."
    )


def _order(values: Mapping[str, float]) -> str:
    """The three best, smallest first."""
    return ", then ".join(sorted(values, key=lambda name: values[name])[:3]) or "none"


def answers_row(run: Run, one: DigitsFit, digits: Digits) -> dict[str, Any]:
    """Weigh and invert, or the reason why not."""
    row: dict[str, Any] = {"bits per dimension": "none", "which p(x)": "no likelihood: refused"}
    if one.log_p is not None:
        kind = RECIPES[one.story].kind
        bits = bits_of(one)
        if bits.value < 0:
            kind = f"{kind}; impossible, since P(x) is at most 1: its log Z is wrong"
        row = {"bits per dimension": str(bits), "which p(x)": kind}
        run.metric(f"bits per dimension, {one.story}", *bits)
    elif "fit" in one.refused or one.story not in WITHOUT:
        row["which p(x)"] = "failed: " + (one.refused.get("fit") or one.refused.get("weigh", ""))
    named = "refused"
    if one.p is not None:
        named = str(accuracy(one.p, digits.test.y))
        run.metric(f"accuracy of p(y | x), {one.story}", *accuracy(one.p, digits.test.y))
    return row | {"accuracy of p(y | x)": named, "seconds": round(one.seconds, 1)}


def refusals(one: DigitsFit) -> str:
    """What was refused and why, each reason once."""
    reasons = dict.fromkeys(one.refused.values())
    return "; ".join(
        f"{', '.join(asked for asked, why in one.refused.items() if why == reason)}: {reason}"
        for reason in reasons
    )


def bits_of(one: DigitsFit) -> Estimate:
    """Bits per dimension, and the standard error over rows and of log Z; infinite where a density is 0."""
    bits = bits_per_dimension(one.log_p, PIXELS, one.error)
    shared = one.shared / (PIXELS * torch.tensor(2.0).log().item())
    return Estimate(bits.value, (bits.error**2 + shared**2) ** 0.5)


def drawn_row(comparison: Comparison | None, share: Estimate | None) -> dict[str, Any]:
    """Generate: how near, and whether the label was obeyed."""
    if comparison is None:
        return {"energy": "none", "floor": "", "p": "", "drawn as asked": "none"}
    return {
        "energy": str(Estimate(comparison.value, comparison.error)),
        "floor": number(comparison.floor, 2),
        "p": number(comparison.p_value or 0.0, 2),
        "drawn as asked": "" if share is None else str(share),
    }


def named_by_peer(digits: Digits) -> Any:
    """Fit a classifier that is no story; return what gives its share of agreement with labels."""
    from sklearn.svm import SVC

    peer = SVC(gamma=0.001, C=10.0).fit(digits.train.x.numpy(), digits.train.y.numpy())

    def share(x: Tensor, y: Tensor) -> Estimate:
        return mean_and_error(torch.as_tensor(peer.predict(x.numpy()) == y.numpy()).double())

    return share


def claims(
    run: Run, digits: Digits, found: Mapping[str, DigitsFit], nearness: Mapping[str, Comparison]
) -> None:
    """Claim what was fixed before the first full run."""
    run.section("Claims", "All were fixed before the first full run.")
    run.claim(
        "training digits beside held-out digits: p of the two-sample test",
        nearness[REAL].p_value or 0.0, 0.01, relation="at least", source="both are of one law",
    )  # fmt: skip
    closed_form(run, digits, found.get("binomial_pixels"))
    for rich, plain in RICHER:
        pair = found.get(rich), found.get(plain)
        if pair[0] is None or pair[1] is None:
            continue
        saved = Estimate(-float("inf"), 0.0)  # a story that could not be weighed saves nothing
        if pair[0].log_p is not None and pair[1].log_p is not None:
            unit = PIXELS * torch.tensor(2.0).log()
            saved = mean_and_error((pair[0].log_p.double() - pair[1].log_p.double()) / unit)
        run.claim(
            f"bits per dimension that {rich} saves beside {plain}", saved.value, 0.0, error=saved.error,
            relation="at least", source="pixels of a digit are not independent",
        )  # fmt: skip
    silent = [name for name in WITHOUT if name in found]
    if silent:
        told = sum(not {"weigh", "invert"} - set(found[name].refused) for name in silent)
        run.claim(
            "generators without a likelihood that refuse to weigh and to invert", told, len(silent),
            source="their density is not known",
        )  # fmt: skip


def closed_form(run: Run, digits: Digits, one: DigitsFit | None) -> None:
    """Claim that the fitted story of binomial pixels answers as its closed form does."""
    if one is None or one.log_p is None or one.p is None:
        return
    known = predictive_log_joint(digits.test.x, exact({"x": digits.train.x, "y": digits.train.y}))
    change = mean_and_error(correct(one.p, digits.test.y) - correct(known.softmax(-1), digits.test.y))
    run.claim(
        "binomial_pixels: accuracy of the fit less that of the exact p(y | x, data)", change.value, 0.0,
        error=change.error, numerical=1 / len(digits.test.y), source="Beta-binomial, in closed form",
    )  # fmt: skip
    unit = PIXELS * torch.tensor(2.0).log()
    excess = mean_and_error((known.logsumexp(-1) - one.log_p) / unit)
    run.claim(
        "binomial_pixels: bits per dimension of the fit above those of the exact p(x | data)", excess.value,
        0.0, error=excess.error, numerical=0.01, source="Beta-binomial, in closed form",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
