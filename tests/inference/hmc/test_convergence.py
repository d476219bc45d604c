"""R-hat and effective sample sizes are ArviZ's to rounding; nested R-hat is its definition."""

import math

import arviz as az
import numpy as np
import pytest
import torch

from inference.hmc.convergence import (
    Ranks,
    ess_bulk,
    ess_raw,
    ess_tail,
    nested_rhat,
    rank_normalized_nested_rhat,
    rank_normalized_rhat,
    rhat_limit,
)

ROUNDING = 1e-10
SIZES = [(4, 500), (4, 101), (2, 21), (32, 16), (8, 9), (3, 4), (64, 20)]


def autocorrelated(chains, draws, quantities, seed, repeats=0.2):
    """AR(1) chains with coefficients from -.9 to .99, in which a share of the draws repeats the last one."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(chains, draws, quantities, generator=generator, dtype=torch.float64)
    rho = torch.linspace(-0.9, 0.99, quantities, dtype=torch.float64)
    stay = torch.rand(chains, draws, quantities, generator=generator) < repeats
    for t in range(1, draws):
        x[:, t] = rho * x[:, t - 1] + (1 - rho**2).sqrt() * x[:, t]
    for t in range(1, draws):
        x[:, t] = torch.where(stay[:, t], x[:, t - 1], x[:, t])
    return x


@pytest.mark.parametrize(("chains", "draws"), SIZES)
def test_statistics_of_many_quantities_are_those_of_arviz(chains, draws):
    """Several quantities at once, with ties, as rejected proposals make them."""
    x = autocorrelated(chains, draws, 9, seed=chains + draws)
    theirs = {
        rank_normalized_rhat: lambda a: az.rhat(a),
        ess_bulk: lambda a: az.ess(a, method="bulk"),
        ess_tail: lambda a: az.ess(a, method="tail"),
        ess_raw: lambda a: az.ess(a, method="mean"),
    }
    for ours, reference in theirs.items():
        expected = np.array([float(reference(x[:, :, k].numpy())) for k in range(x.shape[-1])])
        np.testing.assert_allclose(ours(x).numpy(), expected, rtol=ROUNDING)


def test_statistics_do_not_depend_on_how_many_quantities_are_treated_at_a_time(monkeypatch):
    x = autocorrelated(4, 50, 11, seed=1)
    whole = [f(x) for f in (rank_normalized_rhat, ess_bulk, ess_tail)]
    monkeypatch.setattr("inference.hmc.convergence._MEMORY", 450)
    parts = [f(x) for f in (rank_normalized_rhat, ess_bulk, ess_tail)]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_constant_and_infinite_quantities_are_told_apart_from_good_ones():
    """A chain that never moves has no R-hat, and values that are not finite have no statistics at all."""
    x = autocorrelated(4, 40, 3, seed=2)
    x[..., 1] = 3.0
    x[1, 5, 2] = math.inf
    assert torch.isfinite(rank_normalized_rhat(x)).tolist() == [True, False, False]
    assert torch.isfinite(ess_bulk(x)).tolist() == [True, True, False]
    assert torch.isfinite(ess_tail(x)).tolist() == [True, True, False]


def by_definition(x):
    """Nested R-hat of one quantity, (superchains, chains, draws), in plain loops (Margossian et al. 2024)."""
    means, withins = [], []
    for superchain in x:
        chain_means = [float(np.mean(chain)) for chain in superchain]
        variances = [float(np.var(chain, ddof=1)) if len(chain) > 1 else 0.0 for chain in superchain]
        between_chains = float(np.var(chain_means, ddof=1)) if len(superchain) > 1 else 0.0
        withins.append(between_chains + float(np.mean(variances)))
        means.append(float(np.mean(chain_means)))
    return math.sqrt(1 + float(np.var(means, ddof=1)) / float(np.mean(withins)))


@pytest.mark.parametrize("shape", [(4, 16, 5), (3, 8, 1), (5, 1, 12)])
def test_nested_rhat_is_its_definition(shape):
    """With draws of many chains, with one draw of each chain, and with one chain of each superchain."""
    generator = torch.Generator().manual_seed(3)
    x = 1e6 + torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    x[0] += torch.tensor([0.0, 0.1, 0.5, 2.0])
    expected = [by_definition(x[..., k].numpy()) for k in range(4)]
    # What is left of values near 1e6 is their own rounding, 1e-10, relative to a unit variance.
    np.testing.assert_allclose(nested_rhat(x).numpy(), expected, rtol=1e-8)


def test_rank_normalized_nested_rhat_ranks_and_folds():
    """It is nested R-hat of SciPy's normal scores, or of the folded ones: it sees a difference in spread."""
    from scipy.stats import norm, rankdata

    def scores(a):
        return norm.ppf((rankdata(a).reshape(a.shape) - 0.375) / (a.size + 0.25))

    generator = torch.Generator().manual_seed(4)
    x = torch.randn(4, 32, 6, 2, generator=generator, dtype=torch.float64)
    x[0, ..., 1] *= 4
    expected = []
    for k in range(2):
        a = x[..., k].numpy()
        expected.append(max(by_definition(scores(a)), by_definition(scores(abs(a - np.median(a))))))
    found = rank_normalized_nested_rhat(x)
    np.testing.assert_allclose(found.numpy(), expected, rtol=ROUNDING)
    assert found[0] < 1.05 < found[1]


def test_chains_can_be_grouped_anew_for_every_quantity():
    """Chains that keep their place are found by grouping them by their start, not by restarts."""
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(64, 10, 2, generator=generator, dtype=torch.float64)
    x[..., 1] = 0.6 * start[:, None, 1] + 0.8 * x[..., 1]
    ranks = Ranks.of(x.permute(2, 0, 1))
    assert (ranks.nested(4) < 1.05).all()
    known = ranks.nested(8, start.argsort(0).T)
    assert known[0] < 1.05 and known[1] > 1.1


def test_limit_is_kept_by_independent_draws():
    """Of 400 sets of 4 independent superchains with 50 draws each, about one in a thousand exceeds it."""
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(4, 10, 5, 400, generator=generator, dtype=torch.float64)
    exceeded = rank_normalized_nested_rhat(x) > rhat_limit(4, 50, 1)
    assert int(exceeded.sum()) <= 4  # a Poisson variable of mean .4 exceeds 4 with chance 6e-5
    assert rhat_limit(4, 50, 1) > rhat_limit(4, 1e6, 1) == 1.01
