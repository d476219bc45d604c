"""Adam with a rate that follows a schedule, as ``fit(..., optim=...)`` takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["contest", "one_cycle", "one_cycle_of_rate"]


def one_cycle(rate: float, steps: int) -> Callable[[Sequence[Tensor]], Any]:
    """Adam whose rate climbs in a tenth of the steps, and falls to nothing (Smith and Topin 2018).

    Its momentum falls from .95 to .85 and climbs again meanwhile.
    """

    def optimizer(params: Sequence[Tensor]) -> Any:
        adam = torch.optim.Adam(params, lr=rate)
        return adam, torch.optim.lr_scheduler.OneCycleLR(adam, rate, steps, pct_start=0.1)

    return optimizer


def one_cycle_of_rate(rate: float, steps: int, beta: float) -> Callable[[Sequence[Tensor]], Any]:
    """The same cycle of the rate over one more step, of ten at least; momentum stays ``beta``."""

    def optimizer(params: Sequence[Tensor]) -> Any:
        adam = torch.optim.Adam(params, rate, betas=(beta, 0.999))
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            adam, rate, total_steps=max(steps, 10) + 1, pct_start=0.1, cycle_momentum=False
        )
        return adam, cycle

    return optimizer


def contest(rate: float, steps: int) -> Callable[[Sequence[Tensor]], Any]:
    """Adam with little momentum, as adversaries need it, its rate falling to a hundredth."""

    def optimizer(params: Sequence[Tensor]) -> Any:
        adam = torch.optim.Adam(params, lr=rate, betas=(0.5, 0.99))
        return adam, torch.optim.lr_scheduler.ExponentialLR(adam, 0.01 ** (1 / steps))

    return optimizer
