"""Two causes of one effect: explaining away, the smallest posterior with a correlation.

Story
    Two causes add up to an effect that is measured a few times. The measurements say much about the
    sum and nothing about the difference: if one cause was large, the other must have been small. The
    causes are independent before the data and strongly correlated after, which is what a mean-field
    guide cannot say.

Joint
    p(first) p(second) prod_i p(y_i | first, second), with

    - first ~ Normal(0, spread), second ~ Normal(0, spread)
    - y_i ~ Normal(first + second, noise)

Shapes
    first, second: scalars; y (n,); all in the units of ``spread`` and ``noise``, standard deviations.

Priors
    Both causes are as large as ``spread``, of either sign. The posterior correlation is
    -a / (1 + a) with a = n spread^2 / noise^2.

Answers
    p(first, second | y): learn
    p(y): generate, weigh

Source
    Pearl (1988), Probabilistic Reasoning in Intelligent Systems, section 2.3 (explaining away); Bishop
    (2006), Pattern Recognition and Machine Learning, section 10.1.2 (what factorizing costs).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution


def two_causes(n: int, noise: float = 0.5, spread: float = 2.0) -> Tensor:
    """Tell the story of ``n`` measurements; returns them, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     two_causes(3).shape
        torch.Size([3])
    """
    first = pyro.sample("first", dist.Normal(0.0, spread))
    second = pyro.sample("second", dist.Normal(0.0, spread))
    with pyro.plate("measurement", n, dim=-1):
        return pyro.sample("y", dist.Normal(first + second, noise))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    noise: float = 0.5,
    spread: float = 2.0,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the causes in closed form.

    Args:
        data: ``y`` (n,).
        n, noise, spread: as the story was called.
        given: values of latent sites to condition on.

    Returns:
        ``first`` and ``second``, each Normal: its marginal, or given the other its conditional.
    """
    given = given or {}
    y = data["y"].double()
    pull = len(y) / noise**2  # precision of the mean of the measurements
    found: dict[str, Distribution] = {}
    for name, other in (("first", "second"), ("second", "first")):
        # An unknown other cause adds its spread to the noise.
        weight = pull if other in given else 1 / (1 / pull + spread**2)
        rest = y.mean() - (given[other] if other in given else 0.0)
        precision = torch.as_tensor(spread**-2 + weight, dtype=torch.float64)
        found[name] = dist.Normal(weight * rest / precision, precision.rsqrt())
    return {name: q for name, q in found.items() if name not in given}


EXAMPLE = (
    (4, 0.6, 1.7),
    {"y": torch.tensor([1.3, 0.4, 2.1, 1.7], dtype=torch.float64)},
)
