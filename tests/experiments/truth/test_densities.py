"""Densities in the plane: each integrates to one, and its draws, labels and entropy agree with it.

Seeds and sizes were fixed before any result was seen. Integrals are midpoint rules, whose numerical error
is below NUMERICAL on the boxes given here; everything else is held to four Monte Carlo errors.
"""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from experiments.compare import divergence, modes
from experiments.truth.densities import density, names
from experiments.truth.law import Law, grid
from experiments.truth.mixture import GaussianMixture

NAMES = names()
LABELLED = [name for name in NAMES if density(name).classes > 1]
NUMERICAL = 1e-6
ROWS = 50_000
# Where a law's own bounds, made for figures, leave out more than NUMERICAL of it: (low, high) of x1 and x2.
BOXES = {
    "banana": ((-8.0, 8.0), (-4.0, 26.0)),
    "funnel": ((-9.0, 9.0), (-80.0, 80.0)),
    "two_moons": ((-5.0, 5.0),) * 2,
}
CELLS = {"banana": (400, 750), "funnel": (900, 8000)}


def draws(name, seed=0):
    return density(name).sample_labelled(ROWS, seed=seed)


def rectangle(name):
    """Midpoints of the cells of a box around all of a law, and the area of one."""
    law = density(name)
    box, cells = BOXES.get(name, (law.bounds, law.bounds)), CELLS.get(name, (400, 400))
    sides = [(high - low) / count for (low, high), count in zip(box, cells, strict=True)]
    middles = [
        low + side * (torch.arange(count).double() + 0.5)
        for (low, _), side, count in zip(box, sides, cells, strict=True)
    ]
    return torch.cartesian_prod(*middles), math.prod(sides)


def z_scores(values):
    """Means over their standard errors; 0 where all values are 0."""
    return values.mean(0) / (values.std(0) / math.sqrt(len(values))).clamp_min(1e-12)


def test_all_are_found():
    assert NAMES == [
        "banana",
        "checkerboard",
        "eight_gaussians",
        "funnel",
        "grid_25",
        "pinwheel",
        "rings",
        "two_moons",
    ]
    assert [density(name).classes for name in NAMES] == [1, 8, 8, 1, 25, 5, 3, 2]


@pytest.mark.parametrize("name", NAMES)
def test_every_class_integrates_to_one(name):
    points, area = rectangle(name)
    by_class = density(name).log_prob_by_class(points).exp().sum(0) * area
    torch.testing.assert_close(by_class, torch.ones_like(by_class), atol=NUMERICAL, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_density_is_the_weighted_sum_of_its_classes(name):
    law, (x, y) = density(name), draws(name)
    given = torch.stack([law.log_prob_given(x, torch.full_like(y, k)) for k in range(law.classes)], -1)
    torch.testing.assert_close(law.log_prob(x).exp(), given.exp() @ law.weights)
    bayes = law.log_prob_given(x, y) + law.weights.log()[y] - law.log_prob(x)
    torch.testing.assert_close(law.probabilities(x).gather(1, y[:, None])[:, 0].log(), bayes)


def chi_square(law, x, bins=25, inner=8):
    """Counts of draws in bins against their probabilities, as a z-score; rare bins are pooled."""
    low, high = law.bounds
    points, area = grid(law.bounds, bins * inner)
    fine = (law.log_prob(points).exp() * area).reshape(bins, inner, bins, inner)
    p = fine.sum((1, 3)).flatten()
    column = ((x - low) / (high - low) * bins).floor().long()
    held = ((column >= 0) & (column < bins)).all(1)
    counts = torch.bincount(column[held][:, 0] * bins + column[held][:, 1], minlength=bins**2).double()
    often = p * len(x) >= 5
    observed = torch.cat([counts[often], counts[~often].sum()[None] + (~held).sum()])
    expected = torch.cat([p[often], 1 - p[often].sum()[None]]) * len(x)
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1]
    freedom = len(expected) - 1
    value = ((observed - expected) ** 2 / expected).sum().item()
    return (value - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("name", NAMES)
def test_draws_fill_bins_as_the_density_says(name):
    assert abs(chi_square(density(name), draws(name).x)) < 4


@pytest.mark.parametrize("name", NAMES)
def test_bins_see_draws_that_are_four_per_cent_too_wide(name):
    assert chi_square(density(name), draws(name).x * 1.04) > 4


@pytest.mark.parametrize("name", NAMES)
def test_entropy_is_the_mean_of_minus_log_prob(name):
    law, x = density(name), draws(name, seed=1).x
    assert abs(z_scores(-law.log_prob(x) - law.entropy())) < 4


@pytest.mark.parametrize("name", [name for name in NAMES if type(density(name)).entropy is Law.entropy])
def test_entropy_by_quadrature_is_converged(name):
    law = density(name)
    points, area = rectangle(name)
    log_prob = law.log_prob(points)
    fine = -torch.special.xlogy(log_prob.exp(), log_prob.exp()).sum() * area
    assert law.entropy().item() == pytest.approx(fine.item(), abs=NUMERICAL)


@pytest.mark.parametrize("name", LABELLED)
def test_labels_come_with_the_probabilities_of_bayes_rule(name):
    """Label less p(y | x) has mean 0 given x: alone, and times functions of x."""
    law, (x, y) = density(name), draws(name, seed=2)
    residual = torch.nn.functional.one_hot(y, law.classes) - law.probabilities(x)
    features = torch.cat([torch.ones(ROWS, 1).double(), x, x**2], 1)
    assert z_scores(residual[:, :, None] * features[:, None]).abs().max() < 4
    share = torch.bincount(y, minlength=law.classes) / ROWS
    error = (law.weights * (1 - law.weights) / ROWS).sqrt()
    assert ((share - law.weights).abs() < 4 * error).all()
    assert residual.abs().max() < 1 or name == "checkerboard"


@pytest.mark.parametrize("name", NAMES)
def test_divergence_takes_it(name):
    """From a wide Gaussian, KL is -entropy - E[log q]: of the moments of the law only."""
    law = density(name)
    wide = MultivariateNormal(torch.zeros(2).double(), 9 * torch.eye(2).double())
    points, area = rectangle(name)
    mean_square = ((points**2).sum(1) * law.log_prob(points).exp()).sum().item() * area
    known = -law.entropy().item() + math.log(2 * math.pi * 9) + mean_square / 18
    result = divergence(law, wide, seed=3)
    # The funnel's second coordinate has moments that its box still cuts at 1e-3 of their size.
    assert abs(result.value - known) < 4 * result.error + (1e-3 if name == "funnel" else NUMERICAL)
    assert divergence(law, density(name)).value == pytest.approx(0, abs=1e-12)


def test_moons_of_forty_points_are_moons_with_an_even_arc():
    few = density("two_moons")
    angle = math.pi * (torch.arange(2000).double() + 0.5) / 2000
    arc = 2 * torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], -1)
    many = GaussianMixture(torch.stack([arc, -arc]), 0.2)
    points, area = grid((-4.5, 4.5), 80)  # 0.11 apart, against a noise of 0.2
    p, q = (law.log_prob(points) for law in (few, many))
    kl = (p.exp() * (p - q)).sum().item() * area
    assert 0 <= kl < 2e-5


def test_noise_of_the_rings_is_the_noise_of_a_circle():
    """One ring against an even mixture of Gaussians around the circle, an independent construction."""
    law = density("rings")
    angle = 2 * math.pi * torch.arange(400).double() / 400
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    mixture = GaussianMixture(torch.stack([r * circle for r in (1.0, 2.0, 3.0)]), 0.15)
    x = 2 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(law.log_prob_by_class(x), mixture.log_prob_by_class(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["banana", "funnel"])
def test_second_coordinate_given_the_first_is_as_documented(name):
    """By hand: log p at a point, and draws that become standard normal, whatever the first coordinate is."""
    middle, stddev, first_stddev = {
        "banana": (lambda a: 0.4 * (a**2 - 1.25**2), lambda a: 0.3 * torch.ones_like(a), 1.25),
        "funnel": (torch.zeros_like, lambda a: (a / 2).exp(), 1.5),
    }[name]
    a, b = torch.tensor(0.8).double(), torch.tensor(-0.3).double()
    by_hand = Normal(0.0, first_stddev).log_prob(a) + Normal(middle(a), stddev(a)).log_prob(b)
    assert density(name).log_prob(torch.stack([a, b])).item() == pytest.approx(by_hand.item(), abs=1e-6)
    first, second = draws(name, seed=4).x.T
    white = torch.stack([first / first_stddev, (second - middle(first)) / stddev(first)])
    features = torch.stack([torch.ones_like(first), first, first**2])
    assert abs(z_scores(white[0])) < 4
    assert z_scores((white[1] * features).T).abs().max() < 4
    assert z_scores(((white[1] ** 2 - 1) * features).T).abs().max() < 4
    assert abs(z_scores(white[0] ** 2 - 1)) < 4


@pytest.mark.parametrize("name", ["eight_gaussians", "grid_25"])
def test_modes_are_where_the_draws_are(name):
    law, (x, y) = density(name), draws(name)
    own = ((x - law.modes[y]).norm(dim=1) < 3 * law.noise_stddev).double().mean().item()
    near = 1 - math.exp(-4.5)  # within three standard deviations of a Gaussian in the plane
    assert abs(own - near) < 4 * math.sqrt(near * (1 - near) / ROWS)
    torch.testing.assert_close(law.probabilities(law.modes).argmax(-1), torch.arange(law.classes))
    few = x[:2000]
    assert modes(few, law.modes, law.noise_stddev).covered.value == 1
    dropped = modes(few[y[:2000] != 3], law.modes, law.noise_stddev, least=5)
    assert dropped.covered.value == pytest.approx(1 - 1 / law.classes)


def test_densities_far_out_are_low_or_zero_and_never_nan():
    far = torch.tensor([[30.0, -30.0], [0.0, 40.0], [-12.0, 0.3], [0.0, 0.0]]).double()
    for name in NAMES:
        log_prob = density(name).log_prob(far)
        assert not log_prob.isnan().any()
        assert (log_prob[:3] < -20).sum() >= 2
    assert density("checkerboard").log_prob(torch.tensor([1.0, -1.0])) == -math.inf
    assert density("checkerboard").probabilities(torch.tensor([1.0, -1.0])).isnan().all()


def test_seeds_decide_and_the_global_state_is_left_alone():
    law = density("pinwheel")
    state = torch.get_rng_state()
    first, again, other = (law.sample_labelled(10, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.x, other.x)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_dtypes(name):
    law = density(name)
    with torch.random.fork_rng(devices=[]):
        assert law.sample().shape == (2,)
        x = law.sample((4, 3))
    assert x.shape == (4, 3, 2)
    assert x.dtype == torch.float64
    assert law.log_prob(x).shape == (4, 3)
    assert law.probabilities(x).shape == (4, 3, law.classes)
    assert law.sample_labelled(0).x.shape == (0, 2)
    torch.testing.assert_close(law.log_prob(x[0].float()), law.log_prob(x[0]), rtol=1e-3, atol=1e-3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="name: expected one of banana, checkerboard.*'moons'"):
        density("moons")
    law = density("rings")
    with pytest.raises(ValueError, match=r"x: expected \(..., 2\), got \(5, 3\)"):
        law.log_prob(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="means: expected"):
        GaussianMixture(torch.zeros(3, 2), 1.0)
    with pytest.raises(ValueError, match="stddev: expected a number above 0"):
        GaussianMixture(torch.zeros(3, 1, 2), 0.0)
    with pytest.raises(ValueError, match="weights: expected"):
        GaussianMixture(torch.zeros(2, 1, 2), 1.0, weights=torch.tensor([0.5, 0.6]))
    with pytest.raises(ValueError, match="entropy: expected rows of 2"):
        GaussianMixture(torch.zeros(2, 1, 3), 1.0).entropy()
    with pytest.raises(ValueError, match="bounds, cells"):
        grid((1.0, 1.0), 3)
