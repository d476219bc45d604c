"""Corrected probabilities and estimated shares of classes, against Bayes' rule and known shares."""

import math

import pytest
import torch

from experiments.compare.prior_shift import reweighted, shares
from experiments.truth.simulators.two_gaussians import law, share_stddev

EVEN = torch.tensor([0.5, 0.5]).double()


def test_correction_is_bayes_rule_with_the_new_shares():
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)[:, None]
    corrected = reweighted(law(1.7).probabilities(x), EVEN, torch.tensor([0.2, 0.8]).double())
    torch.testing.assert_close(corrected, law(1.7, share=0.8).probabilities(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_shares_of_unlabelled_rows_are_found(share):
    rows = 20_000
    x, _ = law(2.0, share=share).sample_labelled(rows, seed=3)
    found = shares(law(2.0).probabilities(x), EVEN)
    assert found.sum().item() == pytest.approx(1)
    assert abs(found[1].item() - share) < 4 * share_stddev(2.0, share, rows)
    # EM ends where the likelihood of the shares is flat: its derivative, a mean over rows, vanishes.
    each = law(2.0).log_prob_by_class(x).exp()
    assert abs(((each[:, 1] - each[:, 0]) / (each @ found)).mean().item()) < 1e-6


def test_error_of_shares_shrinks_to_that_of_counting_labels():
    """Classes far apart are as good as labelled: the binomial error."""
    assert share_stddev(12.0, 0.3, 500) == pytest.approx(math.sqrt(0.3 * 0.7 / 500), rel=1e-6)
    assert share_stddev(1.0, 0.3, 500) > 2 * share_stddev(12.0, 0.3, 500)


def test_bad_arguments_are_named():
    p = torch.tensor([[0.3, 0.7]])
    with pytest.raises(ValueError, match=r"expected \(rows, classes\) and twice"):
        reweighted(p, EVEN, torch.ones(3) / 3)
    with pytest.raises(ValueError, match="trained: expected every class"):
        reweighted(p, torch.tensor([0.0, 1.0]), EVEN)


def test_em_that_has_not_settled_says_so(monkeypatch):
    x, _ = law(1.0, share=0.9).sample_labelled(200, seed=0)
    monkeypatch.setattr("experiments.compare.prior_shift.STEPS", 3)
    with pytest.raises(ValueError, match="EM has not settled after 3 steps"):
        shares(law(1.0).probabilities(x), EVEN)
