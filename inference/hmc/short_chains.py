"""Polish a guide by many short chains of Hamiltonian Monte Carlo, all batched, until they have converged.

Chains start from a guide's draws and move in its whitened coordinates. They are tuned together
(:mod:`inference.hmc.adaptation`), then run in rounds until they pass the stop rule
(:mod:`inference.hmc.stop_rule`) or a cap on gradient calls is met. Restarts are independent replicates:
tuning is shared and then frozen, draws are never pooled. Nothing has a fixed number of steps.

Source: Hoffman and Sountsov (2022), "Tuning-free generalized Hamiltonian Monte Carlo", AISTATS (many chains
that tune each other); Margossian et al. (2024), "Nested R-hat", Bayesian Analysis (many short chains).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference.guides.gaussian import ValueAndGrad
from inference.hmc.adaptation import ACCEPTANCE, Sampler, warm_up
from inference.hmc.chain_record import Record
from inference.hmc.hamiltonian import Chains, Metric
from inference.hmc.stop_rule import Judgement, judge, outlook
from inference.runtime.progress import Report

NAME = "hmc"
ACCEPTANCES = (ACCEPTANCE, 0.99)  # tried in turn while trajectories diverge
_SHORTEST = 10  # draws per chain in the first round
WARM_UP = 0.5  # share of the budget that warm-up may take
_LEAST, _GROWTH = 1.3, 3.0  # factors by which the draws may grow from round to round
_SOME = 400  # effective draws, in all, that diagnostics need (Vehtari et al. 2021)
_PLENTY = 2000  # effective draws that are enough, however many are asked for: 2 % of a standard deviation
_AMPLE = 20_000  # effective draws beyond which none are wished for
_CHEAP = 0.25  # share of the budget up to which the wish for more than enough is followed


@dataclass(frozen=True)
class Polished:
    """What the chains brought.

    Attributes:
        draws: (restarts, draws, size), equally weighted. The draws of one chain follow one another, so that
            autocorrelations, as ArviZ takes them, show what dependence is left.
        log_p: (restarts, draws) log density there, in nats.
        rhat: largest nested R-hat, over quantities, bulk and folded: of the restarts, and of groups of chains
            with similar starts.
        rhat_limit: what it had to stay below.
        ess_bulk, ess_tail: smallest effective number of draws over quantities, of all chains together.
        ebfmi: energy Bayesian fraction of missing information; below .3 the energy mixes slowly.
        acceptance: mean over chains and transitions after warm-up.
        divergences: trajectories after warm-up that diverged; ``divergence_share`` is their share.
        gradient_calls: batched gradients, of all chains at once.
        chain_draws: transitions per chain that were judged.
        converged: whether the stop rule was passed.
        reasons: sentences that say what was not passed; empty if ``converged``.
    """

    draws: Tensor
    log_p: Tensor
    rhat: float
    rhat_limit: float
    ess_bulk: float
    ess_tail: float
    ebfmi: float
    acceptance: float
    divergences: int
    divergence_share: float
    gradient_calls: int
    chain_draws: int
    converged: bool
    reasons: tuple[str, ...]


def polish(
    value_and_grad: ValueAndGrad,
    start: Tensor,
    draws: int,
    generator: torch.Generator,
    report: Report | None = None,
    budget: int = 20_000,
    judged: Callable[[Tensor], Tensor] | None = None,
) -> Polished:
    """Run many short chains from a guide's draws until they have converged.

    Args:
        value_and_grad: (rows, size) float64 -> log density (rows,) in nats and gradient (rows, size). It is
            always called with all chains, restart by restart, in the order of ``start``; so the rows of
            different restarts may be pulled back through different guides. A value or a gradient that is
            not finite rejects.
        start: (restarts, chains, size): draws from the guide, in whitened coordinates. 64 chains per
            restart are enough; their product with the number of restarts should exceed the size where
            the guide is poor.
        draws: per restart.
        generator: of all random numbers.
        report: called with ("hmc", gradient calls so far, None): chains have no ELBO.
        budget: batched gradient calls after which the chains are given up; the last trajectories end.
        judged: (rows, n, size) -> (rows, n, quantities), n draws of each row: what convergence is judged by,
            beside the log density; needed where restarts have coordinates of their own. By default the
            coordinates themselves.

    Returns:
        :class:`Polished`. Its draws are those of the chains in any case; look at ``converged`` first.

    Raises:
        ValueError: if ``start`` is not a float64 tensor of 3 dimensions with at least 4 chains in all, or no
            chain of a restart has a finite log density.

    Example:
        >>> import torch
        >>> def value_and_grad(e):
        ...     return -0.5 * (e * e).sum(-1), -e
        >>> generator = torch.Generator().manual_seed(0)
        >>> start = torch.randn(4, 32, 3, generator=generator, dtype=torch.float64)
        >>> polished = polish(value_and_grad, start, 500, generator)
        >>> polished.converged, polished.draws.shape
        (True, torch.Size([4, 500, 3]))
    """
    _check(start, draws)
    sampler = begin(value_and_grad, start, generator)
    origin = sampler.chains
    measure = judged or (lambda e: e)
    goal = _Goal.of(start.shape[0], start.shape[1], draws, budget)
    for acceptance in ACCEPTANCES:
        settled = warm_up(sampler, int(budget * WARM_UP), acceptance)
        record = Record(start.shape[0])
        judgement = _rounds(sampler, record, origin, goal, measure, report)
        if not judgement.diverging or sampler.gradient_calls >= budget * WARM_UP:
            break
    if not settled and judgement.reasons:
        judgement = replace(judgement, reasons=(*judgement.reasons, UNSETTLED))
    return _polished(sampler, record, judgement, draws)


UNSETTLED = "Warm-up did not come to rest: step size, trajectory length or metric were still changing."


def begin(target: ValueAndGrad, start: Tensor, generator: torch.Generator) -> Sampler:
    """Chains at their starts; those without a finite density take the start of another of their restart.

    Args:
        target: (rows, size) -> log densities and gradients.
        start: (restarts, chains, size).
        generator: of the chains.
    """
    e = start.flatten(0, 1).clone()
    log_p, grad = target(e)
    fine = torch.isfinite(log_p + grad.sum(-1)).unflatten(0, start.shape[:2])
    if not bool(fine.any(1).all()):
        raise ValueError(
            "start: expected a finite log density and gradient for at least one chain of every restart, got "
            f"none in restart {int((~fine.any(1)).nonzero()[0])}."
        )
    if not bool(fine.all()):
        source = torch.arange(len(e), device=e.device).unflatten(0, start.shape[:2]).clone()
        for group, good in zip(source, fine, strict=True):
            kept = group[good]
            group[~good] = kept[torch.arange(int((~good).sum()), device=e.device) % len(kept)]
        e, log_p, grad = (x[source.flatten()] for x in (e, log_p, grad))
    size = start.shape[-1]
    metric = Metric.of_scale(torch.ones(size, dtype=e.dtype, device=e.device))
    # The largest stable step falls with size^(-1/4) (Neal 2011, section 5.4.4).
    return Sampler(target, Chains(e, log_p, grad), start.shape[0], generator, metric, size**-0.25)


@dataclass(frozen=True)
class _Goal:
    """Effective draws without which the chains are refused, and those that are gone for while it is cheap."""

    needed: float
    wanted: float
    shortest: int
    budget: int

    @classmethod
    def of(cls, restarts: int, chains: int, draws: int, budget: int) -> _Goal:
        asked = restarts * draws
        needed, wanted = (max(min(asked, enough), _SOME) for enough in (_PLENTY, _AMPLE))
        return cls(needed, wanted, max(_SHORTEST, math.ceil(draws / chains)), budget)

    def reached(self, judgement: Judgement, calls: int) -> bool:
        """Whether to stop: no objection is left, and no wish for more, or it was costly already."""
        return not judgement.reasons and (judgement.ess >= self.wanted or calls > _CHEAP * self.budget)

    def next(self, record: Record, ess: float, least: float) -> int:
        """How many transitions to have before the next judgement."""
        growth = min(_GROWTH, max(least, 1.1 * self.wanted / max(ess, 1.0)))
        return max(self.shortest, record.seen + math.ceil(record.kept * (growth - 1)))


def _rounds(
    sampler: Sampler,
    record: Record,
    origin: Chains,
    goal: _Goal,
    measure: Callable[[Tensor], Tensor],
    report: Report | None,
) -> Judgement:
    """Sample until the judgement is favourable; forget the first half where chains had not yet mixed."""
    first = measure(origin.e[:, None])[:, 0], origin.log_p
    target, forecast = goal.shortest, True
    while True:
        over = record.fill(sampler, target, goal.budget)
        if report is not None:
            report(NAME, sampler.gradient_calls, None)
        if forecast and not over:
            target, forecast = goal.next(record, outlook(record, measure), 1.0), False
            if target > record.seen:
                continue
        judgement = judge(record, first, goal.needed, measure)
        if over:
            return judgement.out_of_budget(goal.budget)
        if judgement.diverging or goal.reached(judgement, sampler.gradient_calls):
            return judgement
        if judgement.mixing:
            record.forget()
        target = goal.next(record, judgement.ess, _LEAST)


def _check(start: Tensor, draws: int) -> None:
    if start.dim() != 3 or start.dtype != torch.float64 or start.shape[0] * start.shape[1] < 4:
        raise ValueError(
            "start: expected a float64 tensor (restarts, chains, size) with at least 4 chains in all, got "
            f"{start.dtype} {tuple(start.shape)}."
        )
    if draws < 1:
        raise ValueError(f"draws: expected a positive number, got {draws}.")


def _polished(sampler: Sampler, record: Record, judgement: Judgement, draws: int) -> Polished:
    e, log_p = record.thinned(draws)
    return Polished(
        draws=e,
        log_p=log_p,
        rhat=judgement.rhat,
        rhat_limit=judgement.limit,
        ess_bulk=judgement.ess_bulk,
        ess_tail=judgement.ess_tail,
        ebfmi=record.ebfmi(),
        acceptance=record.acceptance,
        divergences=record.divergences,
        divergence_share=record.divergence_share,
        gradient_calls=sampler.gradient_calls,
        chain_draws=record.kept,
        converged=not judgement.reasons,
        reasons=judgement.reasons,
    )
