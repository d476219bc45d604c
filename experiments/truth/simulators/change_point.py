"""Yearly counts whose rate changes once, at an unknown time: rates known, so the time's law is exact.

y ~ Uniform(0 .. steps - 2) is the last step with the early rate, x_t | y ~ Poisson(early) up to it and
Poisson(late) after. p(x) and p(y | x) are sums of ``steps - 1`` terms.

Source: Carlin, Gelfand and Smith (1992), Hierarchical Bayesian analysis of changepoint problems; the numbers
are near those of the British coal-mining disasters 1851-1962 (Jarrett 1979: 3.1 a year until 1890, then 0.9).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Poisson, constraints

from experiments.truth.law import Law

EARLY, LATE = 3.1, 0.9
STEPS = 112


class ChangePoint(Law):
    """A law over counts (steps,); its "classes" are the steps - 1 places of the change.

    Raises
    ------
    ValueError
        If there are fewer than two steps or a rate is not above 0.

    Examples
    --------
    >>> x = torch.cat([torch.full((5,), 4.0), torch.zeros(5)])
    >>> ChangePoint(4.0, 0.5, steps=10).probabilities(x).argmax().item()
    4
    """

    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(self, early: float = EARLY, late: float = LATE, steps: int = STEPS):
        if steps < 2 or not (early > 0 and late > 0):
            raise ValueError(
                "early, late, steps: expected rates above 0 and at least 2 steps, "
                f"got {early}, {late}, {steps}"
            )
        self.early, self.late = early, late
        weights = torch.full((steps - 1,), 1 / (steps - 1), dtype=torch.float64)
        super().__init__(weights, steps, bounds=(0.0, 4 * max(early, late)))

    def log_prob_by_class(self, x: Tensor) -> Tensor:
        """Log p(x | change after step y): (..., steps) -> (..., steps - 1)."""
        early, late = (Poisson(torch.tensor(rate).double()).log_prob(x) for rate in (self.early, self.late))
        gained = (early - late).cumsum(-1)[..., :-1]
        return late.sum(-1, keepdim=True) + gained

    def sample_given(self, y: Tensor) -> Tensor:
        """Draw counts for every change point: (rows,) -> (rows, steps), float64."""
        before = torch.arange(self.event_shape[0]) <= y.unsqueeze(-1)
        return torch.poisson(torch.where(before, self.early, self.late).double())
