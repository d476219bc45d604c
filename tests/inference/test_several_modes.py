"""Posteriors of several modes, against quadrature: in a fit and in batches, none is trusted and wrong.

The stories, their seeds and tolerances stand in ``experiments/truth/several_modes.py``; they were fixed
before anything was fitted. The default suite takes some of the data sets, the slow one all.
"""

from functools import cache

import pyro
import pyro.distributions as dist
import pytest

from experiments.compare.sbc.calibration import calibration
from experiments.truth.several_modes import (
    MANY,
    PRIORS,
    RARE_X,
    SETS,
    data_sets,
    outcomes,
    rare,
    rare_with_offset,
)
from inference import fit, fit_many
from inference.checks import modes

QUICK = 25
ENDLESS = ("halfcauchy", "wide")
TRUTHS = {"gamma": (0.799, 2.30)}  # mean, 90 % quantile: quadrature of the issue that asked


@pytest.mark.parametrize("count", [QUICK, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MANY)
def test_none_of_a_batch_is_trusted_and_wrong_and_most_are_trusted(name, count):
    found = outcomes(name, count)
    of = min(count or SETS[name], SETS[name])
    assert sum(found.values()) == of
    assert found["SILENTLY WRONG"] == 0, found
    # Of the bent branches of a product a third are refused, for tails that too few draws carry.
    assert found["trusted and right"] >= (0.4 if name == "product" else 0.8) * of, found


def test_calibration_passes_the_story_whose_sign_is_unknown():
    judged = calibration(MANY["squares"]().story, fits=200, observed=["x"], seed=3, progress=False)
    assert judged.p_value > 0.01 and judged.refused <= 10


def test_modes_that_a_batch_leaves_out_are_not_certified(monkeypatch):
    """With one component each, whatever the climbs found: nearly all lack a mode, and say so."""
    monkeypatch.setattr(modes, "_MOST", 1)
    found = outcomes("squares", QUICK)
    assert found["SILENTLY WRONG"] == 0 and found["refused, was wrong"] > QUICK / 4, found


@cache
def fitted(prior, seed):
    return fit(rare(prior).story, {"x": RARE_X}, seed=seed, progress=False)


@pytest.mark.parametrize("seed", range(3))
def test_rare_modes_are_found(seed):
    draws = fitted("gamma", seed).draws["a"].flatten()
    mean, ninth = TRUTHS["gamma"]
    assert fitted("gamma", seed).certificate.trusted
    assert abs(draws.mean() - mean) < 4 * draws.std() / len(draws) ** 0.5
    assert abs((draws <= ninth + 0.02).double().mean() - 0.9) < 4 * (0.09 / len(draws)) ** 0.5 + 0.01


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 6))])
@pytest.mark.parametrize("prior", [p for p in PRIORS if p not in ENDLESS])
def test_rare_modes_under_other_priors(prior, seed):
    found = fitted(prior, seed)
    assert found.certificate.trusted, str(found.certificate)
    assert rare(prior).excess(found.draws, {"x": RARE_X}, found.certificate.ess) <= 1


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 6))])
@pytest.mark.parametrize("prior", ENDLESS)
def test_modes_without_end_are_right_or_refused(prior, seed):
    """Hundreds of modes, of like mass or (half-Cauchy) with a hundredth of it beyond a = 45."""
    found = fitted(prior, seed)
    right = rare(prior).excess(found.draws, {"x": RARE_X}, found.certificate.ess) <= 1
    assert right or not found.certificate.trusted
    assert "were found" in found.certificate.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_rare_modes_with_an_offset_are_right_or_refused(seed):
    case = rare_with_offset()
    found = fit(case.story, {"x": RARE_X}, seed=seed, progress=False)
    assert (
        case.excess(found.draws, {"x": RARE_X}, found.certificate.ess) <= 1 or not found.certificate.trusted
    )


def test_more_modes_than_components_are_refused(monkeypatch):
    monkeypatch.setattr(modes, "_MOST", 3)
    found = fit(rare("gamma").story, {"x": RARE_X}, draws=200, seed=0, progress=False).certificate
    assert not found.trusted and any("There are modes" in reason for reason in found.reasons)
    assert any("Those left out hold about" in note for note in found.notes)


def test_what_was_looked_over_is_said_where_it_matters():
    def line(prior):
        a = pyro.sample("a", prior)
        pyro.sample("x", dist.Normal(a, 1.0))

    flat = dist.ImproperUniform(dist.constraints.real, (), ())
    said = [
        " ".join(fit(line, {"x": 3.0}, (prior,), draws=200, seed=0).certificate.notes)
        for prior in (flat, dist.Normal(0.0, 2.0))
    ]
    assert "within 16 of 0" in said[0] and said[1] == ""
    batch = fit_many(MANY["squares"]().story, data_sets("squares", 9), draws=200)
    assert any("2 were found. 512 places" in " ".join(c.notes) for c in batch.certificates)
