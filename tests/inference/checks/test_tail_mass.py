"""The mass in tails that chains hardly enter, against closed forms and quadrature."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from inference import fit
from inference.checks.tail_mass import curved_tails, short_tails, tail_masses

normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)


class _Funnel:
    """v ~ Normal(0, 1), and three x ~ Normal(0, exp(v)) given v, as one problem."""

    count, size, cost, gradient_calls = 1, 4, 4, 0

    def log_prob(self, z: Tensor, which: Tensor | None = None) -> Tensor:
        v, x = z[..., 0], z[..., 1:]
        return -v.square() / 2 - (x * (-v)[..., None].exp()).square().sum(-1) / 2 - 3 * v

    def value_and_grad(self, z: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            value = self.log_prob(point)
            (grad,) = torch.autograd.grad(value.sum(), point)
        return value.detach(), grad


def _funnel(draws: int, seed: int) -> Tensor:
    e = torch.randn(draws, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([e[:, :1], e[:, 1:] * e[:, :1].exp()], 1)


@pytest.mark.parametrize("kept", [1.0, 0.3, 0.1])
def test_the_mass_beyond_what_draws_reached_is_told(kept: float) -> None:
    """Of the draws in the neck beyond the 4 % quantile some are lost, as where chains hardly enter it."""
    z = _funnel(8000, 0)
    rare = torch.rand(len(z), generator=torch.Generator().manual_seed(1)) > kept
    z = z[~((z[:, 0] < -1.75) & rare)]
    (tail,) = tail_masses(_Funnel(), z, [(0, False)], torch.Generator().manual_seed(2))
    truth = float(normal.cdf(torch.tensor(tail.value, dtype=torch.float64)))
    inner = float(normal.cdf(z[:, 0].quantile(0.05)))  # the 5 % quantile of the draws themselves errs, too
    assert math.isclose(tail.mass, truth * 0.05 / inner, rel_tol=0.05)
    assert (tail.mass > 0.013) == (kept < 1)


def test_a_curved_tail_is_found_and_a_gaussian_has_none() -> None:
    z = _funnel(4000, 3)
    grad = _Funnel().value_and_grad(z)[1]
    assert next(iter(curved_tails(z, z, grad))) == (0, False)
    e = torch.randn(1000, 10, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert curved_tails(e, e, -e) == {}


class _Density(_Funnel):
    """The same with what a note needs."""

    traced = True

    def site_of(self, unknown: int) -> str:
        return "v"


@pytest.mark.parametrize("kept", [1.0, 0.1])
def test_a_note_names_the_site_and_the_mass(kept: float) -> None:
    z = _funnel(8000, 5)
    rare = torch.rand(len(z), generator=torch.Generator().manual_seed(6)) > kept
    z = z[~((z[:, 0] < -1.75) & rare)]
    drawn = z[: len(z) // 4 * 4].unflatten(0, (4, -1))
    notes = short_tails(_Density(), drawn, torch.Generator().manual_seed(7))
    if kept == 1.0:
        assert notes == []
    else:
        assert notes[0].startswith("v: its lower tail is too short in the draws")


_SEEN = [
    0.21592641, 0.118771404, -0.07945447, 0.037677474, -0.27885845, -0.1484156, -0.3250906, -0.22957903,
    -0.44110894, -0.09830782, -0.8786016, -0.83736074, -0.7384849, -0.8939254, -0.7774566, -0.70238715,
    -0.87771565, -0.51853573, -0.6948214, -0.6202789,
]  # fmt: skip
_WHEN = torch.tensor([*range(10), *range(20, 30)])


def _brownian() -> None:
    """Inference Gym's Brownian motion with unknown scales and missing middle observations."""
    s = pyro.sample("s", dist.LogNormal(0.0, 2.0))
    o = pyro.sample("o", dist.LogNormal(0.0, 2.0))
    with pyro.plate("steps", 30):
        e = pyro.sample("e", dist.Normal(0.0, 1.0))
    with pyro.plate("seen", 20):
        pyro.sample("y", dist.Normal((s * e.cumsum(-1))[_WHEN], o))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_tail_that_chains_never_reached_is_spoken_of(seed: int) -> None:
    """P(log o < -4) by quadrature over both scales; the draws have it within a factor of 1.5, or a note."""
    y = torch.tensor(_SEEN, dtype=torch.float64)
    spread, vectors = torch.linalg.eigh(torch.minimum(_WHEN[:, None] + 1, _WHEN + 1).double())
    log_s = torch.linspace(-6, 2, 401, dtype=torch.float64)[:, None, None]
    log_o = torch.linspace(-12, 1, 1301, dtype=torch.float64)[:, None]
    variance = (2 * log_s).exp() * spread + (2 * log_o).exp()
    log_p = -0.5 * ((vectors.T @ y).square() / variance + variance.log()).sum(-1)
    p = (log_p - log_s[..., 0].square() / 8 - log_o[:, 0].square() / 8).flatten().softmax(0)
    truth = float(p.reshape(401, 1301).sum(0)[log_o[:, 0] < -4].sum())
    assert math.isclose(truth, 0.01306, abs_tol=2e-4)
    posterior = fit(_brownian, {"y": y}, seed=seed)
    share = float((posterior.draws["o"].log() < -4).double().mean())
    told = [note for note in posterior.certificate.notes if note.startswith("o: its lower tail")]
    assert told or not posterior.certificate.trusted or 1 / 1.5 < share / truth < 1.5
