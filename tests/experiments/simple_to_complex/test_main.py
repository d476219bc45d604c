"""Every deep story against every truth: a smoke run end to end, and what becomes of failures."""

import json
import math

import pytest
import torch

from experiments.compare import Estimate
from experiments.report import Run, launch
from experiments.simple_to_complex import __main__ as simple_to_complex
from experiments.simple_to_complex import fits
from experiments.truth.densities import names


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    argv = ["--smoke", "--out", str(out), "--truths", "eight_gaussians", "--stories"]
    argv += ["normalizing_flow", "autoregressive", "vae", "mmd_generator"]
    return out / "simple_to_complex", launch(simple_to_complex.__file__, argv)


def test_smoke_run_writes_everything_and_judges_nothing(smoke):
    folder, status = smoke
    assert status == 0
    assert {path.stem for path in folder.glob("*.png")} == {"drawn", "densities"}
    assert {"kl.csv", "fits.csv", "report.html"} <= {path.name for path in folder.iterdir()}
    claims = json.loads((folder / "claims.json").read_text())
    assert [claim["known"] for claim in claims] == [0.05, 0.08]
    assert all(math.isfinite(claim["measured"]) for claim in claims)


def test_no_fit_is_missing_from_the_table(smoke):
    lines = (smoke[0] / "fits.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert sum("no likelihood" in line for line in lines) == 1
    assert sum("at most" in line for line in lines) == 1
    assert all("of 8" in line for line in lines[1:])


def test_all_stories_and_truths_are_asked_by_default():
    assert len(fits.RECIPES) == 7
    assert len(names()) == 8


def test_a_fit_that_fails_is_a_row_and_fails_its_claim(monkeypatch, tmp_path):
    def broken(task):
        raise ValueError("loss: the gradient is not finite")

    monkeypatch.setattr(fits, "perform", broken)
    one = fits.attempt(fits.DensityTask("normalizing_flow", "two_moons", seed=0))
    assert one.failure == "ValueError: loss: the gradient is not finite"
    assert simple_to_complex.row(one)["failure"] == one.failure
    assert simple_to_complex.at_a_glance(one) == "failed"
    run = Run("simple_to_complex", "?", tmp_path)
    simple_to_complex.claim(run, one, 0.05)
    assert run.claims[0].met is False
    figure = simple_to_complex.figures.drawn(
        ["two_moons"], ["normalizing_flow"], {("normalizing_flow", "two_moons"): one}
    )
    assert "failed" in [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(("kl", "met"), [(Estimate(0.03, 0.005), True), (Estimate(0.045, 0.005), False)])
def test_a_claim_counts_two_standard_errors(tmp_path, kl, met):
    run = Run("simple_to_complex", "?", tmp_path)
    task = fits.DensityTask("normalizing_flow", "two_moons", seed=0)
    simple_to_complex.claim(run, fits.DensityFit(task, kl=kl, draws=torch.zeros(3, 2)), 0.05)
    assert run.claims[0].met is met
