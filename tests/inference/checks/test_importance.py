"""Proposals are fitted to their own weighted draws where that helps, and left alone where it does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inference.checks.importance import EASY, Replicate, weigh
from inference.guides.gaussian import Gaussian
from inference.guides.mixture import Mixture


class _Known:
    """Problems with a density known to a constant of zero: log evidence 0."""

    def __init__(self, log_prob, size: int, count: int) -> None:
        self._log_prob, self.size, self.count = log_prob, size, count
        self.cost, self.gradient_calls, self.draws = size, 0, 0

    def log_prob(self, z: Tensor, which: Tensor | None = None) -> Tensor:
        self.draws += z.shape[0] * z.shape[1]
        return self._log_prob(z)

    def value_and_grad(self, z: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def _laplace_like(z: Tensor) -> Tensor:
    """Independent Student t's with 20 degrees of freedom, of variance 1."""
    return torch.distributions.StudentT(20.0, 0.0, math.sqrt(18 / 20)).log_prob(z).sum(-1)


def _skewed(z: Tensor) -> Tensor:
    """The logarithms of exponentials: independent, with a long tail to the left."""
    return (z - z.exp()).sum(-1)


def _weighed(
    log_prob, size: int, *, easy: float | None, seed: int
) -> tuple[list[Replicate], Mixture, _Known]:
    problems = _Known(log_prob, size, 4)
    eye = torch.eye(size, dtype=torch.float64).expand(4, size, size)
    loc = torch.full((4, size), -0.3 if log_prob is _skewed else 0.0, dtype=torch.float64)
    guides = Gaussian(loc, 0.9 * eye if log_prob is _skewed else eye)
    own = [torch.Generator().manual_seed(seed + k) for k in range(4)]
    elbo = torch.zeros(4, dtype=torch.float64)
    found = weigh(problems, Mixture.single(guides), elbo, 500, own, easy=easy)
    return found.replicates, found.proposal, problems


@pytest.mark.parametrize("seed", [0, 100])
def test_a_proposal_of_many_unknowns_that_passes_is_not_ruined(seed: int) -> None:
    """Some 700 effective draws cannot tell the 2,000 numbers of a covariance: the fit to them is worse."""
    left, *_ = _weighed(_laplace_like, 60, easy=None, seed=seed)
    fitted, *_ = _weighed(_laplace_like, 60, easy=0.0, seed=seed)
    assert all(r.certified for r in left)
    assert all(r.certified for r in fitted)
    for ours, theirs in zip(fitted, left, strict=True):
        assert ours.ess / ours.pool > 0.7 * theirs.ess / theirs.pool
        assert abs(ours.log_evidence) < 5 * ours.log_evidence_stderr


@pytest.mark.parametrize("seed", [0, 100])
def test_a_proposal_of_few_unknowns_is_mended(seed: int) -> None:
    """Skewed unknowns: the Gaussian's weights do not all pass; those of a mixture fitted to its draws do."""
    left, *_ = _weighed(_skewed, 6, easy=None, seed=seed)
    fitted, *_ = _weighed(_skewed, 6, easy=EASY, seed=seed)
    assert not all(r.certified for r in left)
    assert all(r.certified for r in fitted)
    assert min(r.ess / r.pool for r in fitted) > max(r.ess / r.pool for r in left)
    for r in fitted:
        assert abs(r.log_evidence) < 5 * r.log_evidence_stderr


@pytest.mark.parametrize(("log_prob", "size"), [(_laplace_like, 60), (_skewed, 6)])
def test_the_proposal_that_is_handed_on_is_the_one_that_was_weighed(log_prob, size: int) -> None:
    replicates, proposal, _ = _weighed(log_prob, size, easy=0.0, seed=7)
    z = torch.stack([r.z for r in replicates])
    log_q = torch.stack([r.log_q for r in replicates])
    assert torch.allclose(proposal.log_prob(z), log_q, atol=1e-9)


def test_too_few_effective_draws_are_not_learnt_from() -> None:
    """A proposal far off, in many unknowns: no draws are spent on fitting it to one or two of them."""
    far = lambda z: _laplace_like(z - 1.0)  # noqa: E731
    _, _, problems = _weighed(far, 60, easy=EASY, seed=0)
    _, _, once = _weighed(far, 60, easy=None, seed=0)
    assert problems.draws <= 2 * once.draws
