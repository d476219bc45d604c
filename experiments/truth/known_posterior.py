"""A posterior that is known: a story, its data, and the true moments, density and draws of its unknowns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from experiments.compare.right import Judged, Moments, judge

Values = Mapping[str, Tensor]


def themselves(values: Values) -> Values:
    """The sites as they are."""
    return values


@dataclass(frozen=True)
class KnownPosterior:
    """A fit's question with its answer.

    Attributes
    ----------
    story, args, data
        What is fitted.
    moments
        Quantity -> its true moments.
    sample
        (number, seed) -> independent exact draws of the latent sites, (number, *site shape).
    log_prob
        The sites' true posterior density at draws (number, *site shape), (number,), in nats.
    log_evidence
        Log p(data), in nats.
    quantities
        From draws of the sites (deterministic ones included), with any leading dimensions, to the
        quantities that are judged; by default the sites.
    deterministic
        Adds to exact draws what the story computes from them and ``quantities`` reads.
    never_refused
        Whether a fit that refuses it falls short.
    """

    story: Callable[..., Any]
    args: tuple[Any, ...]
    data: Mapping[str, Tensor]
    moments: Mapping[str, Moments]
    sample: Callable[[int, int], dict[str, Tensor]]
    log_prob: Callable[[Values], Tensor]
    log_evidence: float
    quantities: Callable[[Values], Values] = themselves
    deterministic: Callable[[Values], Values] = themselves
    never_refused: bool = False

    def judge(self, draws: Values, ess: float | None = None) -> Judged:
        """Hold draws of the sites against the truth, by the rule of :mod:`experiments.compare.right`."""
        return judge(self.quantities(draws), self.moments, ess)

    def exact_draws(self, num_samples: int, seed: int = 0) -> Values:
        """Independent exact draws, with what the story computes from them."""
        return self.deterministic(self.sample(num_samples, seed))
