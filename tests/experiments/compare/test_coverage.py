"""Density and coverage: by hand, exact means under the null, errors, missing modes."""

import math

import pytest
import torch

from experiments.compare import density_coverage
from experiments.compare.coverage import _inside, _neighbours
from experiments.compare.rows import distances


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_by_hand():
    """Balls of radius 1, 1, 2, 4, 8 around 0, 1, 3, 7, 15 to the nearest neighbour (k = 1)."""
    real, generated = torch.tensor([0.0, 1.0, 3.0, 7.0, 15.0]), torch.tensor([0.5, 4.0, 4.5, 100.0])
    density, coverage = density_coverage(real, generated, nearest=1, permutations=19)
    # 0.5 lies in the first two; 4 in those of 3 and 7; 4.5 in those of 3 and 7; 100 in none.
    assert density.value == pytest.approx(6 / 4)
    assert coverage.value == pytest.approx(4 / 5)


def test_equal_inputs_are_one():
    x = normal(0, 50, 3)
    density, coverage = density_coverage(x, x, permutations=19)
    assert (density.value, coverage.value) == (1, 1)
    assert (density.p_value, coverage.p_value) > (0.05, 0.99)


def test_neighbours_beyond_those_kept_are_found_all_the_same():
    """Among 100 real rows far from 4 others, the nearest real neighbour of one of the 4 is far."""
    pooled = torch.cat([normal(0, 100, 2), 1000 + normal(1, 4, 2)])
    matrix = distances(pooled, pooled)
    near, index = _neighbours(matrix.clone(), 100, 1)
    real = torch.zeros(104, dtype=torch.bool)
    real[[0, 1, 2, 100]] = True
    expected = [
        (row[~real] < row[real].topk(2, largest=False).values[1]).sum().item() for row in matrix[real]
    ]
    near, index = near[:, :3], index[:, :3]  # so few that most real neighbours are beyond
    assert _inside(matrix, near, index, real, 1).tolist() == expected


@pytest.mark.parametrize(("n", "m", "k"), [(30, 40, 3), (50, 25, 5)])
def test_means_of_two_samples_of_one_law_are_exact(n, m, k):
    """Every order of the n - 1 + m neighbours of a real row is as likely as any other."""
    found = [density_coverage(normal(2 * i, n, 2), normal(2 * i + 1, m, 2), k, 19) for i in range(100)]
    truth = {"density": 1.0, "coverage": 1 - math.comb(n - 1, k) / math.comb(n + m - 1, k)}
    for name, mean in truth.items():
        values = torch.tensor([getattr(r, name).value for r in found])
        error = values.std().item() / math.sqrt(100)
        assert abs(values.mean().item() - mean) < 4 * error
        assert abs(sum(getattr(r, name).null_mean for r in found) / 100 - mean) < 4 * error


def test_errors_are_the_spread_over_repetitions():
    found = [
        density_coverage(normal(2 * i, 80, 2), 0.5 + normal(2 * i + 1, 60, 2), 5, 19) for i in range(200)
    ]
    for results in zip(*found, strict=True):
        spread = torch.tensor([r.value for r in results]).std().item()
        # 200 values know their spread to 5 %; halves of 40 and 30 rows are a little rougher than all.
        assert 0.8 < sum(r.error for r in results) / 200 / spread < 1.25


def two_modes(seed, n, share):
    x = normal(seed, n, 2)
    x[torch.rand(n, generator=torch.Generator().manual_seed(seed)) < share, 0] += 8
    return x


def test_a_missing_mode_and_a_bridge_between_modes():
    real = two_modes(0, 400, 0.2)
    missing = density_coverage(real, two_modes(1, 400, 0.0))
    assert missing.coverage.p_value == 0.001
    assert missing.coverage.value < missing.coverage.detectable < missing.coverage.floor
    assert missing.density.p_value > 0.05
    bridge = two_modes(2, 400, 0.2)
    bridge[:100, 0] += 4
    assert density_coverage(real, bridge).density.p_value == 0.001


def test_power_at_the_detectable_coverage():
    """Give the truth a mode that is never generated, so large that its loss is called detectable.

    Asked is .8; 100 repetitions have a standard error of .04, and the band leaves 4 on either side.
    """

    def at(share, seeds):
        return [
            density_coverage(two_modes(2 * i, 100, share), two_modes(2 * i + 1, 100, 0.0), 5, 39).coverage
            for i in seeds
        ]

    null = at(0.0, range(10))
    share = 1 - sum(r.detectable for r in null) / sum(r.null_mean for r in null)
    seen = [r.p_value <= 0.05 for r in at(share, range(1000, 1100))]
    assert 0.64 < sum(seen) / len(seen) < 0.96


def test_global_random_state_is_untouched():
    before = torch.get_rng_state()
    density_coverage(normal(0, 10), normal(1, 10), 3, permutations=19)
    assert torch.equal(before, torch.get_rng_state())


def test_reads_as_a_sentence():
    assert "stay above" in str(density_coverage(normal(0, 30), normal(1, 30)).coverage)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"nearest": 0}, "nearest: expected 1 .. 3"),
        ({"nearest": 4}, "nearest: expected 1 .. 3"),
        ({"permutations": 5, "nearest": 3}, "permutations"),
        ({"generated": torch.zeros(9, 2)}, "real, generated: expected equal row sizes, got 1 and 2"),
        ({"generated": torch.zeros(10_000)}, "random subset"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        density_coverage(**{"real": torch.zeros(9), "generated": torch.zeros(9), **arguments})
