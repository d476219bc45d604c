"""A logistic regression with 500 coefficients and 2,000 rows, four rows to a coefficient.

In a hidden basis every row asks about one coefficient only, so that the posterior is a product of 500
one-dimensional ones, known by quadrature. The story sees the covariates rotated by a random orthogonal
matrix: all of its coefficients are correlated, and each is a sum of 500 skewed unknowns. The prior, equal in
all directions, is the same in both bases. Judged are the coefficients and those of the hidden basis.

Source: numbers of our own.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Normal

from experiments.compare.right import Moments
from experiments.truth.known_posterior import KnownPosterior
from experiments.truth.quadrature import even

SIZE, ROWS, SPREAD, SEED = 500, 4, 1.5, 20_240_502  # ROWS to a coefficient
REACH, POINTS = 8.0, 800  # of the grid, in prior standard deviations


def design() -> tuple[Tensor, Tensor, Tensor]:
    """Rotation (500, 500), covariate of every row in the hidden basis (500, 4), and responses (500, 4)."""
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(noise)[0]
    hidden = 1.5 * torch.randn(SIZE, ROWS, generator=generator, dtype=torch.float64)
    true = SPREAD * torch.randn(SIZE, 1, generator=generator, dtype=torch.float64)
    uniform = torch.rand(SIZE, ROWS, generator=generator, dtype=torch.float64)
    return rotation, hidden, (uniform < torch.sigmoid(true * hidden)).double()


def covariates(rotation: Tensor, hidden: Tensor) -> Tensor:
    """What the story sees, (2000, 500): row k of coefficient j is hidden[j, k] rotation[j]."""
    return (hidden[..., None] * rotation[:, None]).reshape(-1, SIZE)


def story(covariates: Tensor) -> Tensor:
    """Tell of one response per row of ``covariates``."""
    coefficients = pyro.sample(
        "coefficients", dist.Normal(0.0, SPREAD).expand([covariates.shape[1]]).to_event(1)
    )
    with pyro.plate("row", len(covariates), dim=-1):
        return pyro.sample("y", dist.Bernoulli(logits=covariates @ coefficients))


def log_joint(value: Tensor, hidden: Tensor, y: Tensor) -> Tensor:
    """Log p(coefficient, its rows) of every coefficient of the hidden basis: (*batch, 500) -> the same."""
    logits = value[..., None] * hidden
    log_rows = torch.nn.functional.logsigmoid(torch.where(y > 0.5, logits, -logits))
    return Normal(0.0, SPREAD).log_prob(value) + log_rows.sum(-1)


def separate(points: int = POINTS) -> tuple[Tensor, Tensor, Tensor]:
    """Grid (points,), probabilities (points, 500) and log normalizers (500,) of the hidden coefficients."""
    _, hidden, y = design()
    grid = even(-REACH * SPREAD, REACH * SPREAD, points)
    log_density = log_joint(grid[:, None].expand(-1, SIZE), hidden, y)
    return grid, log_density.softmax(0), log_density.logsumexp(0) + (grid[1] - grid[0]).log()


def moments(points: int = POINTS) -> dict[str, Moments]:
    """Moments of the hidden coefficients, and of the story's by adding cumulants."""
    rotation = design()[0]
    grid, chance, _ = separate(points)
    middle = grid @ chance
    away = grid[:, None] - middle
    variance, fourth = ((chance * away**n).sum(0) for n in (2, 4))
    hidden = Moments(middle, variance.sqrt(), fourth / variance**2)
    # coefficients = rotation' hidden: the n-th cumulant of a weighted sum weighs the n-th cumulants.
    variance = (rotation**2).T @ hidden.stddev**2
    fourth = (rotation**4).T @ ((hidden.kurtosis - 3) * hidden.stddev**4)
    own = Moments(rotation.T @ hidden.mean, variance.sqrt(), 3 + fourth / variance**2)
    return {"coefficients": own, "hidden": hidden}


def posterior() -> KnownPosterior:
    """Return the regression."""
    rotation, hidden, y = design()
    log_normalizers = separate()[2]
    return KnownPosterior(
        story,
        (covariates(rotation, hidden),),
        {"y": y.reshape(-1)},
        moments=moments(),
        sample=sample,
        log_prob=lambda values: (
            log_joint(values["coefficients"] @ rotation.T, hidden, y) - log_normalizers
        ).sum(-1),
        log_evidence=float(log_normalizers.sum()),
        quantities=lambda draws: {**draws, "hidden": draws["coefficients"] @ rotation.T},
        never_refused=True,
    )


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly but for a cell of the grid (.03), in which draws are spread evenly."""
    generator = torch.Generator().manual_seed(seed)
    grid, chance, _ = separate()
    index = chance.T.multinomial(num_samples, replacement=True, generator=generator)  # (500, draws)
    move = torch.rand(index.shape, generator=generator, dtype=torch.float64) - 0.5
    hidden = grid[index] + move * (grid[1] - grid[0])
    return {"coefficients": hidden.T @ design()[0]}
