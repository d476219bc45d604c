"""Hard posteriors that are known: each comes out right, or is refused; at most two are refused.

The posteriors stand in ``experiments/truth/posteriors``, the rule in ``experiments/compare/right.py``.
The seeds are 0, 1, 2, fixed before anything was fitted; the default suite takes the first, and quick ones.
"""

from functools import cache

import pytest
import torch

from experiments.truth.posteriors import gaussian_100, names, posterior
from inference import fit

SEEDS = (0, 1, 2)
MOST_REFUSED = 2
NATS = 1e-8  # KL of a Gaussian guide to a Gaussian target, in float64
EVERY_SEED = [pytest.param(seed, marks=() if seed == SEEDS[0] else pytest.mark.slow) for seed in SEEDS]
# These need a flow or many chains, ten seconds and more of a core each.
LONG = {"eight_schools_centred", "funnel", "horseshoe", "logistic_500"}
EVERY_NAME = [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in names()]


@cache
def known(name):
    return posterior(name)


@cache
def fitted(name, seed):
    truth = known(name)
    return fit(truth.story, truth.data, truth.args, seed=seed)


@pytest.mark.parametrize("seed", EVERY_SEED)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_right_or_refused(name, seed):
    certificate = fitted(name, seed).certificate
    judged = known(name).judge(fitted(name, seed).draws, certificate.ess)
    assert judged.right or not certificate.trusted, f"silently wrong: {judged}\n{certificate}"
    assert certificate.trusted or certificate.reasons
    assert certificate.trusted or not known(name).never_refused, str(certificate)


@pytest.mark.parametrize("seed", EVERY_SEED)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_the_evidence_of_a_trusted_fit(name, seed):
    """Within 4 standard errors and .05 nats of the true one, where it is said."""
    certificate = fitted(name, seed).certificate
    if certificate.trusted and certificate.log_evidence is not None:
        error = certificate.log_evidence - known(name).log_evidence
        assert abs(error) < 4 * certificate.log_evidence_stderr + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_few_are_refused(seed):
    refused = {name: fitted(name, seed).certificate for name in names()}
    refused = {name: str(c) for name, c in refused.items() if not c.trusted}
    assert len(refused) <= MOST_REFUSED, "\n".join(f"{n}: {c}" for n, c in refused.items())


@pytest.mark.parametrize("seed", EVERY_SEED)
def test_a_gaussian_is_fitted_exactly(seed):
    """KL(guide || target) in closed form; a condition number of 1e6 costs no digits that matter."""
    family = fitted("gaussian_100", seed).guide.family
    assert family.scale.shape == (100, 100)
    assert gaussian_100.divergence_from(family.loc, family.scale) < NATS


@pytest.mark.parametrize("seed", EVERY_SEED)
def test_labels_are_switched_evenly(seed):
    """Each restart holds both labellings in equal shares, or the fit is refused."""
    posterior = fitted("label_switching", seed)
    shares = (posterior.draws["mu"][..., 0] < posterior.draws["mu"][..., 1]).double().mean(-1)
    even = bool(((shares - 0.5).abs() < 4 * (0.25 / posterior.draws["mu"].shape[1]) ** 0.5 + 0.02).all())
    assert even or not posterior.certificate.trusted


def test_what_must_not_be_refused():
    never = {name for name in names() if known(name).never_refused}
    assert never == {"gaussian_100", "logistic_500", "eight_schools_noncentred", "two_modes"}
    assert len(names()) >= 10 and torch.get_default_dtype() == torch.float32
