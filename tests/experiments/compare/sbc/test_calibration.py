"""Calibration passes right posteriors, finds planted faults, and says what it could have seen."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.compare import calibration
from experiments.compare.sbc.calibration import ranks_of
from experiments.compare.sbc.simulated import from_prior, log_joint
from experiments.compare.sbc.tarp import kolmogorov_smirnov
from experiments.truth.closed_form import closed_form
from ppl_models import change_point, linear_regression, two_causes

# Fixed before any result was seen.
SEED, FITS, DRAWS = 5, 300, 99
PASSES, FAILS = 0.01, 0.001
ARGS = two_causes.EXAMPLE[0]
EXACT = closed_form(two_causes.exact, ["first", "second"], ARGS, draws=DRAWS, seed=SEED)


def judged(fitter=EXACT, **options):
    return calibration(
        two_causes.two_causes, ARGS, fits=FITS, draws=DRAWS, fitter=fitter, seed=SEED, progress=False,
        **options,
    )  # fmt: skip


def faulty(change):
    def fitter(data):
        return {name: change(draws) for name, draws in EXACT(data).items()}

    return fitter


@pytest.fixture(scope="module")
def right():
    return judged()


def test_fitted_posteriors_pass_and_nothing_global_changes():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), torch.get_default_dtype()
    found = judged(None)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1]) and torch.get_default_dtype() == before[2]
    assert found.p_value > PASSES and found.passed and found.refused == 0
    assert list(found.judged) == ["first", "second", "TARP", "log joint"]
    assert "300 fits, 0 of them refused: calibrated" in str(found)
    again = judged(None)
    assert all(torch.equal(found.ranks[name], again.ranks[name]) for name in found.ranks)


def test_exact_draws_pass(right):
    assert right.p_value > PASSES and right.refused is None
    assert right.value < right.floor * 1.5 and 0 < right.error < 0.03
    assert 0.1 < right.detectable < 0.4 and 0.7 < right.detectable_stddev < 0.95
    for name in right.ranks:
        for share in (0.5, 0.8, 0.95):
            claimed, held = right.coverage(name, share)
            assert abs(claimed - share) < 0.011 and abs(held.value - claimed) < 4 * held.error
    assert right.tarp().p_value > PASSES
    assert right.z_score("first").std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * FITS) + 0.02)
    measurements, noise, spread = ARGS
    precision = spread**-2 + 1 / (noise**2 / measurements + spread**2)
    known = 1 - 1 / precision / spread**2
    # Quantiles of 300 normal truths at .16 and .84: relative error sqrt(.16 x .68 / 300 / 2) / .242 of half
    # their distance, and twice that of its square.
    error = 2 * (1 - known) * math.sqrt(0.16 * 0.68 / FITS / 2) / 0.242
    assert abs(float(right.shrinkage("first").mean()) - known) < 4 * error + 0.02


def test_planted_faults_fail():
    halved = judged(faulty(lambda d: d.mean(1, True) + (d - d.mean(1, True)) / math.sqrt(2)))
    biased = judged(faulty(lambda d: d + 0.3 * d.std(1, keepdim=True)))
    other = closed_form(two_causes.exact, ["first", "second"], (*ARGS[:2], 1.2), draws=DRAWS)
    wrong = judged(other)
    for found in (halved, biased, wrong):
        assert found.p_value < FAILS and not found.passed and "NOT calibrated" in str(found)
        assert found.judged["first"].p_value < 0.05
    _, held = halved.coverage("first", 0.8)
    narrow = math.erf(1.2816 / 2)  # a central 80 % interval, sqrt(2) times too short
    assert abs(held.value - narrow) < 4 * held.error + 0.01


def test_only_the_log_joint_sees_draws_that_ignore_the_data():
    generator = torch.Generator().manual_seed(SEED)
    prior = {
        n: ARGS[2] * torch.randn(FITS, DRAWS, generator=generator, dtype=torch.float64)
        for n in ("first", "second")
    }
    found = judged(lambda data: prior)
    assert min(found.judged[name].p_value for name in ("first", "second")) > PASSES
    assert found.judged["log joint"].p_value < FAILS and found.worst == "log joint"


def test_quantities_of_ones_own_see_the_data():
    def residual(values):
        return (values["y"].mean(-1) - values["first"] - values["second"]).abs()

    found = judged(quantities={"residual": residual})
    assert "residual" in found.judged and found.p_value > PASSES
    with pytest.raises(ValueError, match=r"quantities: expected a tensor"):
        judged(quantities={"residual": lambda values: 1.0})
    with pytest.raises(ValueError, match=r"quantities: expected names of their own, got 'first'"):
        judged(quantities={"first": residual})


def test_the_log_joint_of_rows_that_hang_together():
    """Two coins, each told against their mean: over all four assignments."""

    def centred(n):
        a = pyro.sample("a", dist.Beta(2.0, 2.0))
        with pyro.plate("row", n):
            b = pyro.sample("b", dist.Bernoulli(a))
            pyro.sample("x", dist.Normal(b - b.mean(), 0.5))

    simulated = from_prior(centred, (2,), None, ["x"], 3, SEED)
    data = simulated.stacked_data()
    found = log_joint(simulated.structure, {"a": simulated.truth["a"][:, None]}, data)
    assert found is not None
    b = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).double()
    for a, x, value in zip(simulated.truth["a"], data["x"], found[:, 0], strict=True):
        terms = dist.Bernoulli(a).log_prob(b) + dist.Normal(b - b.mean(-1, keepdim=True), 0.5).log_prob(x)
        torch.testing.assert_close(value, dist.Beta(2.0, 2.0).log_prob(a) + terms.sum(-1).logsumexp(0))


def test_the_log_joint_is_that_of_the_story_with_discrete_sites_summed_out():
    simulated = from_prior(change_point.change_point, (6,), None, None, 3, SEED)
    assert simulated.unknowns == ["early", "late"]
    truth = {n: simulated.truth[n][:, None] for n in simulated.unknowns}
    data = simulated.stacked_data()
    found = log_joint(simulated.structure, truth, data)
    prior = dist.Gamma(torch.tensor(2.0).double(), torch.tensor(1.0).double())
    for i in range(3):
        early, late, y = truth["early"][i, 0], truth["late"][i, 0], data["y"][i]
        each = [
            dist.Poisson(torch.where(torch.arange(6) < change, early, late)).log_prob(y).sum()
            for change in range(6)
        ]
        known = prior.log_prob(early) + prior.log_prob(late) + torch.stack(each).logsumexp(0) - math.log(6)
        assert float(found[i, 0]) == pytest.approx(float(known), abs=1e-9)


def test_around_observed_data_the_story_is_fitted_to_both():
    """A normal mean given x and its replicate is known: that passes, and a narrow posterior fails."""

    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu, 2.0))

    seen = {"x": torch.tensor([3.0, 5.0, 4.0, 8.0], dtype=torch.float64)}

    def exact(data):
        assert set(data[0]) == {"x", "x_replicated"} and torch.equal(data[0]["x"], seen["x"])
        total = torch.stack([one["x"].sum() + one["x_replicated"].sum() for one in data])
        precision = 0.01 + 8 / 4
        noise = torch.randn(FITS, DRAWS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return {"mu": (total / 4 / precision)[:, None] + noise / math.sqrt(precision)}

    def narrow(data):
        mu = exact(data)["mu"]
        return {"mu": mu.mean(1, True) + (mu - mu.mean(1, True)) / math.sqrt(2)}

    options = {"fits": FITS, "draws": DRAWS, "seed": SEED, "around": seen}
    found = calibration(story, (4,), fitter=exact, **options)
    assert found.p_value > PASSES and found.around
    fitted = calibration(story, (4,), progress=False, **options)
    assert fitted.p_value > PASSES and fitted.refused == 0
    torch.testing.assert_close(fitted.mean["mu"], found.mean["mu"], rtol=0.0, atol=0.7)
    truth = found.truth["mu"]  # of the posterior given x alone
    assert abs(truth.mean() - 5 / 1.01) < 4 / math.sqrt(FITS) and abs(truth.std() - 1) < 4 / math.sqrt(
        2 * FITS
    )
    assert calibration(story, (4,), fitter=narrow, **options).p_value < FAILS


def test_local_and_deterministic_sites_are_judged_when_named():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            z = pyro.sample("z", dist.Normal(mu, 1.0))
            pyro.deterministic("twice", 2 * z)
            pyro.sample("x", dist.Normal(z, 0.5))

    options = {"fits": 60, "draws": 49, "observed": ["x"], "progress": False}
    assert list(calibration(story, (2,), **options).judged) == ["mu", "log joint"]
    found = calibration(story, (2,), sites=["mu", "twice"], **options)
    assert list(found.judged) == ["mu", "twice[0]", "twice[1]", "TARP", "log joint"]
    with pytest.raises(ValueError, match=r"sites: expected some of"):
        calibration(story, (2,), sites=["nonsense"], **options)


def test_ties_are_broken_evenly():
    truth = torch.zeros(4000)
    draws = torch.tensor([-1.0, 0.0, 0.0, 1.0]).expand(4000, 4)
    ranks = ranks_of(truth, draws, torch.Generator().manual_seed(SEED))
    counts = torch.bincount(ranks, minlength=5)
    assert counts[0] == counts[4] == 0
    assert bool(((counts[1:4] - 4000 / 3).abs() < 4 * math.sqrt(4000 * 2 / 9)).all())


def test_kolmogorov_smirnov_is_scipys_and_has_its_level():
    from scipy.stats import kstest

    sets = torch.rand(2000, 100, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    for one in sets[:200]:
        found, known = kolmogorov_smirnov(one), kstest(one.numpy(), "uniform")
        assert found.value == pytest.approx(known.statistic, abs=1e-12)
        assert found.p_value == pytest.approx(known.pvalue, abs=0.001 if known.pvalue < 0.1 else 0.02)
    p = torch.tensor([kolmogorov_smirnov(one).p_value for one in sets])
    assert abs(float((p < 0.05).double().mean()) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 2000)
    with pytest.raises(ValueError, match=r"values: expected at least 20 in \[0, 1\]"):
        kolmogorov_smirnov(torch.zeros(10))


def test_trusted_fits_are_judged_alone():
    class Posteriors:
        def __init__(self, data):
            wrong = torch.arange(FITS) % 3 == 0
            self.draws = {
                name: torch.where(wrong[:, None], 0.5 * draws, draws) for name, draws in EXACT(data).items()
            }
            self.trusted = ~wrong

    found = judged(Posteriors)
    assert found.refused == 100 and found.p_value < FAILS
    assert found.trusted().fits == 200 and found.trusted().p_value > PASSES and found.trusted().refused == 0
    with pytest.raises(ValueError, match=r"fitter: expected .trusted with at least 20"):
        judged().trusted()


def test_what_arviz_reads(right):
    out = right.to_arviz()["prior_sbc"]
    assert set(out.data_vars) == set(right.ranks)
    values = out["first"].values
    assert values.shape == (1, FITS) and values.min() > 0 and values.max() < 1
    assert np.array_equal(np.floor(values[0] * (DRAWS + 1)), right.ranks["first"].numpy())


def test_the_figure_has_a_panel_for_every_quantity(right):
    import matplotlib.pyplot as plt

    figure = right.figure("two causes")
    shown = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    assert len(shown) == 5 and shown[0].startswith("first, p = ") and shown[-1].startswith("coverage")
    plt.close(figure)


def improper(n):
    mu = pyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 1.0))


def observing(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=torch.zeros(n))


@pytest.mark.parametrize(
    ("story", "args", "options", "words"),
    [
        (improper, (3,), {"observed": ["x"]}, "story: expected proper priors"),
        (improper, (), {"observed": ["x"]}, "args: expected the number of rows n"),
        (improper, (3,), {}, "observed: expected the names of the data among the story's sites mu, x"),
        (improper, (3,), {"observed": ["y"]}, "observed: .* got y"),
        (observing, (3,), {}, r"story: expected one that observes nothing, got one that observes 'x'"),
        (two_causes.two_causes, ARGS, {"fits": 5}, "fits: expected an integer of at least 20, got 5"),
        (two_causes.two_causes, ARGS, {"draws": 3}, "draws: expected an integer of at least 9, got 3"),
        (two_causes.two_causes, ARGS, {"level": 1.0}, "level: expected between 0 and 1"),
        (two_causes.two_causes, ARGS, {"fitter": lambda d: 3}, "fitter: expected posteriors with .draws"),
        (
            two_causes.two_causes, ARGS, {"fitter": lambda d: {"first": torch.zeros(20, 5)}},
            "fitter: expected at least 199 finite draws of 'first', got 5",
        ),
        (
            two_causes.two_causes, ARGS, {"fitter": lambda d: {"first": torch.zeros(3, 199)}},
            r"fitter: expected 'first' to be \(fits, draws, \*site shape\)",
        ),
        (
            change_point.change_point, (5,), {"around": {"y": torch.ones(5)}},
            "around: expected a story whose unknowns are continuous",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(story, args, options, words):
    with pytest.raises(ValueError, match=words):
        calibration(story, args, **{"fits": 20, "progress": False, **options})


def test_ten_unknowns_in_one_call():
    """Every element is judged by its index."""
    covariates = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = calibration(
        linear_regression.linear_regression, (covariates,), fits=100, draws=49, progress=False
    )
    names = ["variance", "weights[0]", "weights[1]", "weights[2]", "TARP", "log joint"]
    assert list(found.judged) == names and found.p_value > PASSES
    assert [row["quantity"] for row in found.rows()] == names


def test_a_quantity_that_is_not_a_number_has_no_rank():
    with pytest.raises(ValueError, match="'log first' is NaN"):
        judged(quantities={"log first": lambda v: v["first"].log()})


def test_discrete_draws_of_a_fitter_stay_indices():
    """Draws of a label are asked for the density of what it picks."""
    centres = torch.tensor([-1.0, 2.0])

    def story():
        y = pyro.sample("y", dist.Categorical(torch.tensor([0.5, 0.5])))
        pyro.sample("x", dist.Normal(centres[y], 1.5))

    def exact(data):
        x = torch.stack([one["x"] for one in data])
        odds = dist.Normal(centres, 1.5).log_prob(x[:, None])
        return {"y": dist.Categorical(logits=odds).sample((99,)).T}

    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = calibration(
            story, (), fits=100, draws=99, observed=["x"], sites=["y"], fitter=exact, progress=False
        )
    assert result.p_value > 0.001
