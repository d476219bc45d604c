"""Long chains from overdispersed starts, judged chain by chain: what a trusted reference is made of.

Tuning is that of the short chains (:mod:`inference.hmc.adaptation`); the stop rule is the one that is asked
of a reference: rank-normalized split R-hat of the chains below 1.01, bulk and tail effective sizes above 400.

Trusted chains begin at overdispersed starts that have come down from the impossible (:func:`approach`).
Points are drawn in boxes of several widths around zero, in unconstrained space, or are given. They climb by
steps that look at the gradient's signs only (resilient propagation), so that no scale need be known. A point
stops as soon as its log density is within what draws from a posterior may differ by of the best point's; so
none climbs to a mode, which in a hierarchical story is degenerate, and none that lies in a region of its own
leaves it.

Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), "Rank-normalization, folding, and
localization: an improved R-hat", Bayesian Analysis 16; Riedmiller and Braun (1993), "A direct adaptive method
for faster backpropagation learning: the RPROP algorithm", IEEE International Conference on Neural Networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.guides.gaussian import ValueAndGrad
from inference.hmc.adaptation import Sampler, warm_up
from inference.hmc.chain_record import Record
from inference.hmc.convergence import RHAT, ess_bulk, ess_tail, rank_normalized_rhat
from inference.hmc.short_chains import ACCEPTANCES, NAME, UNSETTLED, WARM_UP, begin
from inference.hmc.stop_rule import diverged
from inference.runtime.progress import Report

Measure = Callable[[Tensor], Mapping[str, Tensor]]

_ESS = 400.0
_LOG_P = "the log density"
_UNCONSTRAINED = "the unconstrained unknowns"
_WIDTHS = (2.0, 2.0, 4.0, 8.0)  # in turn; 2 is Stan's
_TRIES = 20
_STEPS = 300
_FIRST = 0.1  # step of every coordinate at first
_FACTORS = (0.5, 1.2)  # of the step where the gradient's sign changes, and where it does not
_RANGE = (1e-8, 100.0)  # of the steps


@dataclass(frozen=True)
class LongChains:
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


def run_chains(
    target: ValueAndGrad,
    size: int,
    generator: torch.Generator,
    *,
    draws: int,
    chains: int,
    budget: int,
    measure: Measure,
    report: Report | None = None,
    given: Tensor | None = None,
) -> LongChains:
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
        given: (chains // 2, size) starts of every second chain, as in :func:`approach`.
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
    return LongChains(
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


def approach(
    target: ValueAndGrad, count: int, size: int, generator: torch.Generator, given: Tensor | None = None
) -> tuple[Tensor, int]:
    """Draw starts and let them climb.

    Args:
        target: (count, size) -> log densities and gradients.
        count: how many starts.
        size: number of unknowns.
        generator: of the starts.
        given: (half, size) starts that take the places of every second one; elements that are NaN, and
            points without a finite density, are drawn.

    Returns:
        (count, size), and the number of batched gradients taken.

    Raises:
        ValueError: if no point with a finite density and gradient is found.

    Example:
        >>> import torch
        >>> def target(z):
        ...     return -0.5 * ((z - 40) / 1e-3).square().sum(-1), -(z - 40) / 1e-6
        >>> z, calls = approach(target, 4, 2, torch.Generator().manual_seed(0))
        >>> bool(((z - 40).abs() < 0.1).all())
        True
    """
    z, log_p, grad, calls = _scattered(target, count, size, generator, given)
    step = torch.full_like(z, _FIRST)
    old = torch.zeros_like(z)
    # Log densities of draws differ by about half a chi-square of `size` degrees of freedom.
    slack = 10.0 + 2.0 * size
    for _ in range(_STEPS):
        climbing = log_p < log_p.max() - slack
        if not bool(climbing.any()):
            break
        same = (grad * old).sign()
        step = (step * torch.where(same > 0, _FACTORS[1], torch.where(same < 0, _FACTORS[0], 1.0))).clamp(
            *_RANGE
        )
        grad = torch.where(same < 0, 0.0, grad)
        trial = torch.where(climbing[:, None], z + grad.sign() * step, z)
        value, slope = target(trial)
        calls += 1
        fine = torch.isfinite(value + slope.sum(-1))
        z, log_p = torch.where(fine[:, None], trial, z), torch.where(fine, value, log_p)
        old = torch.where(fine[:, None], grad, 0.0)
        grad = torch.where(fine[:, None], slope, grad)
        step = torch.where(fine[:, None], step, step * _FACTORS[0] ** 2)
    return z, calls


def _scattered(
    target: ValueAndGrad, count: int, size: int, generator: torch.Generator, given: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Points in boxes of several widths, with finite densities and gradients."""
    widths = torch.tensor(_WIDTHS, dtype=torch.float64).repeat(count)[:count, None]
    z = torch.zeros(count, size, dtype=torch.float64)
    missing = torch.ones(count, dtype=torch.bool)
    for attempt in range(_TRIES):
        fresh = (2 * torch.rand(count, size, generator=generator, dtype=torch.float64) - 1) * widths
        z = torch.where(missing[:, None], fresh, z)
        if given is not None and attempt == 0:
            z[1::2] = torch.where(given.isnan(), z[1::2], given)
        log_p, grad = target(z)
        missing = ~torch.isfinite(log_p + grad.sum(-1))
        if not bool(missing.any()):
            return z, log_p, grad, attempt + 1
        widths = torch.where(missing[:, None], 0.7 * widths, widths)
    if bool(missing.all()):
        raise ValueError(
            f"story: no start with a finite log density and gradient was found in {_TRIES * count} tries, "
            f"uniform in (-{max(_WIDTHS):g}, {max(_WIDTHS):g}) in unconstrained space and closer to 0. Look "
            f"for a prior or a likelihood that is -inf or NaN at ordinary values: `ppl check` names the site."
        )
    found = (~missing).nonzero()[:, 0]
    index = torch.arange(count)
    index[missing] = found[torch.arange(int(missing.sum())) % len(found)]
    return z[index], log_p[index], grad[index], _TRIES
