"""The power table of `experiments.compare.statistics`: is it what its docstring says?"""

import math

import pytest
import torch

from experiments.compare import density_coverage, statistics, stein, two_sample
from experiments.compare.found import names

ROWS, DIMENSION, PERMUTATIONS = 500, 10, 99


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def shift(y, _):
    """Add .15 to one coordinate: KL .011."""
    y[:, 0] += 0.15
    return y


def tails(y, seed):
    """Divide by the root of a gamma: multivariate Student with 5 degrees of freedom."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gamma = torch.distributions.Gamma(2.5, 2.5).sample((len(y), 1)).double()
    return y / gamma.sqrt()


def mode(y, seed):
    """Move each row with probability .1 by 5 in one coordinate."""
    y[torch.rand(len(y), generator=torch.Generator().manual_seed(seed)) < 0.1, 0] += 5
    return y


def narrow(y, _):
    """Make one standard deviation 15 % smaller."""
    y[:, 0] *= 0.85
    return y


def correlation(y, _):
    """Give two coordinates the correlation .3: KL .047."""
    y[:, 1] = 0.3 * y[:, 0] + math.sqrt(1 - 0.3**2) * y[:, 1]
    return y


ALTERNATIVES = {f.__name__: f for f in (shift, tails, mode, narrow, correlation)}


def rejects(test, alternative, i):
    """Whether 500 rows of N(0, I) in ten dimensions and 500 others are told apart at 5 %."""
    x = normal(3 * i, ROWS, DIMENSION)
    y = ALTERNATIVES[alternative](normal(3 * i + 1, ROWS, DIMENSION), 3 * i + 2)
    if test == "stein":
        return stein(y, score=torch.neg, bootstraps=PERMUTATIONS, seed=i).p_value <= 0.05
    if test in ("density", "coverage"):
        return getattr(density_coverage(x, y, 5, PERMUTATIONS, i), test).p_value <= 0.05
    return two_sample(x, y, test, PERMUTATIONS, i).p_value <= 0.05


def table():
    """Read test -> alternative -> share out of the docstring."""
    lines = statistics.__doc__.split("\n\n")
    rows = [line.split() for block in lines for line in block.splitlines() if line.startswith("    ")]
    head = [name for name in rows[0] if name in ALTERNATIVES]
    return {row[0].rstrip("*"): dict(zip(head, map(float, row[1:]), strict=True)) for row in rows[1:]}


def test_the_table_has_every_test():
    assert set(table()) == {*names(statistics), "stein", "density", "coverage"}
    assert all(set(row) == set(ALTERNATIVES) for row in table().values())


@pytest.mark.slow
@pytest.mark.parametrize("test", sorted({*names(statistics), "stein", "density", "coverage"} - {"network"}))
def test_power(test):
    """20 other repetitions: within 4 errors of the difference of two shares, .02 added at the ends."""
    for alternative, share in table()[test].items():
        seen = sum(rejects(test, alternative, 1000 + i) for i in range(20)) / 20
        middle = min(max((20 * seen + 50 * share) / 70, 0.02), 0.98)
        assert abs(seen - share) < 4 * math.sqrt(middle * (1 - middle) * (1 / 20 + 1 / 50)) + 0.02
