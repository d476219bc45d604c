"""The main job: a smoke run end to end, and its judgements on answers that are known."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from experiments.bayes_inversion import __main__ as bayes_inversion
from experiments.bayes_inversion import figures
from experiments.bayes_inversion.truth import estimated_against_exact, estimated_against_true
from experiments.compare.classification import reliability
from experiments.compare.result import Estimate
from experiments.report import Run, launch
from experiments.truth.images.binomial_pixels import log_joint, predictive_sample
from experiments.truth.images.digits import LEVELS, load, lower_half
from ppl_models.binomial_pixels import exact

PICTURES = {
    "the_picture",
    "generated",
    "reliability",
    "no_digits",
    "half_seen",
    "estimated_against_exact",
    "estimated_against_true",
}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """One smoke run: its folder and its exit status."""
    out = tmp_path_factory.mktemp("results")
    status = launch(bayes_inversion.__file__, ["--smoke", "--seed", "3", "--out", str(out)])
    return out / "bayes_inversion", status


def content(smoke, name):
    return json.loads((smoke[0] / name).read_text())


def test_smoke_run_writes_everything(smoke):
    folder, status = smoke
    assert status == 0
    assert {path.stem for path in folder.glob("*.png")} == PICTURES
    names = {path.name for path in folder.iterdir()}
    assert {"digits.nc", "digits_summary.csv", "report.html", "versions.json"} <= names
    assert {"inversion.csv", "half_seen.csv", "no_digits.csv", "two_sample.csv"} <= names
    assert content(smoke, "config.json")["seed"] == 3


def test_report_is_one_page_that_opens_with_the_picture(smoke):
    page = (smoke[0] / "report.html").read_text()
    assert page.count("<img") == len(PICTURES) + 1  # and the story's graph
    assert page.count("image/svg+xml") == 1
    assert page.index("The picture") < page.index("Generate: y is given")
    assert "Naive Bayes is not the truth" in page
    assert "http://" not in page


def test_exact_claims_hold_with_any_effort(smoke):
    """What is exact arithmetic holds in a smoke run too; nothing is judged for lack of effort."""
    claims = {claim["text"]: claim for claim in content(smoke, "claims.json")}
    assert len(claims) == 8
    numerical = [c for c in claims.values() if "largest difference" in c["text"]]
    assert len(numerical) == 4
    for claim in numerical:
        assert abs(claim["measured"] - claim["known"]) <= claim["numerical"] <= 1e-6


def test_metrics_are_finite_and_sensible(smoke):
    metrics = content(smoke, "metrics.json")
    assert all(math.isfinite(metric["value"]) for metric in metrics.values())
    assert metrics["accuracy, story (naive Bayes)"]["value"] > 0.7
    assert metrics["accuracy, logistic regression"]["value"] > 0.8
    assert metrics["AUC, log p(x) of the story, noise"]["value"] > 0.95


class ExactPosterior:
    """Draws of the exact posterior (or of a spoilt one) behind the verbs that are asked here."""

    def __init__(self, data, trusted, widen=1.0):
        self.certificate = SimpleNamespace(trusted=trusted)
        self.truth = exact(data)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.draws = {name: law.sample((4, 250)) for name, law in self.truth.items()}
        logits = self.draws["ink"].clamp_min(1e-300).logit()
        middle = logits.mean((0, 1))
        self.draws["ink"] = (middle + widen * (logits - middle)).sigmoid()

    def log_prob(self, x):
        joint = log_joint(x, *(self.draws[site].flatten(0, 1) for site in ("weights", "ink")))
        return (joint.logsumexp(0) - math.log(len(joint))).logsumexp(-1)

    def sample(self, sites, args, seed):
        images = predictive_sample(self.truth, *args, seed=seed + 1000)
        return {"x": images.x, "y": images.y}


@pytest.fixture(scope="module")
def digits():
    return load()


@pytest.fixture
def run(tmp_path):
    return Run("bayes_inversion", "?", tmp_path, seed=0)


def posterior_of(digits, **options):
    return ExactPosterior({"x": digits.train.x, "y": digits.train.y}, **options)


@pytest.mark.parametrize(
    ("trusted", "widen", "met"),
    [(True, 1.0, True), (True, 1.3, False), (False, 1.3, True)],
    ids=["right", "silently wrong", "wrong and says so"],
)
def test_a_silently_wrong_fit_fails_its_claim(digits, run, trusted, widen, met):
    posterior = posterior_of(digits, trusted=trusted, widen=widen)
    density = posterior.log_prob(digits.test.x)
    estimated_against_exact(run, digits, posterior, posterior.truth, density)
    (claim,) = run.claims
    assert claim.met is met
    assert (run.metrics["unknowns and groups of unknowns off beyond tolerance"].value > 300) is (widen > 1)


def test_the_two_sample_tests_see_what_they_must(digits, run):
    posterior = posterior_of(digits, trusted=True)
    estimated_against_true(run, digits, posterior, posterior.truth)
    assert [claim.met for claim in run.claims] == [True, True, True]
    assert run.claims[0].measured == 0.001


def test_a_story_that_is_the_truth_fails_the_claim_that_it_is_not(digits, run):
    """The rejection is measured: digits passed off as the story's images are not told apart."""
    posterior = posterior_of(digits, trusted=True)
    posterior.sample = lambda sites, args, seed: digits.train._asdict()
    estimated_against_true(run, digits, posterior, posterior.truth)
    assert run.claims[0].met is False
    assert run.claims[2].met is False


def test_who_wins_is_said_both_ways(run):
    y = torch.arange(10).repeat(40)
    good = torch.full((400, 10), 0.02).scatter(1, y[:, None], 0.82)
    bad = torch.full((400, 10), 0.02).scatter(1, ((y + (y < 5)) % 10)[:, None], 0.82)
    words = bayes_inversion.who_wins(run, bad, good, y)
    assert words.count("logistic regression wins by") == 2
    assert "of story (naive Bayes) are too far off" in words
    assert run.metrics["accuracy, peer minus story"].value == 0.5
    assert "story (naive Bayes) wins" in bayes_inversion.verdict("A", Estimate(-0.1, 0.01), "")
    assert "neither" in bayes_inversion.verdict("A", Estimate(0.01, 0.01), "")


def test_what_fools_the_density_is_named():
    flags = {
        "blended": {bayes_inversion.LOG_P: Estimate(0.4, 0.02)},
        "noise": {bayes_inversion.LOG_P: Estimate(1.0, 0.0)},
    }
    words = bayes_inversion.fooled(flags)
    assert "blended" in words
    assert "noise" not in words
    assert bayes_inversion.fooled({"noise": flags["noise"]}) == "No kind of image fooled log p(x)."


def test_mosaic_lays_images_out_in_rows():
    images = torch.arange(6.0)[:, None].expand(6, 64)
    sheet = figures.mosaic(images, columns=3)
    assert sheet.shape == (17, 26)
    assert sheet[0, [0, 9, 18]].tolist() == [0, 1, 2]
    assert sheet[16, [0, 9, 18]].tolist() == [3, 4, 5]
    assert np.isnan(sheet[8]).all()
    assert np.isnan(sheet[:, 8]).all()


def test_the_loss_curve_has_a_line_for_every_restart_and_guide():
    rows = [("mean_field", s, -5.0 - s) for s in (0, 1, 2)] * 2 + [("flow", s, -2.0) for s in (0, 1)]
    axes = Figure().subplots()
    figures.loss_curve(axes, rows)
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 3, 2]
    assert axes.lines[0].get_ydata().tolist() == [5, 6, 7]
    assert axes.lines[0].get_color() == axes.lines[1].get_color() != axes.lines[2].get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean field", "flow"]


def test_reliability_draws_only_bins_that_hold_rows():
    curve = reliability(torch.tensor([[0.95, 0.05], [0.65, 0.35]]), torch.tensor([0, 1]))
    left, right = figures.reliability({"a": curve}).axes
    assert len(right.patches) == 2
    assert left.containers[0].lines[0].get_xdata().tolist() == pytest.approx([0.65, 0.95])


def test_half_seen_covers_what_is_hidden():
    truth = torch.full((2, 64), float(LEVELS))
    hidden = lower_half()
    figure = figures.half_seen(truth, hidden, truth.expand(5, 2, 64), torch.full((2, 10), 0.1))
    seen = figure.axes[0]
    assert [patch.get_y() for patch in seen.patches] == [3.5, 12.5]
    drawn = np.asarray(seen.images[0].get_array().filled(np.nan))
    assert (drawn[:4, :8] == LEVELS).all()
    assert np.isnan(drawn[4:8, :8]).all()
