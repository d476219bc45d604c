"""Rows folded into sums, expansions put off, traced graphs: the same numbers as without."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference.density.evaluation
from inference.compiler.vmapped import RandomStoryError, lift, trace
from inference.density.log_density import LogDensity
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations

N, FEATURES = 30, 3
CENTRE = torch.tensor([2.0, -1.5, 3.0])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def emissions(family, theta):
    """The distribution of a row of three numbers, given its class's real parameters (classes, 3)."""
    return {
        "binomial": lambda: dist.Binomial(7, logits=theta).to_event(1),
        "bernoulli": lambda: dist.Bernoulli(logits=theta).to_event(1),
        "poisson": lambda: dist.Poisson(theta.exp()).to_event(1),
        "normal": lambda: dist.Normal(theta, 1.5 + theta.square()).to_event(1),
        "multivariate": lambda: dist.MultivariateNormal(theta, 2.0 * torch.eye(3) + 0.7),
    }[family]()


def classes(family):
    def story(n):
        weights = pyro.sample("weights", dist.Dirichlet(torch.tensor([2.0, 3.0])))
        with pyro.plate("class", 2, dim=-1):
            theta = pyro.sample("theta", dist.Normal(torch.zeros(3), 0.7).to_event(1))
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(weights))
            pyro.sample("x", emissions(family, theta[y]))

    return story


def one_class(family):
    def story(n):
        theta = pyro.sample("theta", dist.Normal(torch.zeros(3), 0.7).to_event(1))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", emissions(family, theta))

    return story


def data(family, labelled):
    theta = torch.tensor([[0.3, -0.4, 0.8], [-0.6, 0.2, 0.5]])
    y = torch.randint(0, 2, (N,), generator=generator(1))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        x = emissions(family, theta[y]).sample()
    return {"x": x, "y": y} if labelled else {"x": x}


def densities(story, values, monkeypatch, args=()):
    structure, observations = inspect_rows(Call.bind(story, args), as_observations(values))
    folded = LogDensity(structure, observations)
    monkeypatch.setattr(inference.density.evaluation, "fold", lambda *_: None)
    plain = LogDensity(structure, observations)
    assert plain.folded is None and plain.traced
    return folded, plain


def agree(one, other):
    z = torch.randn(6, one.size, generator=generator(3), dtype=torch.float64)
    for mine, theirs in zip(one.value_and_grad(z), other.value_and_grad(z), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("labelled", [True, False], ids=["classes", "one"])
@pytest.mark.parametrize("family", ["binomial", "bernoulli", "poisson", "normal", "multivariate"])
def test_folded_rows_have_the_same_density(family, labelled, monkeypatch):
    story = classes(family) if labelled else one_class(family)
    folded, plain = densities(story, data(family, labelled), monkeypatch)
    assert folded.folded is not None, folded.note
    agree(folded, plain)


def regression(n, covariate):
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(slope * covariate, 1.5))


def trend(n):
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(slope * torch.arange(float(n)), 1.5))


def prior_knows_n(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0 / n))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 1.5))


def local_latents(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    with pyro.plate("row", n, dim=-1):
        z = pyro.sample("z", dist.Normal(mu, 0.7))
        pyro.sample("x", dist.Normal(z, 1.5))


def pulled(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 1.5))
        pyro.factor("pull", -(mu**2) * torch.ones(n))


def test_deterministic_sites_are_those_of_all_rows():
    """The folded run has a single row; what is computed from their number must not be."""

    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        pyro.deterministic("total", n * mu)
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu, 2.0))

    structure, observations = inspect_rows(Call.bind(story), as_observations({"x": torch.ones(N)}))
    density = LogDensity(structure, observations)
    assert density.folded is not None
    draws = density.constrain(torch.tensor([[0.7], [-2.5]], dtype=torch.float64))
    torch.testing.assert_close(draws["total"], N * draws["mu"])


COVARIATE = torch.linspace(-2.0, 3.0, N)


@pytest.mark.parametrize(
    ("story", "args"),
    [
        (regression, (N, COVARIATE)),
        (lambda n: regression(n, COVARIATE), ()),
        (trend, ()),
        (prior_knows_n, ()),
        (local_latents, ()),
        (pulled, ()),
    ],
    ids=["argument", "closure", "index", "prior", "latent", "factor"],
)
def test_rows_that_differ_are_not_folded(story, args, monkeypatch):
    x = 2.0 * torch.randn(N, generator=generator(4))
    density, plain = densities(story, {"x": x}, monkeypatch, args)
    assert density.folded is None and density.traced
    agree(density, plain)


def test_scaled_and_masked_stories_keep_their_density(monkeypatch):
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
        with pyro.plate("row", n, dim=-1), pyro.poutine.scale(scale=2.5):
            pyro.sample("x", dist.Normal(mu, 1.5))
            with pyro.poutine.mask(mask=False):
                pyro.sample("z", dist.Normal(mu, 3.0))

    x, z = (2.0 * torch.randn(N, generator=generator(seed)) for seed in (4, 5))
    folded, plain = densities(story, {"x": x, "z": z}, monkeypatch)
    agree(folded, plain)
    mu = torch.tensor([[0.7]]).double()
    expected = dist.Normal(0.0, 2.0).log_prob(mu[0, 0]) + 2.5 * dist.Normal(mu[0], 1.5).log_prob(x).sum()
    torch.testing.assert_close(folded.log_prob(mu)[0], expected, rtol=1e-7, atol=1e-6)


def test_missing_rows_are_not_folded_wrongly(monkeypatch):
    import numpy as np

    x = np.ma.masked_array(data("normal", False)["x"].numpy(), np.arange(3 * N).reshape(N, 3) % 4 == 0)
    density, plain = densities(one_class("normal"), {"x": x}, monkeypatch)
    agree(density, plain)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x.expand(50, 3).exp() * torch.arange(3.0)).log1p().sum(),
        lambda x: (x[:, None].expand(3, 4) + x.expand(2, 3)[..., None].expand(2, 3, 4)).sigmoid().sum(-1),
        lambda x: torch.lgamma(x.square().expand(7, 3) + 1).clamp(min=0.2).mean(0),
        lambda x: x.expand(5, 3).cumsum(0).pow(2) - x,
        lambda x: torch.where(x.expand(4, 3) > 0, x.exp().expand(4, 3), 2 * x.expand(4, 3)),
    ],
)
def test_expansions_put_off_change_no_value(function):
    graph = trace(function, torch.ones(3, dtype=torch.float64))
    x = torch.randn(3, generator=generator(5), dtype=torch.float64)
    torch.testing.assert_close(graph(x), function(x), rtol=1e-12, atol=1e-12)
    assert function(x).shape == graph(x).shape


def test_element_wise_work_is_done_before_the_expansion():
    graph = lift(trace(lambda x: x.expand(1000, 3).exp().log1p().sum(0), torch.ones(3, dtype=torch.float64)))
    sizes = {str(n.target): n.meta["val"].numel() for n in graph.graph.nodes if "exp." in str(n.target)}
    assert max(size for name, size in sizes.items() if "aten.exp" in name) == 3


def test_a_graph_keeps_its_dtype_outside():
    """Constants are made in float64 while tracing, whatever the default is later."""
    graph = trace(
        lambda x: x * torch.full((2,), 1 / 3) + torch.ones(2).sum() / 3, torch.ones(2, dtype=torch.float64)
    )
    found = graph(torch.ones(2, dtype=torch.float64))
    assert torch.get_default_dtype() == torch.float32 and found.dtype == torch.float64
    torch.testing.assert_close(found, torch.ones(2).double(), rtol=1e-15, atol=1e-15)


def test_assignments_in_place_become_pure():
    def fill(x):
        out = torch.zeros(4, dtype=x.dtype)
        out[0] = x.sum()
        out[1:-1] = x.exp()
        out[-1] += 2.0
        return out.sum() * out[1]

    graph = trace(fill, torch.ones(2, dtype=torch.float64))
    x = torch.randn(5, 2, generator=generator(6), dtype=torch.float64)
    expected = torch.stack([fill(row) for row in x])
    torch.testing.assert_close(torch.vmap(lambda u: graph(u))(x), expected)


def test_a_graph_draws_no_random_numbers():
    with pytest.raises(RandomStoryError, match="random numbers"):
        trace(lambda x: x + torch.randn(2), torch.ones(2))
