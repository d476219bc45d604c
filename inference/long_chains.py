"""Long chains from overdispersed starts, judged chain by chain: what a trusted reference is made of.

Tuning is that of the short chains (:mod:`inference.warmup`); the stop rule is the one that is asked of a
reference: rank-normalized split R-hat of the chains below 1.01, bulk and tail effective sizes above 400.

Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), "Rank-normalization, folding, and
localization: an improved R-hat", Bayesian Analysis 16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.approach import approach
from inference.chains import ACCEPTANCES, NAME, UNSETTLED, WARM_UP, begin
from inference.convergence import RHAT, ess_bulk, ess_tail, rank_normalized_rhat
from inference.hamiltonian import Target
from inference.judging import diverged
from inference.progress import Report
from inference.record import Record
from inference.warmup import Sampler, warm_up

Measure = Callable[[Tensor], Mapping[str, Tensor]]

_ESS = 400.0
_LOG_P = "the log density"
_UNCONSTRAINED = "the unconstrained unknowns"


@dataclass(frozen=True)
class Long:
    """What long chains brought.

    Attributes:
        z: (chains, draws, size), thinned evenly.
        log_p: (chains, draws), in nats.
        rhat: largest rank-normalized split R-hat over all quantities.
        ess_bulk, ess_tail: smallest over all quantities.
        divergence_share: of trajectories after warm-up.
        gradient_calls: batched gradients.
        transitions: per chain, of which the draws were taken.
        converged: whether every rule was kept; ``reasons`` says in words which were not.
    """

    z: Tensor
    log_p: Tensor
    rhat: float
    ess_bulk: float
    ess_tail: float
    divergence_share: float
    gradient_calls: int
    transitions: int
    converged: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    rhat: float
    bulk: float
    tail: float
    agree: bool
    diverging: bool
    reasons: tuple[str, ...]


def run(
    target: Target,
    size: int,
    generator: torch.Generator,
    *,
    draws: int,
    chains: int,
    budget: int,
    measure: Measure,
    report: Report | None = None,
    given: Tensor | None = None,
) -> Long:
    """Sample until every quantity of every kind has converged, or the budget ends.

    Args:
        target: (chains, size) -> log densities in nats and gradients.
        size: number of unknowns.
        generator: of all random numbers.
        draws: per chain.
        chains: at least 4.
        budget: batched gradient calls.
        measure: (rows, size) -> name -> (rows, elements): what is judged beside the unknowns themselves.
        report: called with ("hmc", gradient calls so far, None): chains have no ELBO.
        given: (chains // 2, size) starts of every second chain, as in :func:`~inference.approach.approach`.
    """
    start, calls = approach(target, chains, size, generator, given)
    sampler = begin(target, start[None], generator)
    sampler.gradient_calls += calls
    for acceptance in ACCEPTANCES:
        settled = warm_up(sampler, int(budget * WARM_UP), acceptance)
        record = Record(chains)
        look = _rounds(sampler, record, draws, budget, measure, report)
        if not look.diverging or sampler.gradient_calls >= budget * WARM_UP:
            break
    reasons = look.reasons if settled or not look.reasons else (*look.reasons, UNSETTLED)
    z, log_p = record.thinned(draws)
    return Long(
        z, log_p, look.rhat, look.bulk, look.tail, record.divergence_share, sampler.gradient_calls,
        record.kept, not reasons, reasons,
    )  # fmt: skip


def _rounds(
    sampler: Sampler, record: Record, draws: int, budget: int, measure: Measure, report: Report | None
) -> _Look:
    count = draws
    while True:
        over = record.fill(sampler, count, budget)
        if report is not None:
            report(NAME, sampler.gradient_calls, None)
        look = _look(record, draws, measure)
        if not look.reasons or look.diverging:
            return look
        if over:
            words = (
                f"The budget of {budget} batched gradient calls was used up; allow more, or reparametrize."
            )
            return _Look(**{**look.__dict__, "reasons": (*look.reasons, words)})
        if not look.agree:
            record.forget()
        count = 3 * record.seen if not look.agree else 2 * record.seen


def _look(record: Record, draws: int, measure: Measure) -> _Look:
    """Judge what would be handed out now."""
    z, log_p = record.thinned(draws)
    parts = {_UNCONSTRAINED: z, _LOG_P: log_p[..., None]}
    found = {name: _statistics(value) for name, value in parts.items()}
    if all(_fine(one) for one in found.values()):  # the sites cost more, and rarely tell more
        elements = measure(z.flatten(0, 1))
        found |= {n: _statistics(_varying(v.unflatten(0, log_p.shape))) for n, v in elements.items()}
    rhat = max(one[0] for one in found.values())
    bulk, tail = (min(one[k] for one in found.values()) for k in (1, 2))
    reasons = _reasons(found)
    hidden = diverged(record, bulk)
    return _Look(rhat, bulk, tail, rhat < RHAT, bool(hidden), (*reasons, *hidden))


def _varying(draws: Tensor) -> Tensor:
    """Without the elements that are constants (the diagonal of a correlation's factor, say)."""
    flat = draws.flatten(0, 1)
    return draws[..., (flat != flat[:1]).any(0)]


def _statistics(draws: Tensor) -> tuple[float, float, float]:
    """Largest R-hat, smallest bulk and tail effective size of (chains, draws, quantities)."""
    if draws.shape[-1] == 0:
        return 1.0, torch.inf, torch.inf
    rhat = torch.nan_to_num(rank_normalized_rhat(draws), nan=torch.inf).max()
    ess = [torch.nan_to_num(f(draws), nan=0.0).min() for f in (ess_bulk, ess_tail)]
    return float(rhat), float(ess[0]), float(ess[1])


def _fine(one: tuple[float, float, float]) -> bool:
    return one[0] < RHAT and min(one[1:]) > _ESS


def _reasons(found: Mapping[str, tuple[float, float, float]]) -> list[str]:
    """What was not passed, by the name of what is worst."""
    reasons = []
    worst = max(found, key=lambda name: found[name][0])
    if not found[worst][0] < RHAT:
        reasons.append(
            f"The chains disagree: R-hat of {worst} is {found[worst][0]:.3f}, not below {RHAT}. They may sit "
            f"in different modes, or move too slowly."
        )
    thin = min(found, key=lambda name: min(found[name][1:]))
    if not min(found[thin][1:]) > _ESS:
        reasons.append(
            f"The chains brought {min(found[thin][1:]):.0f} effective draws of {thin} "
            f"(bulk {found[thin][1]:.0f}, tail {found[thin][2]:.0f}), not more than {_ESS:.0f}."
        )
    return reasons
