"""Counted laws: how near does an autoregressive network come to a law whose every image can be counted?

Of 4 x 4 black-and-white images there are 65,536, few enough to add up. Bars and stripes are 30 of them,
equally probable: log 30 = 3.4012 nats, .3067 bits a pixel. The Ising model gives each its weight: with a
free boundary and coupling .4, log Z = 13.18657 and the entropy 8.66343 nats. A network is trained on draws
of each law; what it has learned is compared by KL(true || estimated), summed over all images and not
sampled, so that it has no Monte Carlo error.

Expected: the network's code is longer than the entropy by little, mostly what 20,000 draws cannot tell; its
own probabilities add up to one.

Source: MacKay (2003), Information theory, inference, and learning algorithms, chapters 31 and 43; Germain,
Gregor, Murray and Larochelle (2015), MADE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, TRUE, style
from experiments.truth.images import bars_and_stripes, ising
from experiments.truth.images.binary_images import BinaryImages, images
from inference import fit
from ppl_models.autoregressive import autoregressive

PIXELS = 16
ROWS = 20_000
# Committed before any fit: what is claimed of KL(true || estimated), in nats.
MOST = {"bars and stripes": 0.02, "Ising": 0.05}
ENTROPY = {"bars and stripes": math.log(30), "Ising": 8.66343}
LOG_Z = 13.18657
JOINT = "∏ᵢ ∏ⱼ p(xᵢⱼ | xᵢ₁, …, xᵢⱼ₋₁), 16 pixels of 0 and 1"


@dataclass(frozen=True)
class Learned:
    """A law, the network's log probabilities of all images (65,536,), and the fit."""

    name: str
    law: BinaryImages
    log_q: Tensor
    posterior: Any

    @property
    def kl(self) -> float:
        """KL(true || estimated) in nats, summed over all images that occur."""
        p = self.law.table.exp()
        return float((p * (self.law.table - self.log_q).where(p > 0, 0.0)).sum())

    @property
    def entropy(self) -> float:
        """Of the law, in nats."""
        return float(self.law.entropy())


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(autoregressive, JOINT)
    laws = {"bars and stripes": bars_and_stripes.law(), "Ising": ising.law()}
    learned = [learn(run, name, law) for name, law in laws.items()]
    run.section(
        "Estimated against true, image by image",
        "Both laws are known for all 65,536 images, and so is the network's.",
    )
    run.figure(
        "probabilities",
        picture(learned),
        "Left: probability of every image that occurs (bars and stripes: 30; Ising: one in 16 is shown), "
        "estimated against true; on the line they agree. Right: images drawn from the network.",
    )
    run.table("laws", [row(one) for one in learned], "Nats an image; bits a pixel in brackets.")
    run.claim(
        "Ising 4 x 4: log Z", float(laws["Ising"].log_normalizer), LOG_Z, numerical=5e-6, source="enumeration"
    )
    for one in learned:
        run.claim(
            f"{one.name}: entropy, nats", one.entropy, ENTROPY[one.name], numerical=5e-6, source="enumeration"
        )
        total = float(one.log_q.exp().sum())
        run.claim(
            f"{one.name}: sum of the network's probabilities", total, 1.0, numerical=1e-4, source="in float32"
        )
        run.claim(
            f"{one.name}: KL(true || estimated), nats", one.kl, MOST[one.name], relation="at most",
            source="stated before the fit; 0 for a perfect one",
        )  # fmt: skip


def learn(run: Run, name: str, law: BinaryImages) -> Learned:
    """Train the network on draws of a law; ask it for the probability of every image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        x = law.sample((1_000 if run.smoke else ROWS,))
    posterior = fit(
        partial(autoregressive, features=PIXELS, levels=2, components=1, hidden=128), {"x": x},
        batch_size=250, steps=100 if run.smoke else 4_000, restarts=1, seed=run.seed,
    )  # fmt: skip
    return Learned(name, law, posterior.log_prob({"x": images(PIXELS)}).double(), posterior)


def row(one: Learned) -> dict[str, Any]:
    """Write one law as a row of the table."""
    cross = one.entropy + one.kl

    def both(nats: float) -> str:
        return f"{nats:.4f} ({nats / PIXELS / math.log(2):.4f})"

    return {
        "law": one.name,
        "entropy": both(one.entropy),
        "code length of the network": both(cross),
        "KL(true || estimated)": both(one.kl),
        "seconds": one.posterior.certificate.seconds,
    }


def picture(learned: list[Learned]) -> Any:
    """Estimated against true probabilities, and draws."""
    import matplotlib.pyplot as plt

    with style():
        figure = plt.figure(figsize=(11, 7))
        grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.5])
        for i, one in enumerate(learned):
            axis = figure.add_subplot(grid[i, 0])
            occurs = one.law.table.isfinite().nonzero()[:, 0]
            shown = occurs[:: max(1, len(occurs) // 4096)]
            p, q = one.law.table[shown].exp(), one.log_q[shown].exp()
            axis.loglog(p, q, "o", ms=3.5 if len(shown) > 100 else 6, color=ESTIMATED, mec="none", alpha=0.5)
            ends = [float(min(p.min(), q.min())) / 1.5, float(max(p.max(), q.max())) * 1.5]
            axis.plot(ends, ends, color=TRUE, lw=1)
            axis.set(xlabel="true probability", ylabel="estimated", title=f"{one.name}, KL {one.kl:.4f} nats")
            drawn = one.posterior.sample("x", args=(60,), seed=1).reshape(6, 10, 4, 4)
            sheet = (
                torch.nn.functional.pad(drawn, (0, 1, 0, 1), value=0.5).permute(0, 2, 1, 3).reshape(30, 50)
            )
            axis = figure.add_subplot(grid[i, 1])
            axis.imshow(sheet.numpy(), cmap="Greys", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title="drawn from the network")
            axis.spines[:].set_visible(False)
    return figure


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
