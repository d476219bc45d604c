"""Shares of mass on the sides of a dip, by even places, against quadrature."""

from __future__ import annotations

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import logsigmoid

from inference import fit
from inference.checks.even_places import misplaced

_DENSITY = SimpleNamespace(site_of=lambda unknown: "a")


def _two_sides(share: float, count: int) -> torch.Tensor:
    """Draws of share * Normal(-2, 1/2) + (1 - share) * Normal(2, 1/2): (count, 1)."""
    e = torch.randn(count, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2
    left = torch.arange(count)[:, None] < share * count
    return e + torch.where(left, -2.0, 2.0)


@pytest.mark.parametrize(("share", "reasons"), [(0.93, 0), (0.99, 1), (0.85, 1)])
def test_shares_of_two_sides(share, reasons):
    places = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    sides = torch.stack([torch.distributions.Normal(m, 0.5).log_prob(places[:, 0]) for m in (-2.0, 2.0)])
    log_p = (sides + torch.tensor([[0.93], [0.07]]).log()).logsumexp(0)
    found = misplaced(_DENSITY, _two_sides(share, 4000), places, log_p)
    assert len(found) == reasons
    assert all(r.startswith("a: ") for r in found)


def test_mass_beyond_the_box_and_too_few_places_say_nothing():
    places = torch.linspace(-6, 0, 2001, dtype=torch.float64)[:, None]
    log_p = torch.distributions.Normal(-2.0, 0.5).log_prob(places[:, 0])
    assert not misplaced(_DENSITY, _two_sides(0.5, 4000), places, log_p)
    assert not misplaced(_DENSITY, _two_sides(0.5, 4000), places[::50], log_p[::50])


def test_chains_that_keep_a_wrong_share_of_the_smaller_side():
    """Six failures, logits a^3 - 2a: 6.4 % of the mass lies above -.7, and chains brought .7 % of it."""

    def story():
        a = pyro.sample("a", dist.Normal(0.0, 3.0))
        pyro.sample("x", dist.Bernoulli(logits=(a**3 - 2 * a) * torch.ones(6)).to_event(1))

    grid = torch.linspace(-20, 10, 30_001, dtype=torch.float64)
    log_p = torch.distributions.Normal(0.0, 3.0).log_prob(grid) + 6 * logsigmoid(2 * grid - grid**3)
    true = float(torch.softmax(log_p, 0)[grid > -0.7].sum())
    assert true == pytest.approx(0.064, abs=0.001)
    posterior = fit(story, {"x": torch.zeros(6)}, seed=0)
    share = float((posterior.draws["a"] > -0.7).double().mean())
    assert abs(share - true) < 0.02 or not posterior.certificate.trusted
