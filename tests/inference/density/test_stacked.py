"""Many data sets of one story as one function: each has the density it has alone."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.density.stacked import stack

SETS, DRAWS = 5, 4


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normals(seed, *shape):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def schools(n, stddev):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", n):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, stddev))


def alike(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    pyro.deterministic("relative", sigma / mu)
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, sigma))


def classes(n):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("class", 3):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("row", n):
        k = pyro.sample("k", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(mean[k], 1.5))


def reads(n, top):
    mu = pyro.sample("mu", dist.Normal(0.0, float(top.max())))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, 1.5))


def labels(seed, high):
    return torch.randint(0, high, (30,), generator=generator(seed))


def masked(seed):
    return np.ma.masked_array(normals(seed, 30).numpy(), np.arange(30) % 7 == seed)


CASES = {
    "schools": lambda: stack(
        schools, [{"y": 9 * normals(p, 8)} for p in range(SETS)], kwargs={"stddev": torch.full((8,), 11.0)}
    ),
    "arguments": lambda: stack(
        schools,
        [{"y": 9 * normals(p, 8)} for p in range(SETS)],
        each=[(8, 9 + normals(p + 50, 8).abs()) for p in range(SETS)],
    ),
    "folded": lambda: stack(alike, [{"x": 3 + normals(p, 30)} for p in range(SETS)]),
    "groups": lambda: stack(classes, [{"x": normals(p, 30), "k": labels(p, 3)} for p in range(SETS)]),
    "fewer groups": lambda: stack(
        classes, [{"x": normals(p, 30), "k": labels(p, 2 + p % 2)} for p in range(SETS)]
    ),
    "summed out": lambda: stack(classes, [{"x": normals(p, 30)} for p in range(SETS)]),
    "masks": lambda: stack(alike, [{"x": masked(p)} for p in range(SETS)]),
    "read out": lambda: stack(
        reads,
        [{"x": normals(p, 9)} for p in range(SETS)],
        each=[(9, 2 + normals(p, 3).abs()) for p in range(SETS)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_data_set_has_its_own_density(name):
    stacked = CASES[name]()
    assert stacked.count == SETS and stacked.traced and stacked.batched == (name != "read out")
    z = normals(100, SETS, DRAWS, stacked.size)
    value, grad = stacked.value_and_grad(z)
    assert value.shape == (SETS, DRAWS) and grad.shape == z.shape
    torch.testing.assert_close(stacked.log_prob(z), value, rtol=1e-10, atol=1e-10)
    which = torch.tensor([3, 1])
    some, slopes = stacked.value_and_grad(z[which], which)
    torch.testing.assert_close(some, value[which], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slopes, grad[which], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stacked.log_prob(z[which], which), value[which], rtol=1e-10, atol=1e-10)
    sites = stacked.constrain(z)
    for p in range(SETS):
        alone = stacked.density(p)
        expected, slope = alone._looped_gradient(z[p])
        torch.testing.assert_close(value[p], expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(grad[p], slope, rtol=1e-8, atol=1e-8)
        for site, values in alone.constrain(z[p]).items():
            torch.testing.assert_close(sites[site][p], values, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": torch.ones(29)}, r"data\[2\]\['x'\]: expected shape \(30,\)"),
        ({"x": torch.full((30,), torch.nan)}, r"data\[2\]\['x'\]: expected finite numbers"),
        ({"z": torch.ones(30)}, r"data\[2\]: expected the sites \['x'\], got \['z'\]"),
    ],
)
def test_what_does_not_fit_is_said_with_its_data_set(wrong, message):
    sets = [{"x": normals(p, 30)} for p in range(4)]
    sets[2] = wrong
    with pytest.raises(ValueError, match=message):
        stack(alike, sets)


def test_values_outside_a_support_that_differs_between_data_sets_are_found():
    def tosses(n, total):
        bias = pyro.sample("bias", dist.Beta(2.0, 3.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Binomial(total, bias))

    x, total = torch.tensor([2.0, 3.0]), torch.tensor([4.0, 5.0])
    stack(tosses, [{"x": x}, {"x": 2 * x}], each=[(2, total), (2, 2 * total)])
    with pytest.raises(ValueError, match=r"data\[1\]\['x'\]: expected values in the support"):
        stack(tosses, [{"x": 2 * x}, {"x": 2 * x}], each=[(2, 2 * total), (2, total - 2)])


def test_no_data_sets_and_too_few_arguments_are_errors():
    with pytest.raises(ValueError, match="data: expected at least one data set"):
        stack(alike, [])
    with pytest.raises(ValueError, match="each: expected arguments for 2 data sets, got 1"):
        stack(alike, [{"x": normals(0, 3)}] * 2, each=[(3,)])
