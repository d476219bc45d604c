"""The digits, their split, and things that are no digits."""

import math

import pytest
import torch

from experiments.truth.images.digits import dequantized, load, lower_half, no_digits


def rows(x):
    return {tuple(row) for row in x.int().tolist()}


def test_split_is_whole_disjoint_and_stratified():
    digits = load()
    assert digits.train.x.shape == (1437, 64)
    assert digits.test.x.shape == (360, 64)
    assert digits.train.x.dtype == torch.float64
    assert digits.train.y.dtype == torch.int64
    everything = torch.cat([digits.train.x, digits.test.x])
    assert everything.min() == 0
    assert everything.max() == 16
    assert torch.equal(everything, everything.round())
    assert not rows(digits.train.x) & rows(digits.test.x)
    shares = [torch.bincount(part.y, minlength=10) / len(part.y) for part in digits]
    assert (shares[0] - shares[1]).abs().max() < 1 / 360


def test_the_seed_decides():
    assert torch.equal(load(seed=3).test.x, load(seed=3).test.x)
    assert not torch.equal(load(seed=3).test.x, load(seed=4).test.x)
    assert len(load(test=0.5).train.y) == 898


def test_no_digits_are_none_but_look_like_grey_levels():
    x = load().test.x
    others = no_digits(x, seed=1)
    assert len(others) == 5
    for other in others.values():
        assert other.shape == x.shape
        assert other.dtype == x.dtype
        assert other.min() >= 0
        assert other.max() <= 16
        assert torch.equal(other, other.round())
        assert len(rows(other) & rows(x)) <= 2  # a permutation may leave a row in its place
    assert torch.equal(others["shuffled"].sort(-1).values, x.sort(-1).values)
    assert torch.equal(others["inverted"], 16 - x)
    kept = ~lower_half()
    assert torch.equal(others["two halves"][:, kept], x[:, kept])
    assert torch.equal(no_digits(x, seed=1)["noise"], others["noise"])
    assert not torch.equal(no_digits(x, seed=2)["noise"], others["noise"])


def test_lower_half_is_the_lower_half():
    image = lower_half().reshape(8, 8)
    assert image[4:].all()
    assert not image[:4].any()


def test_dequantized_levels_are_even_over_their_interval():
    x = load().train.x
    state = torch.get_rng_state()
    spread = dequantized(x, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert spread.dtype == torch.float64
    u = spread - x
    assert 0 <= u.min() <= u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 * (1 / 12 / u.numel()) ** 0.5
    assert abs((u**2).mean() - 1 / 3) < 4 * (4 / 45 / u.numel()) ** 0.5
    assert torch.equal(dequantized(x, seed=1), spread)
    assert not torch.equal(dequantized(x, seed=2), spread)


def test_dequantized_float32_never_reaches_the_next_level():
    """Without care, rounding lifts one draw in 2^24 / 255 there: 6 of these 400,000."""
    x = torch.full((400_000,), 254.0)
    assert dequantized(x).max() < 255
    assert dequantized(x.int()).dtype == torch.float32


def test_a_density_of_dequantized_levels_bounds_their_probability():
    """An even density on [0, 17) attains it, a sloping one stays below, by Jensen's inequality."""
    x = torch.arange(17.0).repeat(20_000)
    noisy = dequantized(x, seed=3).double()
    density = 2 * noisy / 17**2
    mass = ((x + 1) ** 2 - x**2).double() / 17**2
    for level in range(17):
        held = x == level
        log_density = density[held].log()
        assert log_density.mean() < mass[held][0].log() + 4 * log_density.std() / held.sum().sqrt()
    lowest = density[x == 0].log()
    known = math.log(2 / 17**2) - 1  # the mean of log u is -1; the mass is 1 / 17^2, .31 nats more
    assert abs(lowest.mean() - known) < 4 * lowest.std() / 20_000**0.5


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"x: expected whole grey levels; .*255 \* x"):
        dequantized(torch.tensor([0.5]))
    with pytest.raises(ValueError, match="test: expected a share"):
        load(test=1.5)
    with pytest.raises(ValueError, match=r"x: expected images \(rows, 64\)"):
        no_digits(torch.zeros(3, 8, 8))
