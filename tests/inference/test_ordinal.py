"""Ordinal regression by Pyro's ``OrderedLogistic``, which fills its probabilities in place."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import OrderedTransform

from inference import fit

DOUBLE = {"dtype": torch.float64}
WEIGHTS = torch.tensor([1.0, -0.7, 0.3], **DOUBLE)
CUTS = torch.tensor([-2.0, -0.7, 0.5, 1.8], **DOUBLE)


def simulated(rows, subjects, seed=0):
    """Covariates (rows, 3), each row's subject (rows,), and levels 0 to 4 (rows,)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator, **DOUBLE)
    who = torch.arange(rows) % subjects
    shift = 0.8 * torch.randn(subjects, generator=generator, **DOUBLE) if subjects > 1 else torch.zeros(1)
    noise = torch.rand(rows, generator=generator, **DOUBLE).logit()
    return x, who, ((x @ WEIGHTS + shift[who] + noise)[:, None] > CUTS).sum(-1).double()


def out_of_place(predictor, cuts):
    below = (cuts - predictor[..., None]).sigmoid()
    return dist.Categorical(torch.cat([below[..., :1], below.diff(dim=-1), 1 - below[..., -1:]], -1))


def story_of(levels, subjects):
    def ordinal(x, who):
        weights = pyro.sample("weights", dist.Normal(0.0, 2.0).expand([3]).to_event(1))
        free = dist.Normal(0.0, 1.5).expand([4]).to_event(1)
        cuts = pyro.sample("cuts", dist.TransformedDistribution(free, [OrderedTransform()]))
        mean = x @ weights
        if subjects > 1:
            tau = pyro.sample("tau", dist.HalfNormal(1.0))
            with pyro.plate("subject", subjects, dim=-1):
                shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
            mean = mean + tau * shift[who]
        with pyro.plate("row", len(x), dim=-1):
            pyro.sample("y", levels(mean, cuts))

    return ordinal


def fits_like_its_twin(rows, subjects):
    x, who, y = simulated(rows, subjects)
    both = [
        fit(story_of(levels, subjects), {"y": y}, (x, who), seed=1 + i)
        for i, levels in enumerate([dist.OrderedLogistic, out_of_place])
    ]
    for one in both:
        assert one.certificate.trusted, one.certificate.reasons
    for name in [n for n in ("weights", "cuts", "tau") if n in both[0].draws]:
        mine, twin = (one.draws[name].flatten(0, 1) for one in both)
        # four standard errors of a difference; resampled draws are worth a fifth of their number at least
        error = ((mine.var(0) + twin.var(0)) / (len(mine) / 5)).sqrt()
        assert bool(((mine.mean(0) - twin.mean(0)).abs() < 4 * error).all()), name


def test_ordinal_regression():
    fits_like_its_twin(120, 1)


@pytest.mark.slow
def test_ordinal_regression_with_subjects():
    fits_like_its_twin(900, 60)
