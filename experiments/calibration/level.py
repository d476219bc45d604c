"""The judge judged: calibrations of a posterior known to be right, or wrong by a known amount, many times."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from experiments.compare.sbc.calibration import ranks_of
from experiments.compare.sbc.ecdf_bands import rank_test
from experiments.compare.sbc.result import Calibration
from experiments.compare.sbc.tarp import distance_ranks

CORRELATION = 0.8


def repeated(
    repetitions: int, fits: int, draws: int, *, shift: float = 0.0, stddev: float = 1.0, seed: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Ranks of correlated quantities, one set after another: quantity -> (fits,).

    Truths are draws of two-dimensional normal posteriors, so that a posterior with ``shift`` 0 and
    ``stddev`` 1 is right. Judged are both coordinates, their sum, the log density and TARP.
    """
    generator = torch.Generator().manual_seed(seed)
    mix = torch.linalg.cholesky(torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, 2, generator=generator, dtype=torch.float64)

    for _ in range(repetitions):
        mean = 2 * normal(fits)
        truth, drawn = mean + normal(fits) @ mix.T, shift + stddev * normal(fits, draws) @ mix.T
        drawn = mean[:, None] + drawn
        pairs = {
            "first": (truth[:, 0], drawn[..., 0]),
            "second": (truth[:, 1], drawn[..., 1]),
            "sum": (truth.sum(-1), drawn.sum(-1)),
            "log density": (
                _log_density(truth - mean, mix),
                _log_density(drawn - mean[:, None], mix),
            ),
            "TARP": distance_ranks(truth, drawn, generator),
        }
        yield {name: ranks_of(*pair, generator) for name, pair in pairs.items()}


def _log_density(centred: Tensor, mix: Tensor) -> Tensor:
    return -torch.linalg.solve_triangular(mix, centred[..., None], upper=False)[..., 0].square().sum(-1) / 2


def p_values(repetitions: int, fits: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """P-values of right posteriors: of all quantities together (repetitions,), of each (repetitions, 5)."""
    together, each = [], []
    for ranks in repeated(repetitions, fits, draws, seed=seed):
        found = Calibration.of(ranks, {}, draws)
        together.append(found.p_value)
        each.append([one.p_value for one in found.judged.values()])
    return torch.tensor(together), torch.tensor(each)


def simulated_power(
    repetitions: int, fits: int, draws: int, seed: int, shift: float = 0.0, stddev: float = 1.0
) -> float:
    """How often the first coordinate of wrong posteriors leaves its band of 95 %."""
    sets = repeated(repetitions, fits, draws, shift=shift, stddev=stddev, seed=seed)
    ranks = torch.stack([one["first"] for one in sets])
    return float((rank_test(fits, draws).p_values(ranks) <= 0.05).double().mean())


def exact_power(fits: int, draws: int, shift: float = 0.0, stddev: float = 1.0) -> float:
    """The same by the recursion, without simulation."""
    test = rank_test(fits, draws)
    normal = torch.distributions.Normal(0.0, 1.0)
    return test.power(normal.cdf(normal.icdf(test.at) * stddev + shift))
