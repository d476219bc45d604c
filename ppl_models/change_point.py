"""A change point: counts whose rate changes once, nobody knows when.

Story
    Year after year events are counted (disasters in coal mines, in the data that made the story known).
    Up to some year they come at one rate, from then on at another: a law was passed, a machine replaced.
    What is unknown are the year and both rates; what is seen are the yearly counts ``y``. The year is
    discrete and is summed out exactly.

Joint
    p(early) p(late) p(change) prod_t p(y_t | early, late, change)

    - early, late ~ Gamma(shape, rate)
    - change ~ uniform on 0, ..., n - 1: the index of the first year of the late rate
    - y_t ~ Poisson(early if t < change else late)

Shapes
    early () and late () in events per year, change () an integer, y (n,) counts in the order of time.

Priors
    The rates have mean shape / rate and relative spread 1 / sqrt(shape). At change = 0 the early rate
    never held.

Answers
    p(early, late, change | y): learn
    p(change | y): invert, by ``probabilities("change", given={})``
    p(y): generate, weigh
    not p(y of later years): rows are the years 0 to n - 1 themselves, and new rows mean those years told
    anew.

Source
    Carlin, Gelfand and Smith (1992), "Hierarchical Bayesian analysis of changepoint problems", Applied
    Statistics 41 (there with priors on ``rate``); Raftery and Akman (1986), "Bayesian analysis of a Poisson
    process with a change-point", Biometrika 73. With Gamma priors everything is known in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution


def change_point(n: int, shape: float = 2.0, rate: float = 1.0) -> Tensor:
    """Tell the story of ``n`` years; returns their counts, shape (n,).

    Example:
        >>> import torch
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     change_point(9).shape
        torch.Size([9])
    """
    early = pyro.sample("early", dist.Gamma(shape, rate))
    late = pyro.sample("late", dist.Gamma(shape, rate))
    change = pyro.sample("change", dist.Categorical(torch.ones(n)))
    with pyro.plate("row", n, dim=-1):
        return pyro.sample("y", dist.Poisson(torch.where(torch.arange(n) < change, early, late)))


def exact(
    data: Mapping[str, Tensor],
    n: int | None = None,
    shape: float = 2.0,
    rate: float = 1.0,
    *,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Distribution]:
    """Return the posterior of the latent sites given the counts, in closed form.

    Args:
        data: ``y`` (n,).
        n, shape, rate: as the story was called.
        given: values of latent sites to condition on.

    Returns:
        ``early`` and ``late``, each a Gamma given ``change`` and otherwise a mixture of n of them, and
        ``change`` (Categorical), by enumeration of all n years; each the marginal posterior of its site
        given the sites in ``given``.
    """
    given = given or {}
    y = data["y"].double()
    years = torch.arange(len(y), dtype=torch.float64)
    before = y.cumsum(0) - y  # events before each year: what the early rate has to explain
    seen = {"early": (before, years), "late": (y.sum() - before, len(y) - years)}
    conditional = {name: dist.Gamma(shape + count, rate + time) for name, (count, time) in seen.items()}
    log_p = torch.zeros(len(y), dtype=torch.float64)
    for name, (count, time) in seen.items():
        if name in given:
            log_p = log_p + count * given[name].log() - time * given[name]
        else:  # the Gamma integral over the rate
            log_p = log_p + torch.lgamma(shape + count) - (shape + count) * torch.log(rate + time)
    change = dist.Categorical(logits=log_p)
    posterior: dict[str, Distribution] = {"change": change}
    for name, gammas in conditional.items():
        if "change" in given:
            k = given["change"].long()
            posterior[name] = dist.Gamma(gammas.concentration[k], gammas.rate[k])
        else:
            posterior[name] = dist.MixtureSameFamily(change, gammas)
    return {name: q for name, q in posterior.items() if name not in given}


EXAMPLE = (
    (12, 2.5, 0.6),
    {"y": torch.tensor([4, 6, 3, 7, 5, 4, 3, 2, 2, 3, 2, 2], dtype=torch.float64)},
)
