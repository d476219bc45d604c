"""Sequences of a family: how near does a profile learned from few sequences come to the true one?

Three families of sequences, twelve positions, twenty letters, their profiles known. A profile is learned
by counting: p(letter | sequences) = (pseudocounts + counts) / (sum), in closed form. Its distance from the
true profile has an exact expectation, a sum over binomial counts, which tends to
(letters - 1) / (2 n) = 9.5 / n nats a position: as many nats as half the free parameters, over n.

Expected: the measured distance on the exact curve; the draws of a fit as far from the truth as their
Dirichlet law says (by digamma); new sequences named nearly as well as by the true profiles; generated
sequences that score, under the true profile, what the estimated one says they should.

Source: Durbin, Eddy, Krogh and Mitchison (1998), Biological sequence analysis, sections 5.1 and 11.5;
Krichevsky and Trofimov (1981), The performance of universal encoding, for the limit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from experiments.compare.result import mean_and_error
from experiments.report import Run, launch
from experiments.sequence_family import figures
from experiments.truth.simulators import profiles
from inference import fit
from ppl_models.sequence_profile import exact, sequence_profile

SIZES = (5, 10, 30, 100, 300, 1_000)  # sequences of every family
DATA_SETS, FRESH = 100, 4_000
FITTED = 100  # sequences of every family in the one fit
DRAWS, GENERATED = 1_000, 2_000
MOST_EXTRA_ERROR = 0.01  # committed before any fit: share of sequences misnamed above Bayes, from FITTED
STRENGTH = 20.0
JOINT = "p(weights) ∏ p(profile) ∏ᵢ p(yᵢ | weights) ∏ⱼ p(xᵢⱼ | yᵢ, profile)"
FAMILIES, LETTERS = len(profiles.WEIGHTS), len(profiles.ALPHABET)


def main(run: Run) -> None:
    """Truth, fit, compare, report."""
    law = profiles.law()
    fresh = law.sample_labelled(300 if run.smoke else FRESH, seed=run.seed + 1)
    bayes = law.probabilities(fresh.x).argmax(-1) != fresh.y
    run.story(sequence_profile, JOINT)
    run.section("The profile closes in", "The posterior in closed form, averaged over simulated data sets.")
    sets = 5 if run.smoke else DATA_SETS
    sizes = SIZES[:3] if run.smoke else SIZES
    rows = [at_size(law, size, sets, fresh, run.seed) for size in sizes]
    run.figure(
        "closing_in",
        figures.closing_in(rows, LETTERS, float(bayes.double().mean())),
        "Left: distance of the learned from the true profile. Right: error of naming the family.",
    )
    run.table("sizes", rows, "KL in nats a position, means over data sets, families and positions.")
    few, many = (posterior_of(law, size, run.seed)[0] for size in (10, FITTED))
    run.figure(
        "logos",
        figures.logos(
            {
                "True": law.profiles[0],
                f"Learned from {FITTED} sequences": many["profile"].mean[0],
                "Learned from 10 sequences": few["profile"].mean[0],
            },
            profiles.ALPHABET,
            range(0, profiles.POSITIONS, 3),
        ),
        "The first family at its conserved positions. Height of a stack: bits by which a position falls "
        "short of a free choice of 20 letters. "
        "With few sequences the twenty pseudocounts still flatten the profile.",
    )
    for row in rows:
        run.claim(
            f"{row['sequences of a family']} sequences: KL(true || estimated), nats a position",
            row["KL per position"], row["exact"], error=row["its error"], source="sum over binomial counts",
        )  # fmt: skip
    naming(run, law, fresh, bayes)
    the_fit(run, law)
    generate(run, law)


def posterior_of(law: Any, size: int, seed: int) -> tuple[Any, dict[str, Tensor]]:
    """Draw sequences of every family; return the exact posterior and the data."""
    y = torch.arange(FAMILIES).repeat_interleave(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        data = {"x": law.sample_given(y), "y": y}
    return exact(data, len(y), FAMILIES, profiles.POSITIONS, LETTERS, STRENGTH), data


def at_size(law: Any, size: int, sets: int, fresh: Any, seed: int) -> dict[str, Any]:
    """Average the distance and the error of naming over data sets."""
    found, wrong = [], []
    for one in range(sets):
        posterior, _ = posterior_of(law, size, 1_000 * size + one + seed)
        mean = posterior["profile"].mean
        found.append(kl(law.profiles, mean.log()).mean())
        named = profiles.Profiles(law.weights, mean).probabilities(fresh.x).argmax(-1)
        wrong.append((named != fresh.y).double().mean())
    measured, error = mean_and_error(torch.stack(found)), mean_and_error(torch.stack(wrong))
    return {
        "sequences of a family": size,
        "KL per position": measured.value,
        "its error": measured.error,
        "exact": expected_kl(law.profiles, size),
        "limit": (LETTERS - 1) / (2 * size),
        "error": error.value,
    }


def kl(p: Tensor, log_q: Tensor) -> Tensor:
    """KL of every position, nats: (..., letters) -> (...)."""
    return (torch.special.xlogy(p, p) - p * log_q).sum(-1)


def expected_kl(p: Tensor, size: int) -> float:
    """E[KL(p || (pseudocount + counts) / sum)], counts multinomial: exact, averaged over positions.

    Every letter's count is Binomial(size, p), so that E log(pseudocount + count) is a finite sum.
    """
    counts = torch.arange(size + 1, dtype=torch.float64)
    chance = torch.distributions.Binomial(size, p[..., None]).log_prob(counts).exp()
    log_mean = (chance * (STRENGTH / LETTERS + counts).log()).sum(-1) - math.log(STRENGTH + size)
    return float(kl(p, log_mean).mean())


def naming(run: Run, law: Any, fresh: Any, bayes: Tensor) -> None:
    """Claim how many sequences of unknown family a learned profile misnames beyond Bayes' rule."""
    known, _ = posterior_of(law, FITTED, run.seed)
    closed = profiles.Profiles(known["weights"].mean, known["profile"].mean).probabilities(fresh.x)
    extra = mean_and_error((closed.argmax(-1) != fresh.y).double() - bayes.double())
    run.metric("Bayes error", *mean_and_error(bayes.double()))
    reason = "the bound was a guess, and too bold; the table shows how the error falls with more sequences"
    run.claim(
        f"{FITTED} sequences: share misnamed above the Bayes error", extra.value, MOST_EXTRA_ERROR,
        error=extra.error, relation="at most", source="stated before any fit", reason=reason,
    )  # fmt: skip


def the_fit(run: Run, law: Any) -> None:
    """Fit the first position by the workbench; claim what its draws should be."""
    size = 30 if run.smoke else FITTED
    known, data = posterior_of(law, size, run.seed)
    run.section("One position, fitted", f"The first, conserved, from {size} sequences of every family.")
    posterior = fit(
        sequence_profile, {"x": data["x"][:, :1], "y": data["y"]},
        (len(data["y"]), FAMILIES, 1, LETTERS, STRENGTH), seed=run.seed, restarts=2,
        draws=100 if run.smoke else DRAWS // 2,
    )  # fmt: skip
    run.posterior("fit", posterior)
    drawn = posterior.draws["profile"].flatten(0, 1)[:, :, 0].double()
    apart = mean_and_error(kl(law.profiles[:, 0], drawn.log()).mean(-1))
    concentration = known["profile"].concentration[:, 0]
    log_mean = concentration.digamma() - concentration.sum(-1, keepdim=True).digamma()
    run.claim(
        "fit: mean KL(true || draw), nats a position", apart.value,
        float(kl(law.profiles[:, 0], log_mean).mean()), error=apart.error,
        source="E log of a Dirichlet, by digamma",
    )  # fmt: skip


def generate(run: Run, law: Any) -> None:
    """Generate a sequence of every family from every draw of its profile; score it by the true one."""
    known, _ = posterior_of(law, FITTED, run.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        drawn = known["profile"].sample((GENERATED,))
        letters = torch.distributions.Categorical(drawn).sample()  # (draws, families, positions)
    y = torch.arange(FAMILIES).expand(GENERATED, FAMILIES)
    scores = law.log_prob_given(letters, y)
    promised = (known["profile"].mean * law.profiles.log()).sum((-1, -2))
    for family in range(FAMILIES):
        score = mean_and_error(scores[:, family])
        run.claim(
            f"generated, family {family + 1}: log p(x' | y) under the true profile, nats", score.value,
            float(promised[family]), error=score.error,
            source=f"sum of estimated x log true; real sequences: {-float(law.entropies()[family]):.2f}",
        )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(launch(__file__))
