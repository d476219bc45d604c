"""Where training can be taken up again: everything that the next steps depend on, by value.

A fit whose number of steps was given ends with a falling rate, and so does not pass through the point at
which a longer one would be. It is therefore taken up at the step where the rate began to fall, up to which
all longer fits do the same (Hagele et al. 2024, "Scaling laws and compute-optimal training beyond fixed
training durations": one run at the full rate, a fall for every length).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference.story.observations import Observation
from inference.story.structure import Structure
from inference.svi.held_out import Watch
from inference.svi.minibatch import Batches
from inference.svi.request import Request
from inference.svi.restart import Restart
from inference.svi.step import Count


@dataclass(frozen=True)
class Checkpoint:
    """One restart between two steps.

    Attributes:
        values: of parameters and buffers, of story, guide and adversary.
        optimizers: states, an adversary's last.
        rule: what paces and ends the steps.
        count, usual: what happened to the steps, and the usual gradient norm.
        batches: random state at which the epoch began, and how many batches it has given.
        watch: of held-out rows; ``None`` without.
        noise: random states, the CPU's first.
    """

    values: list[Tensor]
    optimizers: list[Any]
    rule: Mapping[str, Any]
    count: Count
    usual: float
    batches: tuple[Tensor, int]
    watch: Any
    noise: list[Tensor]

    @property
    def by_itself(self) -> bool:
        """Whether the rule ends the fit by itself and knows no falling rate."""
        return "_strikes" in self.rule


@dataclass(frozen=True)
class Resumed:
    """From where one restart goes on, and to how many steps in all; ``None`` begins anew."""

    checkpoint: Checkpoint | None
    total: int


@dataclass(frozen=True)
class Training:
    """What a fit by SVI was asked for and came to, so that it can be continued.

    Attributes:
        structure, observations, request, draws, seeds, seed: as they were fitted.
        resumed: where each restart may be taken up, and how many steps it was planned or came to have.
    """

    structure: Structure
    observations: Mapping[str, Observation]
    request: Request
    draws: int
    seeds: list[int]
    seed: int
    resumed: list[Resumed]


def taken(one: Restart, batches: Batches, watch: Watch | None) -> Checkpoint:
    """Copies of all that the next steps of a restart depend on."""
    stepper, rule = one.running
    return Checkpoint(
        [v.detach().clone() for v in _tensors(one)],
        [deepcopy(o.state()) for o in stepper.optimizers],
        rule.state(),
        replace(stepper.count),
        stepper.usual,
        batches.place(),
        None if watch is None else watch.state(),
        [torch.random.get_rng_state(), *_on_devices()],
    )


def put_back(one: Restart, batches: Batches, watch: Watch | None, resumed: Resumed) -> None:
    """Bring a fresh restart to where another one was, with so many steps in all before it."""
    stepper, rule = one.running
    rule.total = stepper.total = resumed.total
    found = resumed.checkpoint
    if found is None:
        return
    with torch.no_grad():
        for tensor, value in zip(_tensors(one), found.values, strict=True):
            tensor.copy_(value)
    for optimizer, state in zip(stepper.optimizers, found.optimizers, strict=True):
        optimizer.restore(deepcopy(state))
    rule.restore(found.rule)
    stepper.count, stepper.usual = replace(found.count), found.usual
    if watch is not None:
        watch.restore(found.watch)
    batches.go_to(*found.batches)
    torch.random.set_rng_state(found.noise[0])
    for device, state in enumerate(found.noise[1:]):
        torch.cuda.set_rng_state(state, device)


def _tensors(one: Restart) -> list[Tensor]:
    """What training changes, in an order that all restarts of one request share."""
    programs = (one.model.story, one.guide, one.objective.adversary)
    modules = [p for p in programs if isinstance(p, torch.nn.Module)]
    others = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return list({id(t): t for t in (*one.params, *others)}.values())


def _on_devices() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
