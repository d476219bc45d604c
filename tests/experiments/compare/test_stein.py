"""Kernelized Stein discrepancy: closed forms on normals, its error, its blind spot, its arguments."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from experiments.compare import stein
from experiments.compare.rows import distances
from experiments.compare.stein_discrepancy import stein_matrix


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def shifted(shift, bandwidth, n):
    """Expected statistic for draws of N(shift, 1) and the density N(0, 1).

    The scores differ by the shift everywhere, so the discrepancy is shift^2 E k, with
    E (1 + D^2/h^2)^(-1/2) = h / (2 sqrt pi) exp(h^2/8) K_0(h^2/8) for D ~ N(0, 2); a row with itself
    contributes E s^2 + 1/h^2.
    """
    from scipy.special import k0e

    mean_kernel = bandwidth / (2 * math.sqrt(math.pi)) * k0e(bandwidth**2 / 8)
    return shift**2 * mean_kernel * (1 - 1 / n) + (1 + shift**2 + bandwidth**-2) / n


def stretched(stddev, bandwidth, n):
    """The same for draws of N(0, stddev^2), whose score differs by x (1/stddev^2 - 1): quadrature."""
    x = torch.linspace(-8 * stddev, 8 * stddev, 1201, dtype=torch.float64)
    weight = Normal(0.0, stddev).log_prob(x).exp() * (x[1] - x[0]) * x * (stddev**-2 - 1)
    kernel = (1 + ((x[:, None] - x) / bandwidth) ** 2).rsqrt()
    return (weight @ kernel @ weight).item() * (1 - 1 / n) + (stddev**2 + bandwidth**-2) / n


def mean_within_four_errors(values, truth):
    values = torch.tensor(values)
    return abs(values.mean().item() - truth) < 4 * values.std().item() / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("shift", "stddev", "truth"),
    [
        (0.0, 1.0, shifted(0.0, 0.8, 60)),
        (0.7, 1.0, shifted(0.7, 0.8, 60)),
        (0.0, 1.6, stretched(1.6, 0.8, 60)),
    ],
)
def test_closed_form_on_two_normals(shift, stddev, truth):
    values = [
        stein(shift + stddev * normal(i, 60), Normal(0.0, 1.0), bandwidth=0.8, bootstraps=19).value
        for i in range(200)
    ]
    assert mean_within_four_errors(values, truth)


def test_the_kernel_against_automatic_differentiation():
    """u = s's'k + s'dk/db + s(b)'dk/da + trace d2k/(da db), row by row."""
    x, s, h = normal(0, 5, 3), normal(1, 5, 3), 1.7

    def kernel(a, b):
        return (1 + (a - b).square().sum() / h**2).rsqrt()

    def u(a, b, sa, sb):
        da, db = torch.autograd.functional.jacobian(kernel, (a, b))
        cross = torch.autograd.functional.hessian(kernel, (a, b))[0][1]
        return (sa @ sb) * kernel(a, b) + sa @ db + sb @ da + cross.trace()

    expected = torch.stack([torch.stack([u(x[i], x[j], s[i], s[j]) for j in range(5)]) for i in range(5)])
    matrix = stein_matrix(x, s, h)
    torch.testing.assert_close(matrix, expected, rtol=1e-12, atol=1e-12)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12


def test_error_is_the_spread_over_repetitions():
    results = [
        stein(0.7 + normal(i, 80, 2), score=torch.neg, bandwidth=1.5, bootstraps=19) for i in range(300)
    ]
    spread = torch.tensor([r.value for r in results]).std().item()
    assert 0.84 < sum(r.error for r in results) / 300 / spread < 1.25


def test_null_mean_is_the_bias():
    results = [stein(normal(i, 60, 2), score=torch.neg, bootstraps=99) for i in range(200)]
    assert mean_within_four_errors([r.value - r.null_mean for r in results], 0.0)


def test_scores_of_distributions_functions_and_shapes_agree():
    x = normal(0, 40, 2, 3)
    law = Independent(Normal(torch.zeros(2, 3).double(), 2.0), 2)
    by_law, by_hand = stein(x, law), stein(x, score=lambda x: -x / 4)
    assert by_law.value == pytest.approx(by_hand.value)
    assert stein(x, lambda x: -x.square() / 8).value == pytest.approx(by_hand.value)
    with torch.no_grad():
        assert stein(x.float().numpy(), law).value == pytest.approx(by_hand.value, rel=1e-5)
    assert by_law.p_value < 0.01  # draws of half the spread


def test_it_is_blind_to_a_missing_mode():
    """Draws of one of two modes 10 standard deviations apart, where the other is out of sight."""

    def two_modes(x):
        return torch.logaddexp(-(x + 5).square().sum(-1) / 2, -(x - 5).square().sum(-1) / 2)

    x = 5 + normal(0, 500, 1)
    assert stein(x, two_modes).p_value > 0.05
    assert stein(x, score=torch.neg).p_value == 0.001


def test_global_state_is_untouched():
    before = torch.get_rng_state()
    stein(normal(0, 10), Normal(0.0, 1.0), bootstraps=19)
    assert torch.equal(before, torch.get_rng_state())


def test_reads_as_a_sentence():
    assert str(stein(normal(0, 30), Normal(0.0, 1.0))).startswith("squared KSD ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one"),
        ({"log_prob": torch.neg, "score": torch.neg}, "exactly one"),
        ({"log_prob": torch.sum}, r"one value a row, \(9,\), got \(\)"),
        ({"log_prob": torch.ones_like}, "torch can differentiate"),
        ({"score": torch.sum}, r"score: expected shape \(9,\), got \(\)"),
        ({"score": torch.log}, "off the support"),
        ({"score": torch.neg, "bandwidth": 0.0}, "bandwidth"),
        ({"score": torch.neg, "bootstraps": 9}, "bootstraps"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        stein(torch.arange(-4.0, 5.0), **options)


def test_too_many_rows_and_too_few():
    with pytest.raises(ValueError, match="random subset"):
        stein(torch.zeros(10_001), score=torch.neg)
    with pytest.raises(ValueError, match="at least 4 rows"):
        stein(torch.zeros(3), score=torch.neg)
    assert distances(torch.ones(2, 3), torch.ones(2, 3)).max() == 0
