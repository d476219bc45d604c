"""Accuracy, log loss, calibration and AUC: small cases by hand, errors and levels by simulation."""

import math

import pytest
import torch

from experiments.compare.classification import (
    accuracy,
    calibration_error,
    correct,
    log_loss,
    nats,
    reliability,
    scores,
)
from experiments.compare.detection import auc
from experiments.compare.result import Estimate, mean_and_error

P = torch.tensor([[0.95, 0.05], [0.65, 0.35], [0.2, 0.8], [0.35, 0.65]])
Y = torch.tensor([0, 1, 1, 1])


def simulated(seed, rows=400, sharpen=1.0):
    """Probabilities of a three-class classifier and labels drawn from them; > 1: overconfident."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    y = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)
    return (sharpen * logits).softmax(-1), y


def test_by_hand():
    assert correct(P, Y).tolist() == [1, 0, 1, 1]
    assert accuracy(P, Y) == Estimate(0.75, 0.25)
    expected = [-math.log(p) for p in (0.95, 0.35, 0.8, 0.65)]
    assert nats(P, Y).tolist() == pytest.approx(expected)
    assert log_loss(P, Y).value == pytest.approx(sum(expected) / 4)


def test_reliability_by_hand():
    bins = reliability(P, Y, bins=10)
    assert bins.rows.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 1, 1]
    assert bins.accuracy[6] == 0.5
    assert bins.confidence[6] == pytest.approx(0.65)
    assert bins.low[6].item() == pytest.approx(0.0945, abs=1e-4)  # Wilson's, 1 of 2
    assert bins.high[6].item() == pytest.approx(0.9055, abs=1e-4)
    assert bins.low[9].item() == pytest.approx(0.2065, abs=1e-4)  # 1 of 1
    assert bins.high[9].item() == pytest.approx(1)
    assert bins.accuracy[0].isnan()
    assert calibration_error(P, Y).value == pytest.approx((2 * 0.15 + 0.2 + 0.05) / 4)


def test_scores_are_a_row_of_text():
    row = scores(P, Y)
    assert row["accuracy"] == "0.75 ± 0.25"
    assert list(row) == [
        "accuracy",
        "log loss / nats",
        "calibration error",
        "its floor",
        "p if calibrated",
    ]


def test_an_impossible_label_costs_infinity():
    result = log_loss([[1.0, 0.0], [0.5, 0.5]], [1, 0])
    assert result.value == math.inf
    assert math.isnan(result.error)


def test_certain_and_right_is_calibrated():
    result = calibration_error([[1.0, 0.0]] * 10, [0] * 10, resamples=99)
    assert (result.value, result.p_value, result.floor) == (0, 1, 0)


def test_standard_error_covers():
    truth = log_loss(*simulated(0, rows=200_000)).value
    z = [
        (estimate.value - truth) / estimate.error
        for estimate in (log_loss(*simulated(s)) for s in range(1, 201))
    ]
    # 200 z-scores know their variance to sqrt(2/199) = .1.
    assert abs(torch.tensor(z).var().item() - 1) < 0.4


def test_calibration_test_has_its_level_and_power():
    null = [calibration_error(*simulated(s), resamples=99) for s in range(200)]
    rejected = sum(r.p_value <= 0.05 for r in null) / 200
    assert abs(rejected - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 200)
    mean = torch.tensor([r.value for r in null])
    bias = sum(r.null_mean for r in null) / 200
    assert abs(mean.mean().item() - bias) < 4 * mean.std().item() / math.sqrt(200)
    for seed in range(5):
        overconfident = calibration_error(*simulated(seed, sharpen=2.0), resamples=99)
        assert overconfident.p_value == 0.01
        assert overconfident.value > overconfident.floor > overconfident.null_mean > 0


def test_auc_by_hand_and_against_the_closed_form():
    assert auc([2.0, 3.0], [0.0, 1.0]) == Estimate(1.0, 0.0)
    assert auc([1.0, 1.0], [1.0, 1.0]).value == 0.5
    truth = 0.5 * (1 + math.erf(1 / 2))  # Phi(1 / sqrt 2): normals one deviation apart
    z = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        a, b = torch.randn(80, generator=generator) + 1, torch.randn(60, generator=generator)
        estimate = auc(a, b)
        z.append((estimate.value - truth) / estimate.error)
    z = torch.tensor(z)
    assert abs(z.mean().item()) < 4 / math.sqrt(200) + 0.05
    assert abs(z.var().item() - 1) < 0.45


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        ([0.5, 0.5], [0, 1], r"expected \(rows, classes\)"),
        ([[0.5, 0.6]], [0], "sum to 1"),
        ([[1.5, -0.5]], [0], "sum to 1"),
        ([[0.5, 0.5]], [2], "labels: expected integers 0 .. 1"),
        ([[0.5, 0.5]], [0.0], "labels"),
        ([[math.nan, 0.5]], [0], "sum to 1"),
    ],
)
def test_bad_arguments_are_named(probabilities, labels, words):
    with pytest.raises(ValueError, match=words):
        accuracy(probabilities, labels)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="bins"):
        reliability(P, Y, bins=0)
    with pytest.raises(ValueError, match="lower"):
        auc([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least 2"):
        mean_and_error(torch.ones(1))
