"""The parts of the semi-supervised experiment; its smoke run is in test_smoke.py."""

from types import SimpleNamespace

import pytest
import torch

from experiments.report import Run
from experiments.semi_supervised import __main__ as semi_supervised
from experiments.semi_supervised import figures
from experiments.semi_supervised.peer import probabilities, trained, tuned
from experiments.truth.images.digits import Digits, Images, load


def test_the_labelled_rows_are_as_many_of_every_digit_and_others_with_another_seed():
    y = load().train.y
    rows = semi_supervised.chosen(y, 10, seed=3)
    assert len(set(rows.tolist())) == 100
    assert y[rows].tolist() == [digit for digit in range(10) for _ in range(10)]
    assert set(rows.tolist()) != set(semi_supervised.chosen(y, 10, seed=4).tolist())
    assert torch.equal(rows, semi_supervised.chosen(y, 10, seed=3))


def test_coarse_levels_are_rounded():
    images = Images(torch.tensor([[0.0, 1.0, 2.0, 3.0, 9.0, 11.0, 14.0, 16.0]]), torch.tensor([4]))
    x = semi_supervised.coarse(Digits(images, images)).test.x
    assert x.tolist() == [[0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 4.0]]


def test_the_peer_learns_and_is_tuned_against_overfitting():
    """Random labels: the heaviest decay is best. Labels that follow the ink: a light one is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, 64, generator=generator).double()
    y = torch.arange(10).repeat(6)
    told = x.clone()
    told[torch.arange(60), y] += 3.0
    before = torch.random.get_rng_state()
    assert tuned(Images(x, y), 16, 50, 0, (0.1, 30.0)) == 30.0
    assert tuned(Images(told, y), 16, 50, 0, (0.1, 30.0)) == 0.1
    p = probabilities(trained(Images(told, y), 16, 0.1, 50, 0), told)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert p.dtype == torch.float64 and (p.argmax(-1) == y).all()


def answers(alone, m2):
    """Splits with as many right answers out of 10 as are given."""
    y = torch.zeros(10, dtype=torch.long)
    digits = Digits(Images(torch.zeros(10, 64), y), Images(torch.zeros(10, 64), y))

    def p(right):
        return torch.nn.functional.one_hot((torch.arange(10) >= right).long(), 10).double()

    return [
        semi_supervised.Answers(
            digits, y, 1.0, {semi_supervised.ALONE: p(a), semi_supervised.M2: p(b)}, SimpleNamespace()
        )
        for a, b in zip(alone, m2, strict=True)
    ]


@pytest.mark.parametrize(
    ("alone", "m2", "verdict"), [([5, 6, 5], [7, 8, 8], ", more"), ([5, 6, 5], [6, 5, 6], "not more")]
)
def test_the_gain_is_told_in_standard_errors_over_splits(alone, m2, verdict, tmp_path):
    run = Run("semi_supervised", "question", tmp_path)
    less = semi_supervised.gain(run, semi_supervised.M2, answers(alone, m2))
    gains = torch.tensor([b - a for a, b in zip(alone, m2, strict=True)]) / 10
    assert less.value == pytest.approx(gains.mean().item())
    assert less.error == pytest.approx(gains.std().item() / len(gains) ** 0.5)
    assert f"{verdict} than two standard errors" in run.blocks[-1].text


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [(2, 5, "--labels: expected at least 5"), (10, 1, "--splits: expected at least 2")],
)
def test_too_few_labels_or_splits_are_an_error(labels, splits, message, tmp_path):
    options = SimpleNamespace(labels=labels, splits=splits, steps=5)
    with pytest.raises(ValueError, match=message):
        semi_supervised.main(Run("semi_supervised", "question", tmp_path, options=options))


def test_the_figure_joins_the_two_that_are_compared():
    axes = figures.errors({"alone": [0.2, 0.3], "M2": [0.1, 0.25], "all": [0.05, 0.04]}, [0, 1]).axes[0]
    (lines,) = axes.collections
    assert [line.tolist() for line in lines.get_segments()] == [[[0, 20], [0, 10]], [[1, 30], [1, 25]]]
    assert axes.get_ylim()[1] > 30
