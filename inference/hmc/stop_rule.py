"""The stop rule of many short chains: do they agree, have they forgotten their starts, are there enough?

Three questions, each put to every quantity and to the log density, by ranks and by folded ranks:

- *Do the restarts agree?* Nested R-hat with a superchain per restart.
- *Are the starts forgotten?* Restarts that start from the same guide agree from the first step on, even
  if the guide is wrong. So nested R-hat is taken once more with superchains of like starts: for each
  quantity, the chains in the order of their start in that quantity, cut into 8. Chains that still know
  where they began cannot have reached the target from a wrong beginning. This is the nested design of
  Margossian et al. (2024), whose superchains share a start, one quantity at a time.
- *Are there enough draws?* Bulk and tail effective sample sizes, from autocorrelations within and between
  chains: chains stuck in different places count as few draws.

R-hat must stay below 1.01, or what chance allows for the effective draws at hand.

Divergences are where a trajectory could not enter a region, a neck of a funnel say. If chains at
stationarity attempt to enter and leave a region of mass m about once in tau transitions, a share m / tau of
trajectories diverge; so m is about tau times the share. A region of mass .002 that is missed, even 5 standard
deviations out, moves a mean by .01 and a standard deviation by 2.5 %; that is what is tolerated.

Source: Margossian et al. (2024), "Nested R-hat", Bayesian Analysis; Vehtari et al. (2021),
"Rank-normalization, folding, and localization", Bayesian Analysis 16; Betancourt (2017), "A conceptual
introduction to Hamiltonian Monte Carlo", arXiv:1701.02434, section 6.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference.hmc.chain_record import Record
from inference.hmc.convergence import Ranks, chunk, chunks, ess_raw, rhat_limit

_GROUPS = 8  # of chains with like starts
HIDDEN = 0.002  # mass that divergences may hide: see above


@dataclass(frozen=True)
class Judgement:
    """What the draws so far say.

    Attributes:
        rhat: largest nested R-hat; ``limit`` what it must stay below.
        ess_bulk, ess_tail: smallest over quantities.
        mixing: whether chains disagree or remember their starts.
        diverging: whether divergences hide too much.
        reasons: sentences; empty where all is well.
    """

    rhat: float
    limit: float
    ess_bulk: float
    ess_tail: float
    mixing: bool
    diverging: bool
    reasons: tuple[str, ...]

    @property
    def ess(self) -> float:
        """The smaller effective number of draws."""
        return min(self.ess_bulk, self.ess_tail)

    def out_of_budget(self, budget: int) -> Judgement:
        """The same with a remark that the budget ended, where it had something to object."""
        if not self.reasons:
            return self
        words = f"The budget of {budget} batched gradient calls was used up; allow more, or reparametrize."
        return replace(self, reasons=(*self.reasons, words))


def judge(
    record: Record,
    origin: tuple[Tensor, Tensor],
    needed: float,
    measure: Callable[[Tensor], Tensor],
) -> Judgement:
    """Judge the draws of all chains.

    Args:
        record: of the chains after warm-up.
        origin: quantities (chains, quantities) and log densities (chains,) at the starts.
        needed: effective draws, bulk and tail, of all chains together.
        measure: (chains, draws, size) -> (chains, draws, quantities).
    """
    values = _values(record, measure)
    start = torch.cat([origin[0], origin[1][:, None]], -1)
    ess, rhat = _statistics(values, start, record.restarts)
    bulk, tail = (float(torch.nan_to_num(x, nan=0.0).min()) for x in ess)
    between, memory = (float(torch.nan_to_num(x, nan=torch.inf).max()) for x in rhat)
    size, groups = values.shape[-1], _groups(len(values))
    between_limit = rhat_limit(max(2, record.restarts), bulk / record.restarts, size)
    memory_limit = rhat_limit(groups, bulk / groups, size)
    reasons = []
    if not between < between_limit:
        reasons.append(
            f"The restarts' chains disagree: nested R-hat is {between:.3f}, above {between_limit:.3f}. They "
            f"may sit in different modes, or move too slowly."
        )
    if not memory < memory_limit:
        reasons.append(
            f"The chains have not forgotten where they started: nested R-hat of chains with like starts is "
            f"{memory:.3f}, above {memory_limit:.3f}. They may be stuck in different modes, or be slow."
        )
    if not min(bulk, tail) >= needed:
        reasons.append(
            f"The chains brought {min(bulk, tail):.0f} effective draws (bulk {bulk:.0f}, tail {tail:.0f}), "
            f"fewer than the {needed:.0f} that are needed."
        )
    hidden = diverged(record, bulk)
    worst = max((between, between_limit), (memory, memory_limit), key=lambda pair: pair[0] / pair[1])
    mixing = not (between < between_limit and memory < memory_limit)
    return Judgement(*worst, bulk, tail, mixing, bool(hidden), (*reasons, *hidden))


def diverged(record: Record, ess: float) -> list[str]:
    """What to object to divergences: nothing, or a sentence.

    Args:
        record: of the chains after warm-up.
        ess: effective number of draws of the slowest quantity, of all chains together.
    """
    time = max(1.0, record.kept * record.rows / max(ess, 1.0))  # transitions per effective draw
    if record.divergence_share * time <= HIDDEN:
        return []
    return [
        f"{record.divergences} trajectories diverged ({record.divergence_share:.2%}): a region of strong "
        f"curvature, the neck of a funnel say, is not entered. Reparametrize (non-centred)."
    ]


def outlook(record: Record, measure: Callable[[Tensor], Tensor]) -> float:
    """Effective number of draws so far, without ranks: a cheap forecast."""
    values = _values(record, measure)
    return float(torch.nan_to_num(ess_raw(values), nan=1.0).min())


def _values(record: Record, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """What is judged: (chains, draws, quantities and log density)."""
    e = record.e
    return torch.cat([measure(e), record.log_p[..., None]], -1)


def _groups(chains: int) -> int:
    return min(_GROUPS, chains // 2)


def _statistics(values: Tensor, start: Tensor, restarts: int) -> tuple[Tensor, Tensor]:
    """Of every quantity: effective sizes (bulk, tail) and nested R-hats (of restarts, of like starts)."""
    groups = _groups(len(values))
    order = start.argsort(0)[: len(values) // groups * groups].T
    ess, rhat = [], []
    for part, ordered in zip(chunks(values), order.split(chunk(values)), strict=True):
        ranks = Ranks.of(part)
        one = torch.ones(len(part), dtype=values.dtype, device=values.device)
        between = ranks.nested(restarts) if restarts > 1 else one
        ess.append(torch.stack(ranks.ess()))
        rhat.append(torch.stack([between, ranks.nested(groups, ordered)]))
    return torch.cat(ess, 1), torch.cat(rhat, 1)
