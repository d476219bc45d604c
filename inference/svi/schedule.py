"""How fast to step and when to stop: rules that know the noise of the ELBO."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.svi.optimizers import Optimizer

WINDOW = 200  # steps whose mean ELBO is compared with that of the window before
CAP = 20_000  # steps at which an unconverged fit is given up
_STRIKES = 3  # windows in a row without progress that end the fit
_EPOCHS = 400  # a network's cap: how often it sees each row, at least ...
_FEWEST = 2_000  # ... so many steps, however few the rows
_STABLE = 0.7  # share of the steps at the full rate, where their number is given
_JUDGED = 100  # steps at the full rate below which nothing can be said about convergence
_RISE = 50  # steps over which a network's rate rises
_NEGLIGIBLE = 0.002  # nats per row that a quarter of the steps may still gain


def cap(network: bool, steps_per_epoch: int) -> int:
    """The number of steps at which a fit is given up, where the user has given none.

    Example:
        >>> cap(True, 3), cap(True, 20), cap(False, 3)
        (2000, 8000, 20000)
    """
    return min(CAP, max(_FEWEST, _EPOCHS * steps_per_epoch)) if network else CAP


class Halving:
    """Halve the rate where the ELBO stands still: for pyro.param and small modules.

    The mean ELBO of a window of 200 steps is compared with that of the window before. If it is not
    better by more than the standard error of the difference, the rate is halved (where the optimizer is
    ours); the third such window in a row ends the fit. Parameters are then the averages over the last
    window (Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"), which
    takes out the jitter of single steps.

    Args:
        optimizer: that makes the steps.
        params: what it changes.
        total: steps at which the fit is given up.

    Attributes:
        converged: whether the rule ended the fit.
        elbo: mean over the last full window, in nats.
        steps: how many were taken.
    """

    def __init__(self, optimizer: Optimizer, params: Sequence[Tensor], total: int) -> None:
        self.optimizer, self.params, self.total = optimizer, params, total
        self.converged, self.elbo, self.steps = False, -math.inf, 0
        self._window: list[float] = []
        self._before: tuple[float, float] | None = None
        self._strikes, self._factor = 0, 1.0
        self._sums: list[Tensor] | None = None

    def add(self, elbo: float, *, judged: bool = True) -> bool:
        """Take in one step's ELBO (only counted where it is not judged); return whether the fit is over."""
        self.steps += 1
        if not judged:
            return self.steps >= self.total
        self._window.append(elbo)
        if self.optimizer.ours:
            if self._sums is None:
                self._sums = [p.detach().clone() for p in self.params]
            else:
                torch._foreach_add_(self._sums, [p.detach() for p in self.params])
        if len(self._window) == WINDOW:
            self._close()
            if not self.converged:
                self._window, self._sums = [], None
        return self.converged or self.steps >= self.total

    def _close(self) -> None:
        now = _mean(self._window)
        self.elbo = now[0]
        before, self._before = self._before, now
        if before is None or now[0] - before[0] > math.hypot(now[1], before[1]):
            self._strikes = 0
            return
        self._strikes += 1
        self.converged = self._strikes == _STRIKES
        if not self.converged:
            self._factor /= 2
            self.optimizer.pace(self._factor)

    @property
    def at_branch(self) -> bool:
        """Whether a longer fit would go on from here: at the end, before the parameters are averaged."""
        return self.converged or self.steps >= self.total

    def state(self) -> dict[str, Any]:
        """What later steps depend on; a rule that has ended the fit forgets its count of idle windows."""
        ended = self.converged
        return {
            "steps": self.steps, "elbo": self.elbo, "_before": self._before, "_factor": self._factor,
            "_strikes": 0 if ended else self._strikes, "_window": [] if ended else list(self._window),
            "_sums": None if ended or self._sums is None else [s.clone() for s in self._sums],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up an earlier rule; the optimizer's state holds the rate."""
        vars(self).update({**state, "_window": list(state["_window"])})
        if self._sums is not None:
            self._sums = [s.clone() for s in self._sums]

    def hurry(self) -> bool:
        """Held-out rows say that more steps do not help: stop."""
        self.converged = True
        return True

    def finish(self) -> None:
        """Average the parameters over the last window, if the rule ended the fit there."""
        if not math.isfinite(self.elbo) and self._window:
            self.elbo = _mean(self._window)[0]
        if self.optimizer.ours and self.converged and self._sums and len(self._window) == WINDOW:
            with torch.no_grad():
                for p, total in zip(self.params, self._sums, strict=True):
                    p.copy_(total / WINDOW)


class Cooldown:
    """A full rate until the ELBO stands still, then a rate that falls to zero: for networks, and budgets.

    A network trained at one rate jitters around a worse point than the rate could reach; lowered to zero over
    the last quarter or so of the steps, it gains about as much as under a cosine schedule, whose length
    must be known beforehand (Hagele et al. 2024, "Scaling laws and compute-optimal training beyond fixed
    training durations", where 1 - sqrt was the best shape). With a number of steps given, all are taken, the
    last three tenths of them at the falling rate. Without, the fall begins when the last quarter of the steps
    gained less than a standard error, or than 0.002 nats per row, over the quarter before.

    Args:
        optimizer: that makes the steps.
        total: the number of steps, or the most that are taken.
        given: whether the user has given them.
        rows: how many there are; the ELBO is of all of them.
        judged: whether the loss says anything about progress; an adversary's does not.

    Attributes:
        converged: whether the ELBO stood still at the full rate.
        elbo: mean over the last steps, in nats.
        steps: how many were taken.
    """

    def __init__(
        self, optimizer: Optimizer, total: int, *, given: bool, rows: int, judged: bool = True
    ) -> None:
        self.optimizer, self.total, self.given, self.rows = optimizer, total, given, rows
        self.judged, self.converged, self.elbo, self.steps = judged, False, -math.inf, 0
        self._values: list[float] = []
        self._fall = max(1, math.ceil(_STABLE * total))
        self._end = total
        self._hurried = False
        optimizer.pace(1 / _RISE)

    def add(self, elbo: float, *, judged: bool = True) -> bool:
        """Take in one step's ELBO (only counted where it is not judged); return whether the fit is over."""
        self.steps += 1
        if judged:
            self._values.append(elbo)
        if self.steps == self._fall or (not self.given and self.steps < self._fall and self._due()):
            self.converged = self.converged or self._still()
            if self.converged:
                self._begin()
        self.optimizer.pace(self._factor())
        return self.steps >= self._end

    def _due(self) -> bool:
        return len(self._values) >= 4 * WINDOW and self.steps % WINDOW == 0

    def _begin(self) -> None:
        """Begin the fall now, unless the number of steps is given and it is not yet time."""
        if not self.given and self.steps < self._fall:
            self._fall_now()

    def _factor(self) -> float:
        if self.steps <= self._fall:
            return min(1.0, (self.steps + 1) / min(_RISE, 1 + self._fall))
        share = (self.steps - self._fall) / max(1, self._end - self._fall)
        return max(0.0, 1 - math.sqrt(share))

    def _still(self) -> bool:
        if not self.judged:
            return True
        quarter = len(self._values) // 4
        if len(self._values) < _JUDGED:
            return False
        now, before = _mean(self._values[-quarter:]), _mean(self._values[-2 * quarter : -quarter])
        return now[0] - before[0] <= max(math.hypot(now[1], before[1]), _NEGLIGIBLE * self.rows)

    @property
    def at_branch(self) -> bool:
        """Whether longer fits go on from here: the rate begins to fall now, and had risen as theirs does."""
        return self.steps == self._fall >= _RISE

    def state(self) -> dict[str, Any]:
        """What later steps depend on, at a branch."""
        return {"steps": self.steps, "_values": list(self._values), "_hurried": self._hurried}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up an earlier rule, with a fall of its own length unless held-out rows had asked for it."""
        vars(self).update({**state, "_values": list(state["_values"])})
        self.given, self.converged = True, self._hurried
        self._fall, self._end = max(self.steps, math.ceil(_STABLE * self.total)), self.total
        if self._hurried:
            self._fall_now()

    def _fall_now(self) -> None:
        self._fall = self.steps
        self._end = min(self.total, self.steps + max(2 * WINDOW, self.steps // 3))

    def hurry(self) -> bool:
        """Held-out rows say that more steps at this rate do not help: let it fall, or stop."""
        self.converged = True
        if self.steps >= self._fall:
            return True
        self._hurried = True
        self._fall_now()
        return False

    def finish(self) -> None:
        """The ELBO of the last steps, at a rate near zero."""
        last = max(25, (self._end - self._fall) // 3)
        if self._values:
            self.elbo = _mean(self._values[-last:])[0]


Schedule = Halving | Cooldown


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    kept = torch.tensor([v for v in values if math.isfinite(v)] or [-math.inf], dtype=torch.float64)
    spread = float(kept.std()) if len(kept) > 1 else 0.0
    return float(kept.mean()), spread / math.sqrt(len(kept))
