"""Label switching: a mixture of two, whose components have no names.

Which component is called the first is nowhere said, so the posterior is symmetric under an exchange and has
two modes, copies of one another. Centres and shares are unknown, labels are summed out; three unknowns,
integrated on a grid. Judged are both centres, both shares, which centre is the lower, and the lower and the
higher one.

Source: Stephens (2000), Dealing with label switching in mixture models, JRSS B 62; numbers of our own.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Normal

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior, Values
from experiments.truth.quadrature import even, grid_moments

X = torch.tensor([-3.1, -2.2, -2.6, -1.5, 1.4, 2.2, 2.9, 2.5, 3.4, 1.9], dtype=torch.float64)
SPREAD, NOISE, PRIOR = 5.0, 1.2, 2.0
# Grid of a centre and of the first share's logit; other components' centres follow the data, not the prior.
REACH, POINTS = ((-9.0, 9.0), (-9.0, 9.0)), (110, 60)


def story(n: int) -> Tensor:
    """Tell of ``n`` rows, each from one of two components."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.full((2,), PRIOR, dtype=torch.float64)))
    with pyro.plate("component", 2, dim=-1):
        mu = pyro.sample("mu", dist.Normal(0.0, SPREAD))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        return pyro.sample("x", dist.Normal(mu[y], NOISE))


def log_joint(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Log p(mu, weights, x), labels summed out, in nats; tensors of one shape or that broadcast."""
    log_p = Normal(0.0, SPREAD).log_prob(first) + Normal(0.0, SPREAD).log_prob(second)
    log_p = log_p + dist.Beta(PRIOR, PRIOR).log_prob(share)
    for x in X:
        parts = (
            Normal(first, NOISE).log_prob(x) + share.log(),
            Normal(second, NOISE).log_prob(x) + (-share).log1p(),
        )
        log_p = log_p + torch.logaddexp(*parts)
    return log_p


def cube(points: tuple[int, int] = POINTS) -> tuple[Tensor, Tensor, Tensor, float]:
    """Grids of a centre and of the logit, probabilities (first, second, logit), and log p(x)."""
    centre, logit = (even(*reach, n) for reach, n in zip(REACH, points, strict=True))
    share = logit.sigmoid()
    log_density = log_joint(centre[:, None, None], centre[None, :, None], share)
    log_density = log_density + share.log() + (-share).log1p()  # of the logit
    cell = (centre[1] - centre[0]).log() * 2 + (logit[1] - logit[0]).log()
    log_evidence = float(log_density.flatten().logsumexp(0) + cell)
    return centre, logit, (log_density - log_evidence + cell).exp(), log_evidence


def moments(points: tuple[int, int] = POINTS) -> tuple[dict[str, Moments], float]:
    """Moments of what is judged, and the log evidence."""
    centre, logit, chance, log_evidence = cube(points)
    mu = grid_moments(chance.sum((1, 2)), centre)
    share = grid_moments(chance.sum((0, 1)), logit.sigmoid())
    first, second = (v.flatten() for v in torch.meshgrid(centre, centre, indexing="ij"))
    flat = chance.sum(2).flatten()
    half = torch.tensor(0.5, dtype=torch.float64)
    found = {
        "mu": Moments(*(m.expand(2) for m in mu)),
        "weights": Moments(*(m.expand(2) for m in share)),
        "first is lower": Moments(half, half, 2 * half),
        "lower": grid_moments(flat, torch.minimum(first, second)),
        "higher": grid_moments(flat, torch.maximum(first, second)),
    }
    return found, log_evidence


def posterior() -> KnownPosterior:
    """Return the mixture."""
    found, log_evidence = moments()
    return KnownPosterior(
        story,
        (len(X),),
        {"x": X},
        moments=found,
        sample=sample,
        log_prob=lambda values: (
            log_joint(values["mu"][:, 0], values["mu"][:, 1], values["weights"][:, 0]) - log_evidence
        ),
        log_evidence=log_evidence,
        quantities=quantities,
    )


def quantities(draws: Values) -> Values:
    """Add what does not change when the labels do."""
    first, second = draws["mu"].unbind(-1)
    return {
        **draws,
        "first is lower": (first < second).double(),
        "lower": torch.minimum(first, second),
        "higher": torch.maximum(first, second),
    }


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly but for a cell of the grid, in which draws are spread evenly."""
    generator = torch.Generator().manual_seed(seed)
    centre, logit, chance, _ = cube()
    index = chance.flatten().multinomial(num_samples, replacement=True, generator=generator)
    cells = torch.unravel_index(index, chance.shape)
    moved = []
    for axis, cell in zip((centre, centre, logit), cells, strict=True):
        move = torch.rand(num_samples, generator=generator, dtype=torch.float64) - 0.5
        moved.append(axis[cell] + move * (axis[1] - axis[0]))
    share = moved[2].sigmoid()
    return {"mu": torch.stack(moved[:2], -1), "weights": torch.stack([share, 1 - share], -1)}
