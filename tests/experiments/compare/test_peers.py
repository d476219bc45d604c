"""Every statistic against an independent package on the same samples.

SciPy and scikit-learn are always there; the others come with `pip install -e '.[peers]'`, and a test
whose package is absent is skipped and says so.
"""

import importlib
import math
import warnings

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal

from experiments.compare import density_coverage, divergence, moment_errors, stein, two_sample
from experiments.compare.statistics import mmd, sliced_wasserstein


def peer(name, package):
    """Import a module of a package that may be absent, whatever it warns of while being loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name, reason=f"{package} is not installed: pip install -e '.[peers]'")
        return importlib.import_module(name)


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def samples():
    return normal(0, 60, 3), 1.3 * normal(1, 80, 3) + 0.4


def test_energy_in_one_dimension_scipy(samples):
    from scipy.stats import energy_distance

    x, y = (s[:, 0] for s in samples)
    assert two_sample(x, y, permutations=19).value == pytest.approx(energy_distance(x, y) ** 2)


def test_energy_pted(samples):
    """Its statistic, nm/(n + m) times ours, leaves out pairs of a row with itself."""
    x, y = samples
    y = (y - 0.4) / 1.3  # so that the p-value is in the middle
    pted = peer("pted", "pted").pted
    statistic, _, p = pted(x.numpy(), y.numpy(), 1999, return_all=True, two_tailed=False, rng=0)
    ours = two_sample(x, y, permutations=1999)
    within = [torch.cdist(s, s).mean().item() / (len(s) - 1) for s in (x, y)]
    assert ours.value == pytest.approx(statistic * 140 / 4800 + sum(within))
    assert 0.01 < ours.p_value < 0.5
    assert abs(ours.p_value - p) < 4 * math.sqrt(2 * p * (1 - p) / 1999)


def test_squared_mmd_ignite(samples):
    """Its root of the unbiased estimate of two equally large samples; it works in single precision."""
    x, y = samples[0], samples[1][:60]
    metric = peer("ignite.metrics", "pytorch-ignite").MaximumMeanDiscrepancy(var=1.7**2)
    metric.update((x, y))
    ours = mmd.with_bandwidth(x, y, 1.7, 19, torch.Generator().manual_seed(0))
    within = [(1 - torch.exp(-0.5 * torch.cdist(s, s).square() / 1.7**2).mean()) / 59 for s in (x, y)]
    assert ours.value - sum(within) == pytest.approx(metric.compute() ** 2, rel=1e-5)


def test_squared_mmd_scikit_learn(samples):
    from sklearn.metrics.pairwise import rbf_kernel

    x, y = samples
    gamma = 1 / (2 * 1.7**2)
    expected = sum(rbf_kernel(s, s, gamma).mean() for s in (x, y)) - 2 * rbf_kernel(x, y, gamma).mean()
    ours = mmd.with_bandwidth(x, y, 1.7, 19, torch.Generator().manual_seed(0))
    assert ours.value == pytest.approx(expected)


def test_wasserstein_in_one_dimension_scipy(samples):
    from scipy.stats import wasserstein_distance

    x, y = (s[:, 0] for s in samples)
    assert two_sample(x, y, "sliced_wasserstein", 19).value == pytest.approx(wasserstein_distance(x, y))


def test_sliced_wasserstein_pot(samples):
    x, y = samples
    ot = peer("ot", "POT")
    u = sliced_wasserstein._directions(3, torch.Generator().manual_seed(5))
    expected = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=u.T.numpy(), p=1)
    assert two_sample(x, y, "sliced_wasserstein", 19, seed=5).value == pytest.approx(expected)


def test_kernelized_stein_discrepancy_stein_thinning(samples):
    """The mean of its matrix of Stein kernels; the log density is N(0, diag(1, 4, 9))."""
    x = samples[1].numpy()
    kernel, thinning = (
        peer("stein_thinning.kernel", "stein-thinning"),
        peer("stein_thinning.stein", "stein-thinning"),
    )
    score = -x / np.array([1.0, 4.0, 9.0])
    stein_kernel = kernel.make_imq(x, str(1.7**2))

    def integrand(i, j):
        return stein_kernel(x[i], x[j], score[i], score[j])

    expected = thinning.kmat(integrand, len(x)).mean()
    law = torch.distributions.Independent(
        Normal(torch.zeros(3).double(), torch.tensor([1.0, 2.0, 3.0]).double()), 1
    )
    assert stein(x, law, bandwidth=1.7, bootstraps=19).value == pytest.approx(expected)


@pytest.mark.parametrize("nearest", [1, 5])
def test_density_and_coverage_prdc(samples, nearest, capsys):
    x, y = samples
    expected = peer("prdc", "prdc").compute_prdc(x.numpy(), y.numpy(), nearest_k=nearest)
    ours = density_coverage(x, y, nearest, permutations=19)
    assert ours.density.value == pytest.approx(expected["density"])
    assert ours.coverage.value == pytest.approx(expected["coverage"])


def test_divergences_of_discrete_laws_scipy():
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import entropy

    p, q = torch.tensor([0.5, 0.3, 0.15, 0.05]), torch.tensor([0.25, 0.25, 0.3, 0.2])
    truth = {"kl": entropy(p, q), "reverse_kl": entropy(q, p), "js": jensenshannon(p, q) ** 2}
    truth["tv"] = (p - q).abs().sum().item() / 2
    for kind, expected in truth.items():
        result = divergence(Categorical(p), Categorical(q), kind=kind)
        assert abs(result.value - expected) < 4 * result.error


def test_moment_z_scores_scipy(samples):
    from scipy.stats import ttest_1samp

    errors = moment_errors(samples[0], Normal(torch.zeros(3), 1.0))
    np.testing.assert_allclose(errors.z_scores()[0], ttest_1samp(samples[0].numpy(), 0.0).statistic)


def test_binomial_p_value_scipy():
    from scipy.stats import binomtest

    result = two_sample(normal(0, 80, 2), normal(1, 80, 2) + 0.4, "classifier")
    right = round(result.value * 80)
    assert result.p_value == pytest.approx(binomtest(right, 80, alternative="greater").pvalue)
