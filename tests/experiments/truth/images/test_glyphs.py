"""Made-up digits: deterministic, in range, and each factor does to the image what it says."""

import math

import pytest
import torch

from experiments.truth.images.glyph_shapes import POINTS, SHAPES, strokes
from experiments.truth.images.glyphs import LAWS, REACH, SIDE, GlyphFactors, render, sample, sample_factors

# Every digit both ways, drawn by a steady hand, upright, in the middle.
Y = torch.arange(10).repeat(2)


def plain(y=Y, **changed):
    factors = {
        "way": torch.arange(2).repeat_interleave(10),
        "thickness": torch.full((20,), 1.3),
        "pressure": torch.zeros(20),
        "size": torch.ones(20),
        "aspect": torch.ones(20),
        "slant": torch.zeros(20),
        "rotation": torch.zeros(20),
        "shift_x": torch.zeros(20),
        "shift_y": torch.zeros(20),
        "ink": torch.ones(20),
        "hand": torch.zeros(20, POINTS, 2),
    }
    as_rows = {
        name: value if torch.is_tensor(value) else torch.full((20,), value) for name, value in changed.items()
    }
    return render(y, GlyphFactors(**{**factors, **as_rows})).reshape(-1, SIDE, SIDE)


def centre(images):
    """Centre of the ink in pixels, right and up from the middle: (rows, 2)."""
    at = torch.arange(SIDE) - (SIDE - 1) / 2
    ink = images.sum((1, 2))
    right, up = images.sum(1) @ at / ink, images.sum(2) @ -at / ink
    return torch.stack([right, up], -1)


def spread(images):
    """Second moments of the ink around its centre: right-right, right-up, up-up, (rows, 3)."""
    at = torch.arange(SIDE) - (SIDE - 1) / 2
    weight = images / images.sum((1, 2), keepdim=True)
    middle = centre(images)
    right = (at - middle[:, :1])[:, None]
    up = (-at - middle[:, 1:])[:, :, None]
    return torch.stack([(weight * product).sum((1, 2)) for product in (right**2, right * up, up**2)], -1)


def test_shapes_and_range_and_labels():
    glyphs = sample(1000, seed=0)
    x, y, factors = glyphs
    assert x.shape == (1000, 784)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.min() == 0
    assert 0.9 < x.max() <= 1
    torch.testing.assert_close(255 * x, (255 * x).round(), atol=1e-4, rtol=0)
    assert factors.hand.shape == (1000, POINTS, 2)
    shares = torch.bincount(y, minlength=10) / 1000
    assert ((shares - 0.1).abs() < 4 * math.sqrt(0.09 / 1000)).all()
    # As MNIST: 13 % of all ink there could be, four pixels of five empty, hardly any at the border.
    assert 0.11 < x.mean() < 0.15
    assert 0.75 < (x == 0).double().mean() < 0.85
    border = torch.ones(SIDE, SIDE, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert (x[:, border.flatten()] > 0).any(1).double().mean() < 0.05


def test_the_seed_decides_and_the_global_state_is_left_alone():
    state = torch.get_rng_state()
    first, again, other = (sample(30, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)
    assert sample(0).x.shape == (0, 784)


def test_an_image_is_a_function_of_its_label_and_factors():
    x, y, factors = sample(250, seed=3)
    assert torch.equal(render(y, factors), x)
    part = GlyphFactors(*(factor[117:130] for factor in factors))
    torch.testing.assert_close(render(y[117:130], part), x[117:130], atol=1 / 255 + 1e-6, rtol=0)


def test_factors_have_their_laws():
    factors = sample_factors(4000, torch.Generator().manual_seed(4))._asdict()
    # The standard deviation of a standard normal that is cut at two.
    density = math.exp(-(REACH**2) / 2) / math.sqrt(2 * math.pi)
    cut = math.sqrt(1 - 2 * REACH * density / math.erf(REACH / math.sqrt(2)))
    laws = {**LAWS, "hand": (0.0, 1.0)}
    assert set(factors) == {*laws, "way"}
    for name, (mean, stddev) in laws.items():
        white = (factors[name].double() - mean) / stddev
        count = white.numel()
        assert abs(white.mean()) < 4 * cut / math.sqrt(count)
        assert abs(white.var() - cut**2) < 4 * math.sqrt(2 / count)
        assert white.abs().max() <= REACH + 1e-5
    assert abs(factors["way"].double().mean() - 0.5) < 4 * 0.5 / math.sqrt(4000)


def test_a_shift_by_whole_pixels_moves_the_image():
    moved = plain(shift_x=2.0, shift_y=-1.0)
    torch.testing.assert_close(moved, plain().roll((1, 2), dims=(1, 2)), atol=1 / 255 + 1e-6, rtol=0)


def test_a_quarter_turn_is_a_quarter_turn():
    turned = plain(rotation=math.pi / 2)
    torch.testing.assert_close(turned, plain().rot90(dims=(1, 2)), atol=1 / 255 + 1e-6, rtol=0)


def test_slant_leans_to_the_right_by_so_many_pixels_per_pixel():
    straight, leaning = spread(plain()), spread(plain(slant=0.3))
    # The strokes keep their width while points shear, so the moments follow up to the share of the pen.
    gained = leaning[:, 1] - straight[:, 1]
    torch.testing.assert_close(gained / straight[:, 2], torch.full((20,), 0.3), atol=0.06, rtol=0)


def test_size_and_aspect_scale_height_and_width():
    straight = spread(plain(thickness=0.7)).sqrt()
    big, wide = spread(plain(thickness=0.7, size=1.2)).sqrt(), spread(plain(thickness=0.7, aspect=1.3)).sqrt()
    # Not exactly: the pen keeps its width, and where strokes meet, ink is not counted twice.
    torch.testing.assert_close(big[:, 2] / straight[:, 2], torch.full((20,), 1.2), atol=0.06, rtol=0)
    torch.testing.assert_close(wide[:, 2] / straight[:, 2], torch.ones(20), atol=0.06, rtol=0)
    not_one = Y != 1  # a bar has next to no width
    assert (wide[:, 0] / straight[:, 0])[not_one].sub(1.3).abs().max() < 0.06


def test_thickness_is_half_the_width_of_a_stroke():
    """Across an upright bar; the mean over shifts within a pixel takes out where it meets the pixels."""
    for thickness in (0.8, 1.5):
        images = plain(y=torch.ones(20).long(), way=0, thickness=thickness, shift_x=torch.arange(20) / 20)
        across = images[:, 10:18].sum(2).mean()
        # The bar leans by 1 in 20, which widens it by a thousandth; grey levels are rounded.
        assert across.item() == pytest.approx(2 * thickness, abs=0.01)


def test_pressure_makes_the_end_of_a_bar_thinner_and_ink_sets_the_darkest_level():
    bar = plain(pressure=0.3)[1].sum(1)
    assert bar[6] > 1.2 * bar[21]
    assert plain(ink=0.8).amax((1, 2)).tolist() == pytest.approx([0.8] * 20, abs=1e-6)


def test_all_twenty_shapes_differ_and_stay_inside():
    images = plain().flatten(1)
    apart = torch.cdist(images, images) + 100 * torch.eye(20)
    same = Y == Y[:, None]
    assert apart[same].min() > 2
    assert apart[~same].min() > 4
    for ways in SHAPES:
        assert len(ways) == 2
        for shape in ways:
            assert max(abs(value) for point in shape.points for value in point) <= 1
            used = {index for stroke in shape.strokes for index in stroke}
            assert used == set(range(len(shape.points)))


def test_strokes_are_affine_in_their_points():
    """A curve moves along when its control points do: weights of every end sum to one."""
    shapes = strokes()
    for ends in (shapes.begin, shapes.end):
        torch.testing.assert_close(ends.sum(-1), torch.ones(ends.shape[:-1]))
    torch.testing.assert_close(shapes.sway @ shapes.sway.mT, (shapes.sway @ shapes.sway.mT).mT)
    assert (shapes.sway.square().sum(-1) - 1).abs().max() < 1e-5


def test_a_linear_classifier_is_good_but_not_perfect():
    """Least squares on one-hot labels. LeCun et al. (1998) report 12 % errors of a linear one on MNIST."""
    train, test = sample(1500, seed=5), sample(500, seed=6)
    inputs = [torch.cat([part.x, torch.ones(len(part.x), 1)], 1).double() for part in (train, test)]
    target = torch.nn.functional.one_hot(train.y, 10).double()
    gram = inputs[0].mT @ inputs[0] + 10 * torch.eye(785).double()
    weights = torch.linalg.solve(gram, inputs[0].mT @ target)
    accuracy = ((inputs[1] @ weights).argmax(1) == test.y).double().mean().item()
    assert 0.75 < accuracy < 0.96


def test_bad_arguments_are_named():
    x, y, factors = sample(3, seed=0)
    with pytest.raises(ValueError, match="y: expected labels 0 .. 9, got"):
        render(y + 20, factors)
    with pytest.raises(ValueError, match=r"factors: expected \(2,\) rows in each.*'slant'"):
        render(y[:2], factors)
