"""A guide that covers one mode of two: its own weights look perfect, the prior's draws tell."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from experiments.truth.posteriors import posterior
from experiments.truth.random_modes import random_modes
from inference import fit

X = (4 + 5 * torch.rand(200, generator=torch.Generator().manual_seed(0)))[:, None]


class Square(PyroModule):
    def forward(self, n):
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 2.0))
            pyro.sample("x", dist.Normal(z[..., None] ** 2, 0.5).to_event(1))


class OneRoot(PyroModule):
    """It knows the positive root only."""

    both = False

    def __init__(self, story):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor([1.0, 0.0, -1.0, -0.5]))

    def forward(self, n, data):
        a, b, c, d = self.shift
        root = data["x"][..., 0].clamp_min(0.1).sqrt()
        with pyro.plate("row", n, dim=-1):
            spread = (c + d * root.log()).exp()
            if self.both:
                centre = torch.stack([-(a * root + b), a * root + b], -1)
                law = dist.MixtureSameFamily(
                    dist.Categorical(torch.full(centre.shape, 0.5)),
                    dist.StudentT(5.0, centre, spread[..., None]),
                )
            else:
                law = dist.StudentT(5.0, a * root + b, spread)
            pyro.sample("z", law)


class BothRoots(OneRoot):
    both = True


@pytest.mark.parametrize(("guide", "missed"), [(OneRoot, True), (BothRoots, False)])
def test_a_missed_mode_of_rows_is_found_and_only_there(guide, missed):
    certificate = fit(Square(), {"x": X}, guide=guide, restarts=1, draws=20, seed=0).certificate
    said = [reason for reason in certificate.reasons if "overlooks values" in reason]
    assert bool(said) == missed, str(certificate)
    assert certificate.rows.flagged < 0.1  # its own weights notice nothing
    assert certificate.trusted != missed


@pytest.mark.parametrize("seed", [2, 4, 6, 7])
def test_two_modes_are_found_from_any_seed(seed):
    """From starts in (-2, 2) alone these seeds saw the wider mode only, and called it trusted."""
    known = posterior("two_modes")
    found = fit(known.story, known.data, known.args, draws=500, restarts=2, seed=seed, progress=False)
    assert found.certificate.trusted
    assert known.judge(found.draws, found.certificate.ess).right


@pytest.mark.parametrize("number", range(6))
def test_modes_that_the_prior_knows_are_found(number):
    """Narrow and wide modes in up to eight dimensions, far outside of (-2, 2)."""
    known = random_modes(30_000 + number, "own")
    found = fit(known.story, known.data, known.args, draws=500, seed=0, progress=False)
    assert found.certificate.trusted
    assert known.judge(found.draws, found.certificate.ess).right
