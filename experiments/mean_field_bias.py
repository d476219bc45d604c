"""Mean-field bias: what does a guide that factorizes lose on a correlated posterior?

Two causes add up to one effect, and the measured effect makes them correlated. The best Gaussian that
factorizes has the right mean, standard deviations too small by sqrt(1 - rho^2), and lies
-log(1 - rho^2) / 2 nats from the posterior; at a correlation of .9 that is .4359 and .8304. The ELBO
falls short of the log evidence by exactly these nats. A full-rank guide loses nothing.

Expected: both formulas, at every correlation; and importance weights that repair the draws.

Source: Bishop (2006), Pattern Recognition and Machine Learning, section 10.1.2; Turner and Sahani
(2011), Two problems with variational expectation maximisation for time-series models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from experiments.report import Run, launch
from experiments.report.style import ESTIMATED, OTHER, TRUE, style
from inference import fit
from ppl_models.two_causes import exact, two_causes

CORRELATIONS = (0.3, 0.6, 0.9, 0.98)
Y = torch.tensor([1.3, 0.4, 2.1, 1.7], dtype=torch.float64)
SPREAD = 2.0
GUIDES = ("mean_field", "full_rank")
COLOURS = dict(zip(GUIDES, (OTHER, ESTIMATED), strict=True))
NUMERICAL = 1e-3  # the natural gradient stops when a step changes the guide by less than 1e-3 nats
JOINT = "p(first) p(second) ∏ᵢ p(yᵢ | first, second)"


@dataclass(frozen=True)
class Fitted:
    """One guide at one correlation.

    ``guide_sd`` and ``draws_sd`` are shares of the exact standard deviation of ``first``, of the guide
    and of the certified draws; ``kl`` is KL(guide || posterior) in nats.
    """

    guide: str
    correlation: float
    posterior: Any
    guide_sd: float
    draws_sd: float
    kl: float

    @property
    def expected(self) -> tuple[float, float]:
        """Share of the standard deviation and KL of the best guide of this family, in closed form."""
        if self.guide == "full_rank":
            return 1.0, 0.0
        rest = 1 - self.correlation**2
        return math.sqrt(rest), -math.log(rest) / 2


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    run.story(two_causes, JOINT)
    fits = [fitted(run, guide, rho) for rho in CORRELATIONS for guide in GUIDES]
    run.section(
        "What factorizing costs",
        "The guide is fitted by its ELBO; its distance from the posterior, KL(guide || posterior), is the "
        "log evidence, known in closed form, less the ELBO.",
    )
    run.figure(
        "mean_field",
        pictures(fits),
        "Left: the exact posterior at a correlation of -.9 (95 % contour) and those of the guides. Middle "
        "and right: what is left of the standard deviation, and KL(guide || posterior). Lines: closed forms.",
    )
    run.table("fits", [row(one) for one in fits], "Every fit beside the closed form.")
    for one in fits:
        claims(run, one)


def noise_for(correlation: float) -> float:
    """Return the noise at which the causes have the posterior correlation -``correlation``."""
    return SPREAD * math.sqrt(len(Y) * (1 - correlation) / correlation)


def fitted(run: Run, guide: str, correlation: float) -> Fitted:
    """Fit one guide and lay it beside the closed form."""
    noise = noise_for(correlation)
    posterior = fit(
        two_causes, {"y": Y}, (len(Y), noise, SPREAD), guide=guide, seed=run.seed,
        restarts=2, draws=500 if run.smoke else 10_000,
    )  # fmt: skip
    true_sd = exact({"y": Y}, len(Y), noise, SPREAD)["first"].stddev
    covariance = noise**2 * torch.eye(len(Y)) + 2 * SPREAD**2 * torch.ones(len(Y), len(Y))
    log_evidence = MultivariateNormal(torch.zeros(len(Y)), covariance).log_prob(Y.float())
    return Fitted(
        guide, correlation, posterior, float(covariance_of(posterior)[0, 0].sqrt() / true_sd),
        float(posterior.draws["first"].std() / true_sd),
        float(log_evidence) - (posterior.certificate.elbo or math.nan),
    )  # fmt: skip


def covariance_of(posterior: Any) -> Tensor:
    """Return the fitted Gaussian's covariance (2, 2); both causes are unconstrained already."""
    factor = posterior.guide.family.scale
    factor = factor if factor.dim() == 2 else factor.diag()
    return factor @ factor.T


def row(one: Fitted) -> dict[str, Any]:
    """Write one fit as a row of the table."""
    sd, kl = one.expected
    certificate = one.posterior.certificate
    return {
        "guide": one.guide, "correlation": -one.correlation, "sd of guide / true": one.guide_sd, "known": sd,
        "KL (nats)": one.kl, "KL known": kl, "k-hat": certificate.khat,
        "trusted after weighing": certificate.trusted, "sd of draws / true": one.draws_sd,
    }  # fmt: skip


def claims(run: Run, one: Fitted) -> None:
    """Claim the closed forms, and that certified draws are right."""
    sd, kl = one.expected
    at = f"{one.guide}, correlation -{one.correlation}"
    source = "Bishop (2006), section 10.1.2"
    run.claim(f"{at}: sd of the guide / true", one.guide_sd, sd, numerical=NUMERICAL, source=source)
    run.claim(f"{at}: KL(guide || posterior), nats", one.kl, kl, numerical=NUMERICAL, source=source)
    if one.posterior.certificate.trusted:
        draws = one.posterior.draws["first"].numel()
        # The standard error of a standard deviation of independent Gaussian draws, relative.
        error = 1 / math.sqrt(2 * min(draws, one.posterior.certificate.ess))
        run.claim(f"{at}: sd of certified draws / true", one.draws_sd, 1.0, error=error)


def pictures(fits: list[Fitted]) -> Any:
    """Contours at one correlation; loss of standard deviation and KL over correlations."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.9))
        contours(axes[0], [one for one in fits if one.correlation == 0.9])
        rho = torch.linspace(0, 0.985, 200)
        lines = {
            "sd of the guide / true": (1 - rho**2).sqrt(),
            "KL(guide || posterior), nats": -(1 - rho**2).log() / 2,
        }
        for axis, (label, line) in zip(axes[1:], lines.items(), strict=True):
            axis.plot(-rho, line, color=COLOURS["mean_field"], label="mean field, closed form")
            level = 1.0 if label.startswith("sd") else 0.0
            axis.plot(
                -rho, torch.full_like(rho, level), color=COLOURS["full_rank"], label="full rank, closed form"
            )
            for one in fits:
                value = one.guide_sd if label.startswith("sd") else one.kl
                axis.plot(-one.correlation, value, "o", color=COLOURS[one.guide], ms=7)
            axis.set(xlabel="posterior correlation", ylabel=label)
        axes[1].set_title("What is left of the spread")
        axes[2].set_title("Distance from the posterior")
        axes[2].plot([], [], "o", color="#555555", ms=7, label="fitted")
        axes[2].legend()
    return figure


def contours(axis: Any, fits: list[Fitted]) -> None:
    """Draw 95 % contours of the exact posterior and of the guides."""
    noise = noise_for(0.9)
    precision = torch.eye(2, dtype=torch.float64) / SPREAD**2 + len(Y) / noise**2
    mean = torch.linalg.solve(precision, (Y.sum() / noise**2).expand(2))
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    circle = math.sqrt(-2 * math.log(0.05)) * torch.stack([angle.cos(), angle.sin()])
    shapes = {"exact posterior": (TRUE, "-", torch.linalg.inv(precision), mean)}
    for one, dashes in zip(fits, ("-", "--"), strict=True):
        loc = one.posterior.guide.family.loc
        shapes[one.guide.replace("_", " ")] = (COLOURS[one.guide], dashes, covariance_of(one.posterior), loc)
    for label, (colour, dashes, covariance, centre) in shapes.items():
        ring = centre[:, None] + torch.linalg.cholesky(covariance) @ circle
        axis.plot(*ring, color=colour, ls=dashes, lw=3 if label.startswith("exact") else 1.8, label=label)
    axis.set(xlabel="first cause", ylabel="second cause", title="95 % contours, correlation −.9")
    axis.set_aspect("equal")
    axis.legend(loc="upper right")


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
