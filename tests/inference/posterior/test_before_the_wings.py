"""Posteriors that an earlier version saved load, and answer as they did then.

The folders beside this file were written by version 0.1.0 before ``inference`` got its wings (commit
bb77e7e): two fits, saved by ``Posterior.save``, and what they answered, by ``answers`` below, as JSON. They
are not to be made anew: if a change breaks them, it breaks what users have saved.
"""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import load
from ppl_models.vae import guide, vae

FOLDER = Path(__file__).parent / "before_the_wings"
# Single precision on another machine, for networks; double for the others.
TOLERANCE = {"mixture": 1e-9, "networks": 1e-4}


def mixture(covariate):
    """Two clouds along a line; labels seen for some rows, a covariate for all, and a deterministic site."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.tensor([2.0, 3.0])))
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    with pyro.plate("class", 2, dim=-1):
        mu = pyro.sample("mu", dist.Normal(torch.tensor([-3.0, 3.0]), 1.5))
    pyro.deterministic("between", mu[1] - mu[0])
    with pyro.plate("row", len(covariate), dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(mu[y] + slope * covariate, 0.8))


X = [-2.6, -3.5, 2.2, 4.1, -1.9, 3.4, 2.9, -3.1]
LABELS = np.ma.masked_array([0, 0, 1, 1, 0, 0, 0, 0], [False] * 4 + [True] * 4)
COVARIATE = torch.tensor([0.1, -0.4, 0.3, 0.9, 0.5, -0.2, 0.0, 0.2])
NEW = {"x": torch.tensor([-2.0, 0.4, 3.3]), "covariate": torch.tensor([0.5, 0.0, -0.5])}

IMAGES = (torch.arange(24.0).reshape(6, 4) % 5) / 5
networks = partial(vae, features=4, latents=1, hidden=3)
"""The same program as was fitted, with these sizes."""


def of_mixture(posterior):
    """What a fit with shared unknowns is asked."""
    args, x = (NEW["covariate"],), NEW["x"]
    return {
        "log_prob": posterior.log_prob({"x": x}, args=args),
        "probabilities": posterior.probabilities("y", given={"x": x}, args=args),
        "own labels": posterior.probabilities("y"),
        "x given y": posterior.sample("x", given={"y": torch.tensor([0, 1, 1])}, args=args, seed=3),
        "fitted rows anew": posterior.sample("x", num_samples=2, seed=4),
    }


def of_networks(posterior):
    """What a fit whose unknowns all belong to rows is asked."""
    new = {"x": IMAGES[:3] + 0.05}
    return {
        "log_prob": posterior.log_prob(new, seed=5),
        "z given x": posterior.sample("z", given=new, num_samples=3, seed=6),
        "x": posterior.sample("x", args=(2,), seed=7),
    }


def answers(name, posterior):
    """All that is compared, as JSON holds it."""
    asked = {"mixture": of_mixture, "networks": of_networks}[name](posterior)
    certificate = posterior.certificate.as_dict()
    # Keep what a reader sees of it; seconds are a clock's.
    shown = {n: certificate[n] for n in ("trusted", "method", "guide", "khat", "ess", "elbo", "log_evidence")}
    draws = {site: [list(v.shape), v.double().mean().item(), v.double().std().item()]
             for site, v in posterior.draws.items()}  # fmt: skip
    groups = {}
    idata = posterior.to_arviz(predictive=4)
    for group in ("posterior", "log_likelihood", "posterior_predictive", "observed_data", "fit"):
        try:
            variables = idata[group]
        except KeyError:
            continue
        groups[group] = {
            str(v): [list(map(str, variables[v].dims)), float(np.asarray(variables[v], float).mean())]
            for v in sorted(map(str, variables.data_vars))
        }
    return {
        "certificate": shown,
        "history": len(posterior.history),
        "draws": draws,
        "answers": {n: v.tolist() for n, v in asked.items()},
        "arviz": groups,
    }


def same(now, then, tolerance, where=""):
    """Where two trees of JSON differ; numbers by more than a tolerance, relative to those above 1."""
    if isinstance(then, dict):
        if set(now) != set(then):
            return [f"{where}: {sorted(set(now) ^ set(then))}"]
        return [d for k in then for d in same(now[k], then[k], tolerance, f"{where}/{k}")]
    if isinstance(then, list):
        if len(now) != len(then):
            return [f"{where}: {len(now)} instead of {len(then)}"]
        return [
            d
            for i, (a, b) in enumerate(zip(now, then, strict=True))
            for d in same(a, b, tolerance, f"{where}/{i}")
        ]
    if isinstance(then, float) and isinstance(now, float):
        alike = now == then or (math.isnan(now) and math.isnan(then))
        return [] if alike or abs(now - then) <= tolerance * (1 + abs(then)) else [f"{where}: {now}, {then}"]
    return [] if now == then else [f"{where}: {now}, {then}"]


@pytest.mark.parametrize(
    ("name", "options"), [("mixture", {"story": mixture}), ("networks", {"story": networks, "guide": guide})]
)
def test_what_was_saved_loads_and_answers_as_it_did(name, options):
    posterior = load(FOLDER / name, **options)
    then = json.loads((FOLDER / f"{name}.json").read_text())
    now = json.loads(json.dumps(answers(name, posterior)))
    assert same(now, then, TOLERANCE[name]) == []


def test_what_differs_is_found():
    then = json.loads((FOLDER / "mixture.json").read_text())
    assert same(then, then, 0.0) == []
    now = json.loads(json.dumps(then))
    now["answers"]["log_prob"][1] += 1e-4
    del now["draws"]["mu"]
    assert len(same(now, then, 1e-9)) == 2
