"""Sequence families: p(sequence | family) by hand, by counting, and by draws."""

import math

import pytest
import torch

from experiments.truth.simulators.profiles import ALPHABET, Profiles, law, letters, words

ROWS = 20_000


def small():
    profiles = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[0.3, 0.3, 0.4], [0.5, 0.25, 0.25]]])
    return Profiles(torch.tensor([0.6, 0.4]), profiles.double())


def test_by_hand_and_summing_to_one():
    truth = small()
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    assert truth.log_prob_given(every[5], torch.tensor(0)).exp().item() == pytest.approx(0.2 * 0.8)
    assert truth.log_prob(every[5]).exp().item() == pytest.approx(0.6 * 0.16 + 0.4 * 0.3 * 0.25)
    assert truth.log_prob(every).logsumexp(0).item() == pytest.approx(0, abs=1e-6)
    p = truth.log_prob_by_class(every.double()).exp()
    torch.testing.assert_close(truth.entropies(), -(p * p.log()).sum(0))


def test_draws_have_the_profiles():
    truth = law()
    x, y = truth.sample_labelled(ROWS, seed=0)
    assert x.dtype == torch.int64
    assert x.shape == (ROWS, 12)
    for family in range(3):
        counts = torch.nn.functional.one_hot(x[y == family], 20).double()
        p = truth.profiles[family]
        error = (p * (1 - p) / len(counts)).sqrt()
        # 720 bounds, many on rare letters: 5 errors, and 5 counts where a normal law is no guide
        assert ((counts.mean(0) - p).abs() < 5 * error + 5 / len(counts)).all()
        log_prob = truth.log_prob_given(x, torch.full_like(y, family))[y == family]
        mean_error = log_prob.std() / math.sqrt(len(log_prob))
        assert abs(-log_prob.mean() - truth.entropies()[family]) < 4 * mean_error
    right = (truth.probabilities(x).argmax(-1) == y).double().mean().item()
    expected = truth.probabilities(x).max(-1).values
    assert abs(right - expected.mean().item()) < 4 * 0.5 / math.sqrt(ROWS)
    assert 0.94 < right < 0.98


def test_every_third_position_is_conserved():
    entropy = -torch.special.xlogy(law().profiles, law().profiles).sum(-1)
    conserved = torch.arange(12) % 3 == 0
    assert entropy[:, conserved].max() < 2.8 < entropy[:, ~conserved].min()


def test_words_and_letters():
    x, _ = law().sample_labelled(5, seed=1)
    assert torch.equal(letters(words(x)), x)
    assert len(ALPHABET) == len(set(ALPHABET)) == 20
    with pytest.raises(ValueError, match=r"words: .*lengths \[2, 3\] and the letters \['B'\]"):
        letters(["ABC", "AC"])
    with pytest.raises(ValueError, match="x: expected letters 0 .. 19"):
        law().log_prob(torch.full((12,), 20))
    with pytest.raises(ValueError, match="profiles: expected"):
        Profiles(torch.tensor([1.0]), torch.ones(1, 4, 20))
