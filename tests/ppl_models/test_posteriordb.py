"""Two posteriors of posteriordb: the reference draws against a story, and against a story's distribution.

Needs the database's folder `posterior_database` in the environment variable PDB_PATH; skipped without.

The references are 10,000 draws each, checked by the database's own rules (R-hat below 1.01). A fit that
is trusted must agree with them: means to .05 reference standard deviations + 4 Monte Carlo errors, standard
deviations to 5 % + 4 Monte Carlo errors.
"""

import os
from pathlib import Path

import pytest

from experiments.truth import posteriordb
from inference import fit
from ppl_models.hierarchical_means import hierarchical_means

pytestmark = pytest.mark.skipif(
    not Path(os.environ.get("PDB_PATH", ""), "reference_posteriors").is_dir(),
    reason="set PDB_PATH to posteriordb's folder posterior_database (github.com/stan-dev/posteriordb)",
)


def errors(ours, theirs):
    """Error of the mean in reference standard deviations, and of the standard deviation, relative."""
    return float((ours.mean() - theirs.mean()) / theirs.std()), float(ours.std() / theirs.std() - 1)


def agree(posterior, ours, theirs):
    """Whether a trusted fit agrees; a refusal with a reason is an answer as well."""
    certificate = posterior.certificate
    ours, theirs = posteriordb.scalars(ours), posteriordb.scalars(theirs)
    found = {name: errors(ours[name], theirs[name]) for name in theirs}
    print(certificate, found)
    if not certificate.trusted:
        assert certificate.reasons
        return
    count = min(certificate.ess, min(len(draws) for draws in ours.values()))
    error = (1 / 10_000 + 1 / count) ** 0.5  # of a mean, in standard deviations
    for name, (mean, stddev) in found.items():
        kurtosis = ((theirs[name] - theirs[name].mean()) ** 4).mean() / theirs[name].var() ** 2
        assert abs(mean) < 0.05 + 4 * error, name
        assert abs(stddev) < 0.05 + 4 * error * float(kurtosis - 1) ** 0.5 / 2, name


def test_eight_schools():
    """The same priors and likelihood as the database's, under this package's names."""
    known = posteriordb.load("eight_schools-eight_schools_noncentered")
    posterior = fit(hierarchical_means, known.data, known.args, seed=0)
    agree(posterior, known.quantities(posterior.draws), known.reference)


def test_hidden_markov():
    """``HiddenMarkov`` as the database's ``hmm_example`` uses it."""
    known = posteriordb.load("hmm_example-hmm_example")
    posterior = fit(known.story, known.data, known.args, seed=0)
    agree(posterior, known.quantities(posterior.draws), known.reference)
