"""A progress bar with the ELBO, on a terminal and after one second; silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

Report = Callable[[str, int, float | None], None]  # rung, step, ELBO in nats; None where there is none

_DELAY = 1.0  # seconds before a bar appears
_MEMORY = 0.8  # of the ELBO that the bar shows, by reports


class Progress:
    """Counts restarts or data sets on a bar, shows the ELBO, smoothed, and keeps the history.

    Args:
        total: number of restarts.
        unit: what is counted.
        show: ``True`` or ``False``; ``None`` shows it when standard error is a terminal.

    Attributes:
        history: list of (rung, step, elbo in nats).
    """

    def __init__(self, total: int, show: bool | None = None, unit: str = "restart") -> None:
        self.history: list[tuple[str, int, float]] = []
        self._show = sys.stderr.isatty() if show is None else show
        self._total, self._unit = total, unit
        self._bar: Any = None
        self._smooth: float | None = None

    def __enter__(self) -> Progress:
        if self._show:
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, desc="fit", unit=self._unit, delay=_DELAY, file=sys.stderr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, rung: str, step: int, elbo: float | None) -> None:
        """Record one accepted step; where there is no ELBO, only show that work goes on."""
        if elbo is None:
            if self._bar is not None:
                self._bar.set_postfix_str(f"{rung}, {step} gradient calls")
            return
        fresh = self._smooth is None or self.history[-1][1] >= step  # a restart begins
        self._smooth = elbo if fresh else _MEMORY * float(self._smooth or 0.0) + (1 - _MEMORY) * elbo
        self.history.append((rung, step, elbo))
        if self._bar is not None:
            self._bar.set_postfix_str(f"{rung} step {step}, ELBO {self._smooth:,.2f} nats")

    def restart_done(self, count: int = 1) -> None:
        """Advance the bar by one restart, or several."""
        if self._bar is not None:
            self._bar.update(count)
