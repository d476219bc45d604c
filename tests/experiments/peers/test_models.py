"""The models in NumPyro and in PyMC have the density of our stories, up to a constant."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pyro
import pytest
import torch

from experiments.peers.fresh import absent
from experiments.peers.models import in_numpyro, in_pymc
from experiments.peers.posed import EIGHT, posed
from experiments.truth import posteriordb

ROOT = Path(__file__).parents[3]
HIDDEN = {"eight_schools-eight_schools_noncentered": "theta_trans", "gp_pois_regr-gp_pois_regr": "f_tilde"}
ROWS = (0, 4321, 9999)  # of the reference draws
# The jitter of 1e-10 in the Gaussian process leaves six digits of the factor of its covariance, and so of f.
NUMERICAL = 1e-4
needs_data = pytest.mark.skipif(
    not Path(os.environ.get("PDB_PATH", ""), "reference_posteriors").is_dir(),
    reason="set PDB_PATH to posteriordb's folder posterior_database (github.com/stan-dev/posteriordb)",
)

NUMPYRO = """
import json, sys
import numpy as np, numpyro
from numpyro.infer.util import log_density
from experiments.peers.models.in_numpyro import problem
from experiments.peers.posed import posed
numpyro.enable_x64()
found = {}
for name, points in json.load(sys.stdin).items():
    model, args = problem(*posed(name))
    sites = [{site: np.array(value) for site, value in point.items()} for point in points]
    found[name] = [float(log_density(model, args, {}, point)[0]) for point in sites]
print(json.dumps(found))
"""
PYMC = """
import json, sys
import numpy as np
from experiments.peers.models.in_pymc import model
from experiments.peers.posed import posed
found = {}
for name, points in json.load(sys.stdin).items():
    built = model(*posed(name))
    names = [value.name for value in built.value_vars]
    density = built.compile_logp(jacobian=False, mode="FAST_COMPILE")
    def placed(point):
        logs = {f"{site}_log__": np.log(value) for site, value in point.items() if f"{site}_log__" in names}
        return logs | {site: np.array(value) for site, value in point.items() if site in names}
    found[name] = [float(density(placed(point))) for point in points]
print(json.dumps(found))
"""


def points(name):
    """Values of the story's sites at a few reference draws; what has none is standard normal."""
    reference = posteriordb.load(name).reference
    found = []
    for row in ROWS:
        point = {site: values[row] for site, values in reference.items() if site not in ("theta", "f")}
        if name == "arma-arma11":
            point["theta"] = reference["theta"][row]
        if site := HIDDEN.get(name):
            size = {"theta_trans": 8, "f_tilde": 11}[site]
            generator = torch.Generator().manual_seed(row)
            point[site] = torch.randn(size, generator=generator, dtype=torch.float64)
        found.append(point)
    return found


def log_prob(known, point):
    """Log joint density of our story, in constrained space."""
    seen = pyro.condition(known.story, data={**point, **known.data})
    trace = pyro.poutine.trace(seen).get_trace(*known.args, **known.kwargs)
    return float(trace.log_prob_sum())


@needs_data
@pytest.mark.parametrize(
    ("peer", "code"), [("numpyro_nuts", NUMPYRO), ("nutpie", PYMC)], ids=["numpyro", "pymc"]
)
def test_density_is_that_of_our_story(peer, code):
    if missing := absent(peer):
        pytest.skip(f"{', '.join(missing)} not installed: pip install -e '.[peers]'")
    asked = {name: points(name) for name in EIGHT}
    plain = {n: [{s: v.tolist() for s, v in p.items()} for p in found] for n, found in asked.items()}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, input=json.dumps(plain), cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    for name in EIGHT:
        known = posteriordb.load(name)
        ours = [log_prob(known, point) for point in asked[name]]
        constants = [a - b for a, b in zip(theirs[name], ours, strict=True)]
        assert len({round(value, 2) for value in ours}) == len(ROWS), "points that say something"
        assert all(math.isfinite(c) and abs(c - constants[0]) < NUMERICAL for c in constants), (
            name,
            constants,
        )


@pytest.mark.parametrize("build", [in_numpyro.problem, in_pymc.model])
def test_another_program_is_refused(build):
    with pytest.raises(ValueError, match=r"stan: expected one of .*arma11.*got 'garch11'"):
        build("garch11", {})


@needs_data
def test_another_posterior_is_refused():
    with pytest.raises(ValueError, match=r"name: expected one of .*sblri-blr.*got 'nes1992-nes'"):
        posed("nes1992-nes")
