"""The room of posteriordb without its data: where it looks, what it says, and the solvers of its stories."""

import math
from types import SimpleNamespace

import numpy
import pytest
import torch

from experiments.truth import posteriordb
from experiments.truth.posteriordb import archive, columns
from experiments.truth.posteriordb.arma import Arma11
from experiments.truth.posteriordb.elimination import concentrations
from experiments.truth.posteriordb.predator_prey import log_populations


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("call", [posteriordb.names, lambda: posteriordb.load("sblri-blr")])
@pytest.mark.parametrize("path", [None, "/nowhere"])
def test_without_the_data_every_call_says_what_to_set(monkeypatch, call, path):
    monkeypatch.delenv("PDB_PATH", raising=False)
    if path:
        monkeypatch.setenv("PDB_PATH", path)
    with pytest.raises(ValueError, match="PDB_PATH: expected .*posterior_database"):
        call()


def test_every_stan_program_is_told_once_and_regressions_have_their_columns():
    modules = [posteriordb.found.part(posteriordb.stories, n, "name") for n in _stories()]
    told = [model for module in modules for model in module.STAN]
    assert len(told) == len(set(told)) == 28
    linear = [m for m in modules if m.__name__.endswith(("linear_flat", "linear_half_cauchy"))]
    assert sorted(model for module in linear for model in module.STAN) == sorted(columns.TABLE)


def _stories():
    return posteriordb.found.names(posteriordb.stories)


def test_an_unknown_regression_is_refused():
    with pytest.raises(ValueError, match="model: expected one of kidscore_momhs, .*got 'blr'"):
        columns.regression("blr", {})


def test_quantities_join_restarts_and_refuse_what_does_not_fit():
    reference = {"beta": torch.zeros(7, 2), "sigma": torch.zeros(7)}
    known = posteriordb.Known("a-b", lambda: None, (), {}, reference)
    draws = {"beta": torch.rand(3, 5, 2), "sigma": torch.rand(3, 5), "other": torch.rand(3, 5)}
    merged = known.quantities(draws)
    assert {name: tuple(v.shape) for name, v in merged.items()} == {"beta": (15, 2), "sigma": (15,)}
    assert torch.equal(merged["beta"][5:10], draws["beta"][1].double())
    with pytest.raises(ValueError, match="draws: expected .*sigma is missing"):
        known.quantities({"beta": draws["beta"]})
    with pytest.raises(ValueError, match=r"draws: expected beta of shape .*got \(3, 5\)"):
        known.quantities(draws | {"beta": draws["sigma"]})


def test_reference_draws_join_chains_and_elements(monkeypatch):
    chains = [{"a[1]": [1.0, 2.0], "a[2]": [3.0, 4.0], "b": [5.0, 6.0]}] * 2
    monkeypatch.setattr(archive, "_unpack", lambda path: chains)
    found = archive.reference("x")
    assert found["a"].tolist() == [[1.0, 3.0], [2.0, 4.0]] * 2
    assert found["b"].tolist() == [5.0, 6.0, 5.0, 6.0]
    monkeypatch.setattr(archive, "_unpack", lambda path: [{"a[2]": [1.0], "a[1]": [2.0]}])
    with pytest.raises(ValueError, match="x: expected the elements of vectors in order"):
        archive.reference("x")


@pytest.mark.parametrize("theta", [0.6, -1.0, -1.7])
def test_arma_errors_follow_their_recursion(theta):
    mu, phi, noise = 0.4, -0.8, 1.3
    y = torch.linspace(-2.0, 3.0, 37, dtype=torch.float64).sin()
    law = Arma11(*double(mu, phi, theta, noise), length=37)
    before, error, expected = mu, 0.0, []
    for value in y.tolist():
        error = value - mu - phi * before - theta * error
        expected.append(error)
        before = value
    assert torch.allclose(law.errors(y), double(*expected), rtol=1e-12)
    normal = torch.distributions.Normal(0.0, double(noise))
    assert torch.allclose(law.log_prob(y), normal.log_prob(double(*expected)).sum(), rtol=1e-12)


def test_arma_draws_have_the_errors_that_made_them():
    law = Arma11(*double(0.4, 0.8, -0.6, 2.0), length=50)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        y = law.sample((3,))
        torch.manual_seed(0)
        noise = torch.randn(3, 50, dtype=torch.float64)
    assert torch.allclose(law.errors(y), 2.0 * noise, atol=1e-12)


# Around the posterior of hares and lynxes, and at its edges: alpha, beta, gamma, delta, hares, lynxes.
POPULATIONS = (
    (0.55, 0.028, 0.80, 0.024, 34.0, 5.9),
    (0.36, 0.016, 1.20, 0.040, 25.0, 9.5),
    (0.83, 0.050, 0.51, 0.013, 46.0, 4.1),
)


@pytest.mark.parametrize("numbers", POPULATIONS)
def test_populations_follow_their_equations(numbers):
    """Relative errors of 1e-4 leave .003 of the smallest spread of the data, .13, at every measurement."""
    from scipy.integrate import solve_ivp

    alpha, beta, gamma, delta, *start = numbers

    def slope(t, z):
        return [alpha - beta * math.exp(z[1]), delta * math.exp(z[0]) - gamma]

    exact = solve_ivp(slope, (0, 20), numpy.log(start), "DOP853", range(1, 21), rtol=1e-11, atol=1e-11)
    ours = log_populations(double(alpha, beta, gamma, delta), double(*start), 20)
    assert numpy.abs(ours.numpy() - exact.y.T).max() < 1e-4


# Around the posterior of the drug and at its edges: absorption, saturation, elimination (mg/L per day).
DRUG = ((0.76, 2.5, 0.49), (0.70, 1e-3, 0.38), (0.66, 0.4, 0.48), (1.4, 1e-4, 0.35), (0.55, 290.0, 10.9))


@pytest.mark.parametrize("numbers", DRUG)
def test_concentrations_follow_their_equation(numbers):
    """Relative errors of 3e-5 leave .0004 of the smallest spread of the data, .07, at every measurement."""
    from scipy.integrate import solve_ivp

    absorption, saturation, elimination = numbers

    def slope(t, c):
        return 15 * absorption * numpy.exp(-absorption * t) - elimination * c / (saturation + c)

    times = numpy.arange(1, 21) / 2
    exact = solve_ivp(slope, (0, 10), [0.0], "LSODA", times, rtol=1e-10, atol=1e-13)
    ours = concentrations(*double(*numbers), torch.tensor(15.0, dtype=torch.float64), torch.tensor(times))
    assert numpy.abs(ours.numpy() / exact.y[0] - 1).max() < 3e-5


def test_far_from_the_data_concentrations_stay_positive():
    """An elimination that takes all there is, at once."""
    dose = torch.tensor(15.0, dtype=torch.float64)
    ours = concentrations(*double(0.1, 1e-3, 40.0), dose, torch.arange(1, 21).double() / 2)
    assert bool((ours > 0).all()) and bool(torch.isfinite(ours).all())


def test_a_story_refuses_times_that_its_solver_does_not_know():
    lotka = posteriordb.found.part(posteriordb.stories, "lotka_volterra", "name")
    with pytest.raises(ValueError, match="ts: expected 1, 2, .., 2"):
        lotka.posed("lotka_volterra", {"N": 2, "ts": [1, 3], "y": [], "y_init": []})
    drug = posteriordb.found.part(posteriordb.stories, "one_comp_mm_elim_abs", "name")
    data = {"t0": 0, "times": [0.5, 1.0, 1.6], "D": 30, "V": 2, "C_hat": [1.0, 2.0, 3.0]}
    with pytest.raises(ValueError, match="times: expected evenly spaced ones"):
        drug.posed("one_comp_mm_elim_abs", data)


def test_standard_deviations_are_stans():
    """They divide by rows - 1: sd(1, 2, 6) is sqrt(7)."""
    z = columns.TABLE["logearn_interaction_z"](
        SimpleNamespace(earn=double(1.0, 2.0, 3.0), height=double(1.0, 2.0, 6.0), male=double(1.0, 0.0, 1.0))
    )[1][0]
    assert torch.allclose(z, double(-2.0, -1.0, 3.0) / math.sqrt(7.0))
