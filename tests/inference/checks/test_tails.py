"""Which quantities have tails too heavy for a standard deviation."""

import torch

from inference.checks.tails import heavy


def _student(df: float) -> torch.Tensor:
    """Quantiles of Student's t, whose tails have a shape of 1 / df, as (restarts, draws)."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4, 10_000, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        chi2 = torch.distributions.Chi2(torch.tensor(df, dtype=torch.float64)).sample((4, 10_000))
    return normal / (chi2 / df).sqrt()


def test_draws_by_chains_are_given_less_benefit_of_the_doubt():
    """Chains end a tail too early: a shape near the limit of .35 is spoken of, a light one is not."""
    values = {"light": _student(20.0), "near": _student(3.8), "heavy": _student(2.0)}
    named = [[note.split(":")[0] for note in heavy(values, by_chains=by)] for by in (False, True)]
    assert named == [["heavy"], ["near", "heavy"]]
