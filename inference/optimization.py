"""How SVI steps and when it stops: the loss, the optimizer, and a rule that knows the ELBO's noise."""

from __future__ import annotations

import math
from copy import copy, deepcopy
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from pyro.infer.elbo import ELBO
from pyro.optim import PyroOptim
from torch import Tensor

WINDOW = 200  # steps whose mean ELBO is compared with that of the window before
CAP = 20_000  # steps at which an unconverged fit is given up
_RATE = 0.05  # Adam's first rate, in unconstrained units per step
_STRIKES = 3  # windows in a row without progress that end the fit


def choose_loss(loss: Any, enumerates: bool, nesting: int) -> ELBO:
    """Return the ELBO to use: the user's, or Pyro's with the discrete sites summed out.

    Args:
        loss: a Pyro ELBO instance, or ``None``.
        enumerates: whether discrete sites are summed out.
        nesting: largest number of nested plates in the story.

    Raises:
        ValueError: for anything else, or an ELBO that does not sum discrete sites out where that is
            needed.
    """
    if loss is None:
        return TraceEnum_ELBO(max_plate_nesting=nesting) if enumerates else Trace_ELBO()
    name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
    if not isinstance(loss, ELBO) or name.startswith("Jit"):
        raise ValueError(
            f"loss: expected None or an instance of a Pyro ELBO such as Trace_ELBO(num_particles=4), "
            f"not a Jit one, got {name}. Losses on (samples, data) are not in this version."
        )
    if enumerates and not isinstance(loss, TraceEnum_ELBO):
        raise ValueError(
            f"loss: the story has discrete sites that are summed out, expected TraceEnum_ELBO, got {name}."
        )
    loss = copy(loss)
    if loss.max_plate_nesting == math.inf:
        loss.max_plate_nesting = nesting
    return loss


def choose_optimizer(optim: Any) -> PyroOptim:
    """Return a fresh Pyro optimizer, one per restart.

    Args:
        optim: ``None`` (Adam), a Pyro optimizer (copied), a torch optimizer class, or a
            ``functools.partial`` of one that sets its options.

    Raises:
        ValueError: for anything else; an instance of a torch optimizer holds parameters already.
    """
    if optim is None:
        return PyroOptim(torch.optim.Adam, {"lr": _RATE})
    kind = optim.func if isinstance(optim, partial) else optim
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.LBFGS:
        return PyroOptim(optim, {})
    if type(optim) is PyroOptim or (isinstance(optim, PyroOptim) and not hasattr(optim, "step")):
        return deepcopy(optim)
    raise ValueError(
        f"optim: expected None, a Pyro optimizer such as pyro.optim.Adam({{'lr': 0.01}}), a torch "
        f"optimizer class or functools.partial of one (not LBFGS, which needs a closure; no scheduler), "
        f"got {optim!r}."
    )


class Schedule:
    """Decide after every step whether to go on, and halve the rate where the ELBO stands still.

    The mean ELBO of a window of 200 steps is compared with that of the window before. If it is not
    better by more than the standard error of the difference, the rate is halved (where the optimizer is
    ours); the third such window in a row ends the fit. Parameters are then the averages over the last
    window (Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"), which
    takes out the jitter of single steps.

    Args:
        optimizer: that makes the steps.
        ours: whether its rate may be changed and its parameters averaged.

    Attributes:
        converged: whether the rule ended the fit.
        elbo: mean over the last full window, in nats.
        steps: how many were taken.
    """

    def __init__(self, optimizer: PyroOptim, ours: bool) -> None:
        self.optimizer, self.ours = optimizer, ours
        self.converged, self.elbo = False, -math.inf
        self.steps = 0
        self._window: list[float] = []
        self._before: tuple[float, float] | None = None
        self._strikes = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, elbo: float) -> bool:
        """Take in one step's ELBO; return whether the fit has converged."""
        self.steps += 1
        self._window.append(elbo)
        if self.ours:
            for name, value in pyro.get_param_store()._params.items():
                total = self._sums.get(name)
                self._sums[name] = value.detach().clone() if total is None else total.add_(value.detach())
        if len(self._window) < WINDOW:
            return False
        self._close()
        if not self.converged:
            self._window, self._sums = [], {}
        return self.converged

    def _close(self) -> None:
        values = torch.tensor(self._window, dtype=torch.float64)
        now = (float(values.mean()), float(values.std()) / math.sqrt(WINDOW))
        self.elbo = now[0]
        before, self._before = self._before, now
        if before is None or now[0] - before[0] > math.hypot(now[1], before[1]):
            self._strikes = 0
            return
        self._strikes += 1
        self.converged = self._strikes == _STRIKES
        if self.ours and not self.converged:
            for one in self.optimizer.optim_objs.values():
                for group in one.param_groups:
                    group["lr"] /= 2

    def finish(self) -> None:
        """Average the parameters over the last window, if there was a whole one."""
        if not math.isfinite(self.elbo) and self._window:
            self.elbo = sum(self._window) / len(self._window)
        if not self.ours or not self.converged:
            return
        with torch.no_grad():
            for name, value in pyro.get_param_store()._params.items():
                value.copy_(self._sums[name] / WINDOW)
