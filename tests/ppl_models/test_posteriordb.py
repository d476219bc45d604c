"""Two posteriors of posteriordb: the reference draws against a story, and against a story's distribution.

Needs the database's folder `posterior_database` in the environment variable PDB_PATH; skipped without.

The references are 10,000 draws each, checked by the database's own rules (R-hat below 1.01). A fit that
is trusted must agree with them: means to .05 reference standard deviations + 4 Monte Carlo errors, standard
deviations to 5 % + 4 Monte Carlo errors.
"""

import json
import os
import zipfile
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

from inference import fit
from ppl_models.distributions.hidden_markov import HiddenMarkov
from ppl_models.hierarchical_means import hierarchical_means

ROOT = os.environ.get("PDB_PATH", "")
pytestmark = pytest.mark.skipif(
    not Path(ROOT, "reference_posteriors").is_dir(),
    reason="set PDB_PATH to posteriordb's folder posterior_database (github.com/stan-dev/posteriordb)",
)


def unpack(path):
    with zipfile.ZipFile(Path(ROOT, path)) as packed:
        return json.loads(packed.read(packed.namelist()[0]))


def reference(name):
    """Draws by parameter, (draws,), chains joined."""
    chains = unpack(f"reference_posteriors/draws/draws/{name}.json.zip")
    joined = {key: [v for chain in chains for v in chain[key]] for key in chains[0]}
    return {key: torch.tensor(values, dtype=torch.float64) for key, values in joined.items()}


def errors(ours, theirs):
    """Error of the mean in reference standard deviations, and of the standard deviation, relative."""
    return float((ours.mean() - theirs.mean()) / theirs.std()), float(ours.std() / theirs.std() - 1)


def agree(posterior, pairs, theirs):
    """Whether a trusted fit agrees; a refusal with a reason is an answer as well."""
    certificate = posterior.certificate
    found = {name: errors(draws, theirs[name]) for name, draws in pairs.items()}
    print(certificate, found)
    if not certificate.trusted:
        assert certificate.reasons
        return
    count = min(certificate.ess, min(len(draws) for draws in pairs.values()))
    error = (1 / 10_000 + 1 / count) ** 0.5  # of a mean, in standard deviations
    for name, (mean, stddev) in found.items():
        kurtosis = ((theirs[name] - theirs[name].mean()) ** 4).mean() / theirs[name].var() ** 2
        assert abs(mean) < 0.05 + 4 * error, name
        assert abs(stddev) < 0.05 + 4 * error * float(kurtosis - 1) ** 0.5 / 2, name


def test_eight_schools():
    data, theirs = (
        unpack("data/data/eight_schools.json.zip"),
        reference("eight_schools-eight_schools_noncentered"),
    )
    stddev = torch.tensor(data["sigma"], dtype=torch.float64)
    y = torch.tensor(data["y"], dtype=torch.float64)
    posterior = fit(hierarchical_means, {"y": y}, (stddev,), seed=0)
    draws = {name: v.flatten(0, 1) for name, v in posterior.draws.items()}
    pairs = {"mu": draws["mu"], "tau": draws["tau"]}
    agree(posterior, pairs | {f"theta[{j + 1}]": draws["theta"][:, j] for j in range(8)}, theirs)


def story(n, length):
    """The database's ``hmm_example``: two ordered levels with priors of their own, noise 1, flat chances.

    It starts in every state with weight 1, which is up to a constant an even start.
    """
    flat = dist.Dirichlet(torch.ones(2))
    theta1, theta2 = pyro.sample("theta1", flat), pyro.sample("theta2", flat)
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    pyro.factor("levels", dist.Normal(torch.tensor([3.0, 10.0]), 1.0).log_prob(mu).sum())
    law = dist.Normal(mu, 1.0)
    with pyro.plate("row", n, dim=-1):
        chain = HiddenMarkov(torch.full((2,), 0.5), torch.stack([theta1, theta2]), law, length)
        pyro.sample("y", chain)


def test_hidden_markov():
    data, theirs = unpack("data/data/hmm_example.json.zip"), reference("hmm_example-hmm_example")
    y = torch.tensor([data["y"]], dtype=torch.float64)
    posterior = fit(story, {"y": y}, (1, len(data["y"])), seed=0)
    draws = {name: v.flatten(0, 1) for name, v in posterior.draws.items()}
    names = ("mu", "theta1", "theta2")
    agree(posterior, {f"{name}[{k + 1}]": draws[name][:, k] for name in names for k in range(2)}, theirs)
