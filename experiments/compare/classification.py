"""How good are a classifier's probabilities? Accuracy, log loss and calibration, with errors.

``probabilities`` is always (rows, classes) with rows that sum to one, ``labels`` (rows,) with
integers 0 .. classes - 1. Two classifiers on the same rows are best compared row by row:
``mean_and_error(nats(a, labels) - nats(b, labels))`` has the error of the difference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.compare.result import (
    Z_POWER,
    Comparison,
    Estimate,
    mean_and_error,
    number,
)

# Rows of probabilities that sum to one up to this are taken as such: float32 inputs are fine.
SUM_TOLERANCE = 1e-4
Z_95 = 1.959963984540054  # two-sided 95 % of a standard normal


class Reliability(NamedTuple):
    """Confidence against accuracy in equally wide bins of the highest probability.

    Every member is a tensor (bins,); an empty bin has ``rows`` 0 and NaN elsewhere. ``low`` and
    ``high`` bound ``accuracy`` with 95 % confidence.
    """

    confidence: Tensor
    accuracy: Tensor
    low: Tensor
    high: Tensor
    rows: Tensor


def correct(probabilities: Any, labels: Any) -> Tensor:
    """1 where the most probable class is the label, 0 elsewhere: (rows,)."""
    p, y = _checked(probabilities, labels)
    return (p.argmax(-1) == y).double()


def nats(probabilities: Any, labels: Any) -> Tensor:
    """Log loss row by row, -log p(label), in nats: (rows,); infinite where that p is 0."""
    p, y = _checked(probabilities, labels)
    return -p.gather(-1, y[:, None]).squeeze(-1).log()


def accuracy(probabilities: Any, labels: Any) -> Estimate:
    """Return the share of rows whose most probable class is the label.

    Examples
    --------
    >>> accuracy([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], [0, 1, 1, 1]).value
    0.75
    """
    return mean_and_error(correct(probabilities, labels))


def log_loss(probabilities: Any, labels: Any) -> Estimate:
    """Mean of -log p(label), in nats.

    Examples
    --------
    >>> round(log_loss([[0.5, 0.5], [0.5, 0.5]], [0, 1]).value, 4)
    0.6931
    """
    return mean_and_error(nats(probabilities, labels))


def reliability(probabilities: Any, labels: Any, bins: int = 10) -> Reliability:
    """Sort rows by their highest probability into bins and count how often it was right.

    Source: Murphy and Winkler (1977), Reliability of subjective probability forecasts; the
    intervals are from Wilson (1927), Probable inference.
    """
    probabilities, labels = _checked(probabilities, labels)
    confidence, hit, where = _binned(probabilities, labels, bins)
    rows = torch.zeros(bins).double().index_add(0, where, torch.ones_like(hit))
    mean = torch.zeros(bins).double().index_add(0, where, confidence) / rows
    share = torch.zeros(bins).double().index_add(0, where, hit) / rows
    middle = (share + Z_95**2 / (2 * rows)) / (1 + Z_95**2 / rows)
    half = (share * (1 - share) / rows + (Z_95 / (2 * rows)) ** 2).sqrt()
    half = Z_95 * half / (1 + Z_95**2 / rows)
    return Reliability(mean, share, middle - half, middle + half, rows)


def calibration_error(
    probabilities: Any, labels: Any, bins: int = 10, resamples: int = 999, seed: int = 0
) -> Comparison:
    """Expected calibration error: mean |confidence - accuracy| over bins, weighted by rows.

    A calibrated classifier does not reach 0 on finitely many rows. ``floor`` (95 % quantile),
    ``null_mean`` and ``p_value`` come from labels drawn from the probabilities themselves, so
    the null is that they are right; ``error`` is a bootstrap over rows; ``detectable`` is
    floor + z_.8 ``error``.

    Source: Naeini, Cooper and Hauskrecht (2015), Obtaining well calibrated probabilities using
    Bayesian binning; Broecker and Smith (2007), Increasing the reliability of reliability diagrams.

    Examples
    --------
    >>> sure = torch.tensor([[1.0, 0.0]] * 8)
    >>> calibration_error(sure, [0, 0, 0, 0, 0, 0, 1, 1]).value
    0.25
    """
    probabilities, labels = _checked(probabilities, labels)
    confidence, hit, where = _binned(probabilities, labels, bins)
    generator = torch.Generator().manual_seed(seed)
    member = torch.nn.functional.one_hot(where, bins).double()
    value = _gap(confidence - hit, member)
    chosen = torch.randint(len(labels), (resamples, len(labels)), generator=generator)
    times = torch.zeros_like(chosen).scatter_add(1, chosen, torch.ones_like(chosen))
    boot = _gap(times * (confidence - hit), member)
    # Only whether the favourite wins matters, and under the null it does with its probability.
    wins = (torch.rand(resamples, len(labels), generator=generator) < confidence).double()
    null = _gap(confidence - wins, member)
    floor, error = torch.quantile(null, 0.95).item(), boot.std().item()
    return Comparison(
        value=value.item(),
        error=error,
        p_value=(1 + int((null >= value - 1e-12).sum())) / (1 + resamples),
        floor=floor,
        detectable=floor + Z_POWER * error,
        kind="calibration error",
        null_mean=null.mean().item(),
    )


def scores(probabilities: Any, labels: Any) -> dict[str, str]:
    """Write one row of a table of classifiers, every number with its error."""
    calibration = calibration_error(probabilities, labels)
    return {
        "accuracy": str(accuracy(probabilities, labels)),
        "log loss / nats": str(log_loss(probabilities, labels)),
        "calibration error": str(Estimate(calibration.value, calibration.error)),
        "its floor": number(calibration.floor, 2),
        "p if calibrated": number(calibration.p_value or 0.0, 2),
    }


def _binned(probabilities: Tensor, labels: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, got {bins}")
    confidence, favourite = probabilities.max(-1)
    where = (confidence * bins).long().clamp(max=bins - 1)
    return confidence, (favourite == labels).double(), where


def _gap(difference: Tensor, member: Tensor) -> Tensor:
    """Mean over rows of the absolute sums in each bin: (..., rows) and (rows, bins) -> (...)."""
    return (difference @ member).abs().sum(-1) / len(member)


def _checked(probabilities: Any, labels: Any) -> tuple[Tensor, Tensor]:
    p, y = torch.as_tensor(probabilities).double(), torch.as_tensor(labels)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(
            "probabilities, labels: expected (rows, classes) and (rows,), "
            f"got {tuple(p.shape)} and {tuple(y.shape)}"
        )
    if not ((p >= 0).all() and ((p.sum(-1) - 1).abs() < SUM_TOLERANCE).all()):
        raise ValueError("probabilities: expected rows >= 0 that sum to 1; normalize them first")
    if y.is_floating_point() or y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(f"labels: expected integers 0 .. {p.shape[1] - 1}, got {y.min()} .. {y.max()}")
    return p, y.long()
