"""Faults that are planted inside a fit: its certificate notices, and notices by the check that is meant to.

The faults stand in ``experiments/never_silently_wrong/faults.py``. Where one check stands between a fault
and a wrong posterior that calls itself trusted, a second test switches it off and sees just that.
"""

from contextlib import ExitStack

import pytest
import torch

from experiments.never_silently_wrong import faults
from experiments.truth.posteriors import posterior, two_modes
from inference import fit

SEED = 0
GAUSSIAN, LABELS, TWO = "gaussian_100", "label_switching", "two_modes"


def fitted(truth, *planted, **options):
    """The certificate of a fit with faults, and whether its draws are right."""
    with ExitStack() as stack:
        for fault in planted:
            stack.enter_context(fault())
        found = fit(truth.story, truth.data, truth.args, seed=SEED, **options)
    return found.certificate, truth.judge(found.draws, found.certificate.ess).right


def reasons(certificate, *words):
    return any(all(word in reason for word in words) for reason in certificate.reasons)


def stuck_in(centre, weight):
    factor = torch.eye(2, dtype=torch.float64)
    return faults.stuck_restart(torch.tensor(centre, dtype=torch.float64), factor, weight)


def test_a_missing_jacobian_is_found_and_by_nothing_else():
    """The fit is a perfect one of another posterior: without that one reason it would be trusted."""
    certificate, right = fitted(posterior(LABELS), faults.missing_jacobian)
    assert not right and not certificate.trusted
    assert reasons(certificate, "log Jacobian", "weights") and len(certificate.reasons) == 1


@pytest.mark.parametrize("name", [GAUSSIAN, LABELS])
@pytest.mark.parametrize("fault", [faults.narrow_sampler, faults.narrowed_after_weighing])
def test_draws_narrower_than_their_density_are_found(fault, name):
    certificate, right = fitted(posterior(name), fault)
    assert not right and not certificate.trusted and reasons(certificate, "Stein's identity")


def test_only_steins_identity_finds_them():
    certificate, right = fitted(
        posterior(GAUSSIAN), faults.narrow_sampler, lambda: faults.unchecked("departures_from")
    )
    assert certificate.trusted and not right


@pytest.mark.parametrize("name", [pytest.param(GAUSSIAN, marks=pytest.mark.slow), LABELS])
def test_a_guide_that_is_too_narrow_is_mended_or_refused(name):
    """Its density is known, so weights or chains can put it right."""
    certificate, right = fitted(posterior(name), faults.narrow_guide)
    assert right or not certificate.trusted


@pytest.mark.parametrize("weight", [0.5, 0.3, 0.02])
def test_a_dropped_mode_is_found(weight):
    certificate, right = fitted(two_modes.apart(weight, 10.0), faults.dropped_modes)
    assert right or not certificate.trusted
    assert right or certificate.reasons


SEARCHES = ("missed_mass", "uncovered_masses")  # from ends of climbs, and from even places


def test_only_the_searches_for_missed_modes_find_it():
    certificate, right = fitted(posterior(TWO), faults.dropped_modes, lambda: faults.unchecked(*SEARCHES))
    assert certificate.trusted and not right


@pytest.mark.parametrize("other", SEARCHES)
def test_each_search_for_missed_modes_finds_it_alone(other):
    certificate, right = fitted(posterior(TWO), faults.dropped_modes, lambda: faults.unchecked(other))
    assert not right and reasons(certificate, "There are modes")


@pytest.mark.parametrize(("weight", "elbo"), [(0.3, -1.2), (0.02, -3.9)])
def test_a_restart_in_a_local_optimum_is_found(weight, elbo):
    certificate, right = fitted(two_modes.apart(weight, 10.0), stuck_in([-5.0, 0.5], elbo))
    assert right or not certificate.trusted
    assert right or reasons(certificate, "restarts")
