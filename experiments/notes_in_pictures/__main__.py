"""The notes in pictures: what does it mean that probability is part of the modelling?

Six pictures, each drawn from a real fit beside a law that is known: one answer against many; Bayes' rule both
ways, and where the way back breaks; data as draws of an unknown law; the estimated law and its loss;
generation given y; the map from a simple law pi to g(pi).

Expected: a classifier gives one label and a story many images; a story of p(x | y) p(y) inverts to the exact
logistic p(y | x), while one p(y | x) belongs to any p(x), so that the same rule errs .159 of the time under
one and .087 under another; the loss of an estimated law falls to the entropy of the true one and never below,
and what is left is the Kullback-Leibler divergence; a map that is right leaves 1 - exp(-1/2) of the rows
within one standard deviation of its noise.

Source: Efron (1975) for the two Gaussians; Cover and Thomas (2006), Elements of Information Theory, for the
loss (cross entropy = entropy + divergence); Durkan, Bekasov, Murray and Papamakarios (2019), Neural spline
flows, for the map; scikit-learn's handwritten digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.compare import divergence
from experiments.compare.result import mean_and_error
from experiments.notes_in_pictures import figures
from experiments.notes_in_pictures.figures import Picture
from experiments.report import Run, launch
from experiments.training.optimizers import one_cycle
from experiments.truth.densities import density
from experiments.truth.images.digits import LEVELS, few, load
from experiments.truth.law import Law, grid
from experiments.truth.simulators import two_gaussians
from inference import fit
from ppl_models.conditional_vae import conditional_vae
from ppl_models.linear_discriminant import linear_discriminant
from ppl_models.normalizing_flow import normalizing_flow

JOINT = (
    "∏ᵢ Normal(g⁻¹(xᵢ); 0, I) |det dg⁻¹/dxᵢ|: xᵢ = g(zᵢ), zᵢ ~ Normal(0, I), g a network that can be undone"
)
DIGIT = 2  # the label of the first picture
DISTANCE = 2.0  # of the two Gaussians, in standard deviations
WIDE = 4.0  # half the width of the even p(x) that shares p(y | x) with them
ROWS, FRESH = 5_000, 10_000  # rows to fit a flow to; rows to judge by
STEPS = (20, 150, 1_200)  # after which the estimated law is shown
RATE = 0.005  # the highest rate of Adam
# Stated beforehand: nats that the flow may miss the law by, and shares of rows.
NATS, MAPPED, NAMED, SHARE = 0.05, 0.02, 0.05, 0.01


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(normalizing_flow, JOINT)
    moons = density("two_moons")
    train = moons.sample_labelled(300 if run.smoke else ROWS, run.seed).x
    flows = {steps: estimated(run, train, steps) for steps in ((4,) if run.smoke else STEPS)}
    pictures = [
        one_answer_against_many(run),
        both_ways(run),
        draws_of_an_unknown_law(run, moons, train),
        the_loss(run, moons, train, flows),
        given_y(run),
        the_map(run, moons, flows[max(flows)]),
    ]
    run.figure(
        "six_pictures",
        figures.sheet(pictures),
        "The six pictures of the notes, each from a real fit (blue) beside what is true (black).",
    )
    for picture in pictures:
        run.section(picture.title, picture.text)
        run.figure(picture.name, figures.single(picture), picture.caption)


def one_answer_against_many(run: Run) -> Picture:
    """A classifier names an image; a story of p(x | y) makes as many images of a name as one likes."""
    from sklearn.linear_model import LogisticRegression

    digits = few(load(run.seed), 15, 4) if run.smoke else load(run.seed)
    (x, y), held_out = digits.train, digits.test
    peer = LogisticRegression(C=0.1, max_iter=2_000).fit(x.numpy() / LEVELS, y.numpy())
    story = trained(partial(conditional_vae, hidden=96), {"x": x, "y": y}, 600, run)
    asked = torch.arange(10).repeat_interleave(24 if run.smoke else 100)
    drawn = story.sample("x", given={"y": asked}, seed=run.seed)
    named = mean_and_error(correct(peer.predict(drawn.numpy() / LEVELS), asked))
    real = mean_and_error(correct(peer.predict(held_out.x.numpy() / LEVELS), held_out.y))
    run.claim(
        "share of drawn digits that a classifier names as was asked",
        named.value, real.value, error=math.hypot(named.error, real.error), numerical=NAMED,
        relation="at least", source="the same classifier on held-out digits",
    )  # fmt: skip
    counted = torch.bincount(y, minlength=10) / len(y)
    apart = (story.story.weights.detach() - counted).abs().max().item()
    run.claim(
        "p(y) of the story, largest distance from the shares counted", apart, 0.0, numerical=SHARE,
        source="the maximum of the likelihood in closed form",
    )  # fmt: skip
    shown = held_out.x[held_out.y == DIGIT][0]
    answer = torch.as_tensor(peer.predict_proba(shown[None].numpy() / LEVELS)[0])
    return Picture(
        "one_answer_against_many",
        "One answer against many",
        "A discriminative model goes from an image to its label, and there is one. A generative model goes "
        "from the label to images, and there are as many as one likes, no two alike.",
        f"Left: a held-out digit, and a classifier's p(y | x). Right: images x′ ~ p(x | y = {DIGIT}) of a "
        "conditional variational autoencoder; none was picked.",
        partial(figures.one_answer, shown, answer, drawn[asked == DIGIT][:24], DIGIT),
    )


def both_ways(run: Run) -> Picture:
    """Bayes' rule turns p(x | y) p(y) into p(y | x); p(y | x) alone fits any p(x)."""
    law = two_gaussians.law(DISTANCE)
    x, y = law.sample_labelled(200 if run.smoke else 2_000, run.seed)
    discriminant = partial(linear_discriminant, classes=2, features=1)
    story = fit(discriminant, {"x": x, "y": y}, draws=50, seed=run.seed)
    fresh = law.sample_labelled(500 if run.smoke else FRESH, run.seed + 1)
    generator = torch.Generator().manual_seed(run.seed)
    even = WIDE * (2 * torch.rand(fresh.x.shape, generator=generator, dtype=torch.float64) - 1)
    labels = torch.bernoulli(torch.sigmoid(DISTANCE * even[:, 0]), generator=generator).long()
    across = torch.linspace(-WIDE, WIDE, 401, dtype=torch.float64)[:, None]
    # One question for all rows: a story is traced for every shape that it is asked about.
    answers = story.probabilities("y", given={"x": torch.cat([fresh.x, even, across])})
    here, there, inverted = answers.split([len(fresh.x), len(even), len(across)])
    # A boundary that is off by a little costs this much on average (Efron 1975).
    excess = 4 * two_gaussians.story_excess(DISTANCE, 1) / len(x)
    for text, wrong, known, source in (
        ("two Gaussians: error of the inverted story", 1 - correct(here.argmax(-1), fresh.y),
         two_gaussians.bayes_error(DISTANCE), "Phi(-1)"),
        ("same p(y | x), x even on [-4, 4]: error of the same rule", 1 - correct(there.argmax(-1), labels),
         even_error(), "the integral of min(p, 1 - p) in closed form"),
    ):  # fmt: skip
        share = mean_and_error(wrong)
        run.claim(text, share.value, known, error=share.error, numerical=excess, source=source)
    halves = torch.arange(2).repeat_interleave(len(across))
    given = story.log_prob({"x": across.repeat(2, 1)}, given={"y": halves}).exp().chunk(2)
    return Picture(
        "both_ways",
        "Bayes both ways, and where the way back breaks",
        "Bayes' rule leads from p(x | y) p(y) to p(y | x). Nothing leads back: every p(x) goes with the same "
        "p(y | x), and each gives another p(x | y).",
        "Left: p(x | y) p(y) of the fitted story. Middle: what Bayes' rule makes of it, on the exact "
        "logistic curve. Right: three p(x), split between y = 0 and y = 1 by that one curve.",
        partial(
            figures.both_ways, across[:, 0], given, inverted[:, 1], torch.sigmoid(DISTANCE * across[:, 0])
        ),
    )


def even_error() -> float:
    """Integral of 1 / (1 + exp(d |x|)) over [-a, a], by 2 a."""
    top = DISTANCE * WIDE
    return (math.log(2) - math.log1p(math.exp(-top))) / top


def draws_of_an_unknown_law(run: Run, law: Law, train: Tensor) -> Picture:
    """What one has are rows; what made them is a law that nobody sees."""
    fresh = law.sample_labelled(500 if run.smoke else FRESH, run.seed + 1).x
    surprise = mean_and_error(-law.log_prob(fresh))
    run.claim(
        "mean surprise -log p(x) of draws, nats", surprise.value, law.entropy().item(), error=surprise.error,
        numerical=1e-6, source="the entropy, by a grid",
    )  # fmt: skip
    return Picture(
        "draws_of_an_unknown_law",
        "Data are draws of an unknown law",
        "Rows are all that one has. That they come from a law, p(x), is where statistics begins.",
        "Left: three hundred rows. Right: the law that made them, which here is known, and outside a "
        "laboratory never is.",
        partial(figures.draws_of_a_law, train[:300], image(run, law, law.log_prob), law.bounds),
    )


def estimated(run: Run, train: Tensor, steps: int) -> Any:
    """Stop the training of one flow after so many of its steps: equal seeds take the same path."""
    flow = partial(normalizing_flow, spread=float(train.std(0).mean()))
    return trained(flow, {"x": train}, steps, run, path=STEPS[-1])


def trained(story: Any, data: dict[str, Tensor], steps: int, run: Run, path: int | None = None) -> Any:
    """Fit by Adam, whose rate climbs and then falls to nothing over ``path`` steps."""
    steps = min(steps, 4) if run.smoke else steps
    return fit(
        story, data, optim=one_cycle(RATE, (path or steps) + 10), steps=steps,
        batch_size=min(256, len(data["x"])), restarts=1, draws=1, seed=run.seed, progress=False,
    )  # fmt: skip


def the_loss(run: Run, law: Law, train: Tensor, flows: Mapping[int, Any]) -> Picture:
    """The loss falls towards the entropy of the truth; what is left is the divergence."""
    fresh = law.sample_labelled(500 if run.smoke else FRESH, run.seed + 2).x
    trained_longest = flows[max(flows)]
    last = log_prob(trained_longest)
    gap = divergence(law, last, num_samples=500 if run.smoke else FRESH, seed=run.seed)
    loss = mean_and_error(-last(fresh))
    run.claim(
        "KL(true || estimated), nats", gap.value, NATS, error=gap.error, relation="at most",
        source="stated beforehand",
    )  # fmt: skip
    run.claim(
        "loss on new rows less the entropy, nats", loss.value - law.entropy().item(), gap.value,
        error=math.hypot(loss.error, gap.error), source="cross entropy = entropy + KL, on other rows",
    )  # fmt: skip
    curve = [(step, -elbo / len(train)) for _, step, elbo in trained_longest.history]
    images = {f"{step} steps": image(run, law, log_prob(q)) for step, q in flows.items()}
    return Picture(
        "the_loss",
        "The estimated law, and its loss",
        "Fitting makes the mean of -log q(x) fall. It cannot fall below the entropy of the law itself, and "
        "what is left is the Kullback-Leibler divergence of the estimated law from the true one.",
        f"Top: a normalizing flow's density after {', '.join(map(str, flows))} steps. Below: its loss on the "
        f"rows of each step, and the floor. KL at the end: {gap.value:.3f} ± {gap.error:.3f} nats.",
        partial(figures.the_loss, images, image(run, law, law.log_prob), curve, law),
    )


def image(run: Run, law: Law, log_prob: Callable[[Tensor], Tensor]) -> Tensor:
    """A density on the law's square: (cells, cells), the second coordinate upwards."""
    cells = 24 if run.smoke else 128
    points, _ = grid(law.bounds, cells)
    return log_prob(points).double().exp().reshape(cells, cells).T


def given_y(run: Run) -> Picture:
    """Draw x for every label, beside what the label really makes."""
    law = density("pinwheel")
    train = law.sample_labelled(300 if run.smoke else ROWS, run.seed)
    flow = partial(normalizing_flow, classes=law.classes, spread=float(train.x.std(0).mean()))
    story = trained(flow, train._asdict(), 800, run)
    real = law.sample_labelled(500 if run.smoke else ROWS, run.seed + 3)
    drawn = story.sample("x", given={"y": real.y}, seed=run.seed).double()
    right_real = mean_and_error(correct(law.probabilities(real.x).argmax(-1), real.y))
    right_drawn = mean_and_error(correct(law.probabilities(drawn).argmax(-1), real.y))
    run.claim(
        "pinwheel: share of x′ ~ p(x | y) that Bayes' rule under the true law gives back to y",
        right_drawn.value, right_real.value, error=math.hypot(right_real.error, right_drawn.error),
        numerical=MAPPED, source="the same of the law's own draws",
    )  # fmt: skip
    return Picture(
        "given_y",
        "Generation: y is given, x is asked for",
        "One fit knows every p(x | y): name the label, and draw.",
        "A pinwheel of five labels, one colour each. Left: draws of the law itself. Right: x′ ~ p(x | y) of "
        "a normalizing flow fitted to other draws of it.",
        partial(figures.given_y, real, drawn),
    )


def the_map(run: Run, law: Law, flow: Any) -> Picture:
    """A simple law, and what the map makes of it."""
    g = flow.story.map
    fresh = law.sample_labelled(500 if run.smoke else FRESH, run.seed + 4).x
    with torch.no_grad():
        noise, _ = g.to_noise(fresh.to(g.location.dtype), None)
    inside = mean_and_error((noise.norm(dim=-1) < 1).double())
    run.claim(
        "share of new rows within one standard deviation of the noise, mapped back",
        inside.value, -math.expm1(-0.5), error=inside.error, numerical=MAPPED, source="1 - exp(-1/2)",
    )  # fmt: skip
    return Picture(
        "the_map",
        "A map takes π to g(π)",
        "A deep generative model is a simple law and a map. The map moves every grain of noise to its place "
        "in the data, and bends the space between.",
        "Left: draws of π, a standard normal law, coloured by direction, with circles and rays. Right: the "
        "same grains, circles and rays under the fitted map g.",
        partial(figures.the_map, moved(g), run.seed),
    )


def moved(g: Any) -> Callable[[Tensor], Tensor]:
    """Return the map as a function of float64 points (..., 2)."""

    def to_data(z: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(g.to_data(z.to(g.location.dtype), None)).double()

    return to_data


def log_prob(posterior: Any) -> Callable[[Tensor], Tensor]:
    """Return log q(x) of a fitted story, in nats."""
    return lambda x: posterior.log_prob({"x": x}).double()


def correct(named: Any, y: Tensor) -> Tensor:
    """1 where a label is the one that was asked for: (rows,)."""
    return (torch.as_tensor(named) == y).double()


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
