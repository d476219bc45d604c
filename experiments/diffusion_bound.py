"""Diffusion's bound: what does a diffusion model lose, if its network is perfect?

The data are draws of N(0, .25), so the best guess of the noise at every step is known in closed form: no
network has to be trained, and what is left of the gap between the evidence lower bound and the entropy is
the price of the steps themselves. With the right variance of the steps back there is none. With the
variance of the steps forward, one of the two choices of Ho et al., it falls as one over the number of
steps: .08274, .02204, .01096 and .00109 nats at 10, 50, 100 and 1000 steps. A network that is trained has
to come out between the two.

Expected: these numbers, and the trained network's gap close to 0.

Source: Ho, Jain and Abbeel (2020), Denoising diffusion probabilistic models, section 3; Bao, Li, Zhu and
Zhang (2022), Analytic-DPM, on the best variance.
"""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.compare.result import Estimate, mean_and_error
from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, TRUE, style
from inference import fit
from ppl_models.diffusion import diffusion, guide, linear

STDDEV = 0.5
KNOWN = {10: 0.08274, 50: 0.02204, 100: 0.01096, 1000: 0.00109}  # nats, forward variance
SOURCE = "closed form, sums over the steps"
STEPS = 50  # of the story that is trained
JOINT = "p(z_T) ∏ₜ p(zₜ₋₁ | zₜ), z₀ = x"


class Perfect(nn.Module):
    """The expected noise in z at time t, for x ~ Normal(0, STDDEV^2)."""

    kept: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.register_buffer("kept", (1 - linear(steps)).cumprod(0))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """Guess the noise in z (..., steps, 1) at the times t (steps,)."""
        kept = self.kept[t - 1, None]
        return (1 - kept).sqrt() * z / (kept * STDDEV**2 + 1 - kept)


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(diffusion, JOINT)
    draws = 100_000 if run.smoke else 8_000_000  # of single steps
    steps = [10, 50] if run.smoke else list(KNOWN)
    gaps = {
        name: [gap(perfect(count, variance(count)), draws // count, run.seed) for count in steps]
        for name, variance in (("forward", lambda count: "forward"), ("exact", best_variance))
    }
    trained = gap(train(run), draws // STEPS, run.seed)
    run.section(
        "The price of the steps",
        "Every gap is KL(q(path | x) p(x) || p(x, path)) in nats: the entropy of the data, known, plus the "
        "negative evidence lower bound, over fresh rows and paths, with log p(x) as a control variate.",
    )
    run.figure(
        "gaps",
        picture(steps, gaps, trained),
        "Distance of the bound from the entropy against the number of steps. The perfect network with the "
        "variance of the steps forward (points: measured; line: known), and a small network with trained "
        "variances. With the exact variance the gap is 0 to rounding and not on this scale.",
    )
    for name, known in (("forward", KNOWN), ("exact", dict.fromkeys(KNOWN, 0.0))):
        for count, measured in zip(steps, gaps[name], strict=True):
            run.claim(
                f"{name} variance, {count} steps: gap in nats", measured.value, known[count],
                error=measured.error, numerical=5e-6, source=SOURCE,
            )  # fmt: skip
    run.claim(
        f"trained network, {STEPS} steps: gap in nats", trained.value, 0.01, error=trained.error,
        relation="at most", source="half of the gap of the forward variance",
    )  # fmt: skip


def perfect(steps: int, variance: str | Tensor) -> diffusion:
    """The story with the perfect network, in float64."""
    return diffusion(
        features=1, steps=steps, forward_variance=linear(steps), variance=variance, network=Perfect(steps)
    ).double()


def best_variance(steps: int) -> Tensor:
    """Return the variances of the exact steps back, for x ~ Normal(0, STDDEV^2)."""
    forward = linear(steps).double()
    kept = (1 - forward).cumprod(0)
    marginal = kept * STDDEV**2 + 1 - kept  # of z_t
    before = torch.cat([torch.tensor([STDDEV**2]).double(), marginal[:-1]])
    return forward * before / marginal


def gap(story: Any, rows: int, seed: int) -> Estimate:
    """KL(q(path | x) p(x) || p(x, path)) by Monte Carlo, in nats."""
    story = story.double().requires_grad_(False)
    own = guide(story)
    values = []
    store = pyro.get_param_store().scope()
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False), store:
        torch.manual_seed(seed)
        truth = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), STDDEV)
        size = min(rows, 200_000 // story.steps)
        for _ in range(math.ceil(rows / size)):
            x = truth.sample((size, 1))
            way = poutine.trace(own).get_trace(size, {"x": x})
            told = poutine.trace(poutine.replay(poutine.condition(story, {"x": x}), way)).get_trace(size)
            for trace in (way, told):
                trace.compute_log_prob()
            log_p = told.nodes["path"]["log_prob"] + told.nodes["x"]["log_prob"]
            values.append(truth.log_prob(x)[:, 0] - log_p + way.nodes["path"]["log_prob"])
    return mean_and_error(torch.cat(values))


def train(run: Run) -> Any:
    """Fit the default network, by the same bound, to draws of the same law."""
    generator = torch.Generator().manual_seed(run.seed)
    x = STDDEV * torch.randn(10_000, 1, generator=generator)
    story = diffusion(
        features=1, steps=STEPS, hidden=32, spread=STDDEV, forward_variance=linear(STEPS), variance="trained"
    )
    posterior = fit(
        story, {"x": x}, batch_size=256, steps=50 if run.smoke else 3_000, restarts=1, draws=10,
        seed=run.seed,
    )  # fmt: skip
    return posterior.story


def picture(steps: list[int], gaps: dict[str, list[Estimate]], trained: Estimate) -> Any:
    """Gap against number of steps, both logarithmic."""
    import matplotlib.pyplot as plt

    with style():
        figure, axis = plt.subplots(figsize=(6.4, 4.2))
        axis.loglog(list(KNOWN), list(KNOWN.values()), color=TRUE, lw=1.2, label="known, forward variance")
        found = gaps["forward"]
        axis.errorbar(
            steps, [g.value for g in found], [2 * g.error for g in found], fmt="o", ms=8, color=OTHER,
            label="perfect network, forward variance",
        )  # fmt: skip
        axis.errorbar(
            [STEPS], [max(trained.value, 1e-5)], [2 * trained.error], fmt="D", ms=8, color=ESTIMATED,
            label="trained network and variances",
        )  # fmt: skip
        axis.set(xlabel="steps T", ylabel="bound − entropy, nats", title="What the steps cost")
        axis.legend()
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
