"""Bars and stripes, Ising, and any law over small binary images: against brute force and known figures."""

import itertools
import math

import pytest
import torch

from experiments.compare import divergence
from experiments.truth.images import bars_and_stripes, ising
from experiments.truth.images.binary_images import BinaryImages, images

ROWS = 20_000


def drawn(law, rows=ROWS):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return law.sample((rows,))


def every(pixels):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=pixels)), dtype=torch.float64)


def test_images_are_all_of_them_in_order():
    assert torch.equal(images(5), every(5))


def test_bars_and_stripes_are_the_thirty_images():
    law = bars_and_stripes.law()
    lines = every(4)
    bars = {tuple(line.repeat(4).tolist()) for line in lines}
    stripes = {tuple(line.repeat_interleave(4).tolist()) for line in lines}
    held = images(16)[law.table > -math.inf]
    assert {tuple(row) for row in held.tolist()} == bars | stripes
    assert len(held) == 30
    assert law.entropy().item() == pytest.approx(math.log(30), abs=1e-12)
    torch.testing.assert_close(law.log_prob(held), torch.full((30,), -math.log(30)).double())


def test_bars_and_stripes_are_drawn_equally_often():
    x = drawn(bars_and_stripes.law())
    _, counts = x.unique(dim=0, return_counts=True)
    assert len(counts) == 30
    chi_square = ((counts - ROWS / 30) ** 2 / (ROWS / 30)).sum().item()
    assert abs(chi_square - 29) < 4 * math.sqrt(2 * 29)


def test_ising_has_the_known_normalizer_and_entropy():
    law = ising.law()
    assert law.log_normalizer.item() == pytest.approx(13.18657, abs=5e-6)
    assert law.entropy().item() == pytest.approx(8.66343, abs=5e-6)


def test_ising_by_hand():
    """Two by two: four pairs, all agree in 2 images, none in 2, half of them in the other 12."""
    law = ising.law(side=2, coupling=0.7)
    z = 2 * math.exp(4 * 0.7) + 2 * math.exp(-4 * 0.7) + 12
    assert law.log_normalizer.item() == pytest.approx(math.log(z), abs=1e-12)
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    known = torch.tensor([2.8, -2.8, 0.0]).double() - math.log(z)
    torch.testing.assert_close(law.log_prob(x), known, atol=1e-6, rtol=0)


def test_ising_draws_agree_with_the_law():
    law, x = ising.law(), drawn(ising.law())
    log_prob = law.log_prob(x)
    assert abs(-log_prob.mean() - law.entropy()) < 4 * log_prob.std() / math.sqrt(ROWS)
    # By symmetry each pixel is black half of the time; neighbours agree as the table says.
    assert ((x.mean(0) - 0.5).abs() < 4 * 0.5 / math.sqrt(ROWS)).all()
    p, states = law.table.exp(), images(16)
    known = (p * (states[:, 5] == states[:, 6])).sum().item()
    agree = (x[:, 5] == x[:, 6]).double().mean().item()
    assert abs(agree - known) < 4 * math.sqrt(known * (1 - known) / ROWS)


def test_divergence_is_the_sum_over_all_images():
    p, q = ising.law(side=3, coupling=0.4), ising.law(side=3, coupling=0.2)
    known = (p.table.exp() * (p.table - q.table)).sum().item()
    result = divergence(p, q)
    assert abs(result.value - known) < 4 * result.error
    assert divergence(p, bars_and_stripes.law(3)).value == math.inf


def test_shapes_and_support():
    law = ising.law(side=2)
    assert law.log_prob(torch.zeros(3, 5, 4)).shape == (3, 5)
    assert law.log_prob(law.enumerate_support()).logsumexp(0).item() == pytest.approx(0, abs=1e-12)
    assert law.support.check(drawn(law, 3)).all()


def test_bad_arguments_are_named():
    law = ising.law(side=2)
    with pytest.raises(ValueError, match=r"value: expected images \(\.\.\., 4\) of 0 and 1"):
        law.log_prob(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="value: expected images"):
        law.log_prob(torch.full((4,), 0.5))
    with pytest.raises(ValueError, match=r"log_weights: expected \(2\^pixels,\)"):
        BinaryImages(torch.zeros(6))
    with pytest.raises(ValueError, match="not -inf everywhere"):
        BinaryImages(torch.full((4,), -math.inf))
    with pytest.raises(ValueError, match="pixels: expected 1 .. 20"):
        bars_and_stripes.law(side=5)
