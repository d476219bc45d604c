"""``inference.fit`` of this project with its defaults, run as the peers are: two fits in one process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.peers.timing import CHAINS, TimedFit, twice
from experiments.truth import posteriordb

TITLE = "this project"
NEEDS = ("inference.fitting", "torch.fx.experimental.proxy_tensor")
FACTS = (
    "trusted",
    "method",
    "guide",
    "khat",
    "ess",
    "rhat",
    "log_evidence",
    "gradient_calls",
    "reasons",
    "notes",
)


def run(name: str, draws: int, seed: int) -> TimedFit:
    """Fit any posterior of the database twice, and note both certificates."""
    from inference import fit as fit_story

    known = posteriordb.load(name)
    certificates: list[dict[str, Any]] = []

    def fit(seed: int) -> dict[str, Any]:
        posterior = fit_story(
            known.story, known.data, known.args, known.kwargs,
            restarts=CHAINS, draws=draws, seed=seed, progress=False,
        )  # fmt: skip
        found = posterior.draws
        certificates.append({fact: getattr(posterior.certificate, fact) for fact in FACTS})
        return {site: found[site] for site in known.reference if site in found}

    return replace(twice(fit, seed), notes={"certificates": certificates})
