"""Funnel by flow: can a flow follow a law that no Gaussian comes near, and does it know when it has?

Neal's funnel in ten dimensions, v ~ Normal(0, 3^2) and nine z ~ Normal(0, exp(v)), is the posterior of a
story that has seen nothing: its log evidence is 0, the law of v is known, and KL(guide || funnel) is minus
the ELBO. The best Gaussian is known too. By symmetry it has no correlations; with v ~ Normal(m, s^2) and
z ~ Normal(0, t^2) its ELBO is largest at m = 0, 1/s^2 = 1/9 + 9/2, t^2 = exp(-s^2/2), which leaves
log 3 - log s = 1.8629 nats: it sits in the neck's mouth with a sixth of the spread of v.

Expected: the flow's KL is near 0, its importance weights find log Z = 0, and v keeps mean, spread and neck.
A Gaussian guide stays above 1.8629 nats, and its weights say so: k-hat above .7, not trusted. What no 10,000
draws can carry is the standard deviation of z: it is exp(9/4) = 9.5, with a kurtosis of 3 e^9.

Source: Neal (2003), Slice sampling, section 8; Blessing et al. (2024), Beyond ELBOs, for log Z as measure;
Yao, Vehtari, Simpson and Gelman (2018), for k-hat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, TRUE, style
from experiments.truth.posteriors import funnel
from inference import fit
from inference.checks.psis import khat_threshold

GUIDES = ("flow", "full_rank")
COLOURS = dict(zip(GUIDES, (ESTIMATED, OTHER), strict=True))
DRAWS = 10_000
# Committed before any fit: what is claimed of the flow's KL(guide || funnel), in nats.
MOST = 0.05
BEST_GAUSSIAN = math.log(funnel.STDDEV) + math.log(1 / funnel.STDDEV**2 + funnel.WIDTH / 2) / 2
NECK = -funnel.STDDEV  # v below it: probability Phi(-1)
JOINT = "p(v) ∏ⱼ p(zⱼ | v), v ~ Normal(0, 3²), zⱼ ~ Normal(0, exp v), j = 1 … 9"


@dataclass(frozen=True)
class Fitted:
    """A guide's fit; ``v`` and ``z`` are its draws (draws,), the first of the nine."""

    guide: str
    posterior: Any
    v: Tensor
    z: Tensor

    @property
    def kl(self) -> float:
        """KL(guide || funnel) in nats: minus the ELBO, since log Z = 0."""
        return -float(self.posterior.certificate.elbo)


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(funnel.story, JOINT)
    fits = [fitted(run, guide) for guide in GUIDES]
    exact = funnel.sample(500 if run.smoke else 20_000, run.seed)
    run.section(
        "One story, two guides",
        "The Gaussian minimises the same KL as the flow, and ends in a small part of the funnel. The draws "
        "are those that a user gets: corrected by their weights only where the certificate trusts them.",
    )
    run.figure(
        "funnel",
        picture(fits, exact),
        "Left: draws of v and the first z, exact and of both guides. Middle: the marginal of v. Right: "
        "KL(guide || funnel): 0 for a perfect guide, 1.8629 for the best Gaussian; and what the weights say.",
    )
    run.table("fits", [row(one) for one in fits], "Every guide. Log evidence: truth 0.")
    for one in fits:
        run.text(f"{one.guide}: {one.posterior.certificate}")
    flow_claims(run, fits[0])
    gaussian_claims(run, fits[1])


def fitted(run: Run, guide: str) -> Fitted:
    """Fit one guide to the story."""
    posterior = fit(
        funnel.story, {}, guide=guide, seed=run.seed, restarts=2,
        draws=200 if run.smoke else DRAWS // 2, steps=20 if run.smoke else None,
    )  # fmt: skip
    return Fitted(guide, posterior, posterior.draws["v"].flatten(), posterior.draws["z"][..., 0].flatten())


def row(one: Fitted) -> dict[str, Any]:
    """Write one fit as a row of the table."""
    certificate = one.posterior.certificate
    return {
        "guide": one.guide,
        "KL(guide || funnel), nats": one.kl,
        "log evidence": certificate.log_evidence,
        "its error": certificate.log_evidence_stderr,
        "k-hat": certificate.khat,
        "trusted": certificate.trusted,
        "sd of v (3)": float(one.v.std()),
        "share with v < -3 (.1587)": float((one.v < NECK).double().mean()),
    }


def flow_claims(run: Run, one: Fitted) -> None:
    """Claim log Z = 0, and the exact marginal of v."""
    certificate = one.posterior.certificate
    source = "closed form: v ~ Normal(0, 3^2), log Z = 0"
    number = min(len(one.v), certificate.ess or 1.0)
    share = 0.5 * math.erfc(1 / math.sqrt(2))
    run.claim(
        "flow: trusted", float(certificate.trusted), 1.0, source="its own certificate",
        reason="the certificate also vouches for the standard deviation of z, whose kurtosis is 3 e^9: these "
        "draws do not carry it, and it says so; of v and of log Z the weights are good",
    )  # fmt: skip
    run.claim(
        "flow: Pareto k-hat", certificate.khat or math.nan, khat_threshold(one.posterior.draws["v"].shape[1]),
        relation="at most", source="Vehtari et al. (2024)",
    )  # fmt: skip
    run.claim(
        "flow: KL(guide || funnel), nats", one.kl, MOST, relation="at most", source="stated before the fit"
    )
    run.claim(
        "flow: log evidence, nats", certificate.log_evidence or math.nan, 0.0,
        error=certificate.log_evidence_stderr or 0.0, source=source,
    )  # fmt: skip
    spread = funnel.STDDEV
    run.claim("flow: mean of v", float(one.v.mean()), 0.0, error=spread / math.sqrt(number), source=source)
    run.claim(
        "flow: standard deviation of v", float(one.v.std()), spread,
        error=spread / math.sqrt(2 * number), source=source,
    )  # fmt: skip
    run.claim(
        "flow: probability of the neck, v < -3", float((one.v < NECK).double().mean()), share,
        error=math.sqrt(share * (1 - share) / number), source=source,
    )  # fmt: skip


def gaussian_claims(run: Run, one: Fitted) -> None:
    """Claim that no Gaussian comes nearer than the best one, and that the weights tell."""
    certificate = one.posterior.certificate
    draws = one.posterior.draws["v"].shape[1]
    run.claim(
        f"{one.guide}: KL(guide || funnel), nats", one.kl, BEST_GAUSSIAN, relation="at least",
        numerical=0.05, source="closed form of the best Gaussian; the ELBO is an average over draws",
    )  # fmt: skip
    run.claim(
        f"{one.guide}: Pareto k-hat", certificate.khat or math.nan, khat_threshold(draws),
        relation="at least", source="Vehtari et al. (2024): above it, weights do not repair a guide",
    )  # fmt: skip
    run.claim(f"{one.guide}: trusted", float(certificate.trusted), 0.0, source="its own certificate")


def picture(fits: list[Fitted], exact: dict[str, Tensor]) -> Any:
    """Draws in the plane of v and z; the marginal of v; KL of every guide."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), width_ratios=[1.3, 1.2, 1])
        shown = 3000
        axes[0].scatter(exact["z"][:shown, 0], exact["v"][:shown], s=7, c="#bbbbbb", lw=0, label="exact")
        for one in fits:
            pick = torch.arange(0, len(one.v), max(1, len(one.v) // 1500))
            label = one.guide.replace("_", " ")
            axes[0].scatter(one.z[pick], one.v[pick], s=4, c=COLOURS[one.guide], lw=0, alpha=0.7, label=label)
        axes[0].set(
            xlim=(-25, 25), ylim=(-10, 10), xlabel="z₁", ylabel="v", title="The funnel, and who fills it"
        )
        axes[0].legend(loc="lower left", markerscale=3)
        grid = torch.linspace(-10, 10, 400)
        density = torch.distributions.Normal(0.0, funnel.STDDEV).log_prob(grid).exp()
        axes[1].plot(grid, density, color=TRUE, label="exact, Normal(0, 3²)", lw=2.4)
        for one in fits:
            label = one.guide.replace("_", " ")
            axes[1].hist(
                one.v, bins=torch.linspace(-10, 10, 61).tolist(), density=True, histtype="step",
                color=COLOURS[one.guide], label=label, lw=1.6,
            )  # fmt: skip
        axes[1].set(xlabel="v", ylabel="density", title="Marginal of v")
        axes[1].legend(loc="upper right", fontsize=9)
        bars(axes[2], fits)
    return figure


def bars(axis: Any, fits: list[Fitted]) -> None:
    """KL of every guide, with its k-hat."""
    top = 1.55 * BEST_GAUSSIAN
    for i, one in enumerate(fits):
        height = min(max(one.kl, 0.0), 0.75 * top)
        axis.bar(i, height, color=COLOURS[one.guide], width=0.6)
        khat = one.posterior.certificate.khat or math.nan
        limit = khat_threshold(one.posterior.draws["v"].shape[1])
        note = f"{one.kl:.3f}\nk-hat {khat:.2f}:\nweights {'pass' if khat < limit else 'fail'}"
        axis.text(i, height + 0.05, note, ha="center", va="bottom", fontsize=9)
    axis.axhline(BEST_GAUSSIAN, color=TRUE, lw=1, ls="--", label="best Gaussian, closed form")
    axis.set(ylabel="KL(guide || funnel), nats", title="How far each ends", ylim=(0, top))
    axis.set_xticks(range(len(fits)), [one.guide.replace("_", " ") for one in fits])
    axis.legend(loc="upper left")


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
