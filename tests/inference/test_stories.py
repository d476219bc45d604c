"""Stories of many kinds: supports, branches, modules, hidden randomness; right, or said to be wrong."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import config_enumerate
from pyro.nn import PyroModule, PyroSample
from torch.distributions import biject_to, constraints

from inference import fit, prior
from inference.density.log_density import LogDensity
from inference.story.bijections import bijection
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations

QUICK = {"restarts": 2, "draws": 400, "seed": 0}


def density(story, data, args=()):
    structure, observations = inspect_rows(Call.bind(story, args), as_observations(data))
    return LogDensity(structure, observations)


def points(size, count=3, seed=0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(n):
    return pyro.plate("row", n, dim=-1)


def moments(posterior, site):
    draws = posterior.draws[site].flatten(0, 1)
    return draws.mean(0), draws.std(0)


@pytest.mark.parametrize(
    ("support", "length"),
    [
        (constraints.lower_cholesky, 6),
        (constraints.positive_definite, 6),
        (constraints.corr_cholesky, 3),
        (constraints.simplex, 4),
        (dist.constraints.ordered_vector, 4),
        (constraints.independent(constraints.positive, 1), 4),
        (constraints.interval(-2.0, 3.0), 1),
    ],
)
def test_bijections_reach_the_support_with_the_right_jacobian(support, length):
    transform = bijection(support)
    z = points(length, 1, seed=3)[0]
    value = transform(z)
    assert bool(support.check(value).all())
    torch.testing.assert_close(transform.inv(value), z)
    jacobian = torch.autograd.functional.jacobian(lambda u: transform(u).flatten(), z)
    free = jacobian
    if value.shape != z.shape:  # the independent entries of a matrix, or all but one of a simplex
        free = jacobian[: len(z)]
        if value.dim() == 2:
            n = value.shape[-1]
            offset = -1 if support is constraints.corr_cholesky else 0
            i, j = torch.tril_indices(n, n, offset)
            free = jacobian[i * n + j]
    log_det = transform.log_abs_det_jacobian(z, value).sum()
    torch.testing.assert_close(log_det, torch.linalg.slogdet(free)[1])


def test_a_support_that_depends_on_another_site():
    """a ~ U(0, 1), b ~ U(0, 1 - a), x ~ N(a + 2 b, .5): by quadrature on a grid."""

    def story(n):
        a = pyro.sample("a", dist.Uniform(0.0, 1.0))
        b = pyro.sample("b", dist.Uniform(0.0, 1 - a))
        with rows(n):
            pyro.sample("x", dist.Normal(a + 2 * b, 0.5))

    x = torch.tensor([1.3, 1.6])
    posterior = fit(story, {"x": x}, **QUICK)
    grid = (torch.arange(800) + 0.5).double() / 800
    a, b = torch.meshgrid(grid, grid, indexing="ij")
    log_p = dist.Normal(a[..., None] + 2 * b[..., None], 0.5).log_prob(x).sum(-1) - torch.log1p(-a)
    log_p = torch.where(b < 1 - a, log_p, -math.inf)
    p = log_p.flatten().softmax(0).reshape(a.shape)
    assert posterior.certificate.trusted
    for name, value in (("a", a), ("b", b)):
        mean = (p * value).sum()
        sd = (p * (value - mean) ** 2).sum().sqrt()
        assert abs(moments(posterior, name)[0] - mean) < 4 * sd / math.sqrt(800)
    evidence = log_p.flatten().logsumexp(0) - 2 * math.log(800)
    assert (
        abs(posterior.certificate.log_evidence - evidence)
        < 4 * posterior.certificate.log_evidence_stderr + 0.01
    )


def test_a_flat_prior():
    """An improper prior cannot be sampled, but it can be fitted: mu | x ~ N(mean x, 2 / sqrt(n))."""

    def story(n):
        mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        with rows(n):
            pyro.sample("x", dist.Normal(mu, 2.0))

    posterior = fit(story, {"x": torch.tensor([1.5, 2.0, 6.5])}, **QUICK)
    mean, sd = moments(posterior, "mu")
    assert posterior.certificate.trusted
    assert abs(mean - 10 / 3) < 4 * 2 / math.sqrt(3 * 800)
    assert abs(sd / (2 / math.sqrt(3)) - 1) < 4 / math.sqrt(1600)
    assert posterior.sample("x").shape == (3,)
    with pytest.raises(ValueError, match="improper and cannot be sampled"):
        prior(story).sample("x", args=(3,))


def matrices(n):
    spread = pyro.sample("spread", dist.HalfNormal(3.0).expand([2]).to_event(1))
    factor = pyro.sample("factor", dist.LKJCholesky(2, 2.0))
    weights = pyro.sample("weights", dist.Dirichlet(torch.tensor([2.0, 3.0, 4.0])))
    steps = dist.TransformedDistribution(
        dist.Normal(torch.zeros(2), 2.0).to_event(1), dist.transforms.OrderedTransform()
    )
    cuts = pyro.sample("cuts", steps)
    precision = pyro.sample("precision", dist.Wishart(5.0, 3.0 * torch.eye(2)))
    with rows(n):
        pyro.sample("k", dist.Categorical(weights))
        pyro.sample("grade", dist.OrderedLogistic(torch.tensor(0.4), cuts))
        pyro.sample("u", dist.MultivariateNormal(torch.zeros(2), scale_tril=spread[:, None] * factor))
        pyro.sample("v", dist.MultivariateNormal(torch.zeros(2), precision_matrix=precision))


@pytest.mark.filterwarnings("ignore:Singular sample")
def test_simplexes_orders_correlations_and_precisions():
    data = prior(matrices, (12,), draws=2, seed=3).sample(["k", "grade", "u", "v"], seed=4)
    posterior = fit(matrices, data, restarts=1, draws=400, seed=0)
    draws = posterior.draws
    assert bool((draws["cuts"].diff(dim=-1) > 0).all())
    torch.testing.assert_close(draws["weights"].sum(-1), torch.ones(1, 400).double())
    torch.testing.assert_close(draws["factor"].square().sum(-1), torch.ones(1, 400, 2).double())
    assert bool((torch.linalg.eigvalsh(draws["precision"]) > 0).all())
    # what is conjugate in it is exact
    assert posterior.certificate.method == "svi+psis", str(posterior.certificate)
    counts = torch.bincount(data["k"], minlength=3) + torch.tensor([2.0, 3.0, 4.0])
    exact = dist.Dirichlet(counts)
    gap = (moments(posterior, "weights")[0] - exact.mean).abs()
    assert bool((gap < 4 * exact.variance.sqrt() / math.sqrt(400)).all())


def test_a_factor_counts_and_is_enough_of_an_observation():
    """N(0, 1) times a factor exp(-(mu - 3)^2 / 2) is N(1.5, 1 / sqrt 2)."""

    def story():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.factor("pull", -0.5 * (mu - 3.0) ** 2)

    posterior = fit(story, {}, **QUICK)
    mean, sd = moments(posterior, "mu")
    assert abs(mean - 1.5) < 4 * math.sqrt(0.5 / 800) and abs(sd * math.sqrt(2) - 1) < 4 / math.sqrt(1600)
    assert posterior.certificate.log_evidence == pytest.approx(-0.5 * math.log(2) - 9 / 4, abs=1e-6)


class Regression(PyroModule):
    def __init__(self):
        super().__init__()
        self.register_buffer("covariate", torch.tensor([2.0, -3.0, 4.0]))
        self.slope = PyroSample(dist.Normal(0.0, 2.0))

    def forward(self):
        slope = self.slope  # outside the plate
        with rows(3):
            return pyro.sample("y", dist.Normal(slope * self.covariate, 1.5))


def test_a_module_is_copied():
    module = Regression()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    posterior = fit(module, {"y": torch.tensor([4.0, -6.5, 8.0])}, **QUICK)
    precision = 29 / 2.25 + 1 / 4
    assert abs(moments(posterior, "slope")[0] - 59.5 / 2.25 / precision) < 4 / math.sqrt(800 * precision)
    assert posterior.story is not module
    assert module.covariate.dtype == torch.float32
    assert all((module.state_dict()[name] == value).all() for name, value in before.items())
    assert posterior.sample("y", num_samples=2).shape == (2, 3)


def test_tensors_closed_over_in_single_precision():
    covariates, sd = torch.tensor([[2.0, 3.0], [-1.5, 4.0], [3.0, 0.5]]), torch.tensor(1.5)

    def story():
        weights = pyro.sample("weights", dist.Normal(torch.zeros(2), 3.0).to_event(1))
        with rows(3):
            pyro.sample("y", dist.Normal(covariates @ weights, sd))

    y = torch.tensor([3.0, 2.0, 5.0])
    posterior = fit(story, {"y": y}, **QUICK)
    X = covariates.double()
    precision = X.T @ X / 2.25 + torch.eye(2).double() / 9
    mean = torch.linalg.solve(precision, X.T @ y.double() / 2.25)
    sds = torch.linalg.inv(precision).diagonal().sqrt()
    assert ((moments(posterior, "weights")[0] - mean).abs() < 4 * sds / math.sqrt(800)).all()
    assert covariates.dtype == torch.float32
    assert posterior.draws["weights"].dtype == torch.float64
    assert posterior.log_prob({"y": y}).dtype == torch.float64


def test_a_branch_on_an_unknown_falls_back_to_plain_pyro():
    """x ~ N(2 mu, .7) where mu > 0 else N(mu, .7), by quadrature."""

    def story():
        mu = pyro.sample("mu", dist.Normal(0.5, 1.0))
        pyro.sample("x", dist.Normal(2 * mu if mu > 0 else mu, 0.7))

    posterior = fit(story, {"x": 1.5}, restarts=1, draws=400)
    (note,) = posterior.certificate.notes
    assert "plain Pyro" in note
    mu = torch.linspace(-6, 6, 20001).double()
    centre = torch.where(mu > 0, 2 * mu, mu)
    log_p = dist.Normal(0.5, 1.0).log_prob(mu) + dist.Normal(centre, 0.7).log_prob(torch.tensor(1.5))
    p = log_p.softmax(0)
    mean = (p * mu).sum()
    sd = (p * (mu - mean) ** 2).sum().sqrt()
    assert abs(moments(posterior, "mu")[0] - mean) < 4 * sd / math.sqrt(400)
    evidence = log_p.logsumexp(0) + math.log(12 / 20000)
    assert abs(posterior.certificate.log_evidence - evidence) < 4 * posterior.certificate.log_evidence_stderr


def test_a_branch_on_what_is_summed_out_is_taken_for_each_value():
    def story():
        coin = pyro.sample("coin", dist.Bernoulli(0.4))
        loc = 3.0 if coin == 1 else -3.0
        pyro.sample("x", dist.Normal(loc, 2.0))

    like = dist.Normal(torch.tensor([-3.0, 3.0]), 2.0).log_prob(torch.tensor(2.5)).exp()
    exact = (torch.tensor([0.6, 0.4]) @ like).log()
    assert fit(story, {"x": 2.5}).certificate.log_evidence == pytest.approx(float(exact), abs=1e-6)
    found, error = prior(story).log_prob({"x": 2.5}, stderr=True)
    assert abs(found - exact) < 4 * error + 1e-6
    known = fit(story, {"x": 2.5, "coin": 1.0}).certificate.log_evidence
    assert known == pytest.approx(math.log(0.4) + float(dist.Normal(3.0, 2.0).log_prob(torch.tensor(2.5))))


def test_values_assigned_in_place_are_followed():
    """Marks of origin are lost there; the site must not pass for one on which nothing depends."""

    def story():
        coin = pyro.sample("coin", dist.Bernoulli(0.4))
        loc = torch.zeros(3)
        loc[1] = 3.0 * coin
        with rows(3):
            pyro.sample("x", dist.Normal(loc, 2.0))

    structure, _ = inspect_rows(Call.bind(story), {})
    assert structure.sites["x"].parents == {"coin"}
    x = torch.tensor([0.5, 2.5, -0.5])
    locs = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    exact = (dist.Normal(locs, 2.0).log_prob(x).sum(-1) + torch.tensor([0.6, 0.4]).log()).logsumexp(0)
    assert fit(story, {"x": x}).certificate.log_evidence == pytest.approx(float(exact), abs=1e-6)


@pytest.mark.parametrize("source", [torch.randn, lambda n: torch.from_numpy(np.random.randn(n))])
def test_random_numbers_outside_sample_sites_are_not_trusted(source):
    def story(n):
        with rows(n):
            pyro.sample("x", dist.Normal(2.0 + source(n), 2.0))

    state = np.random.get_state()
    certificate = fit(story, {"x": torch.tensor([3.0, 5.0, 4.0])}).certificate
    np.random.set_state(state)
    assert not certificate.trusted
    assert any("random numbers outside pyro.sample" in reason for reason in certificate.reasons)


def test_values_read_by_python_do_not_freeze():
    """`tolist()` traces into a constant: plain Pyro must take over, and the gradient is then wrong."""

    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
        with rows(n):
            pyro.sample("x", dist.Normal(mu.tolist(), 2.0))

    found = density(story, {"x": torch.tensor([3.0, 5.0])})
    assert not found.traced and "differs from plain Pyro" in found.note
    z = points(1)
    like = dist.Normal(z, 2.0).log_prob(torch.tensor([3.0, 5.0])).sum(-1)
    torch.testing.assert_close(found.log_prob(z), dist.Normal(0.0, 2.0).log_prob(z[:, 0]) + like)


CENTRES = torch.tensor([-1.5, 2.0])


def groups(n, m):
    """Nested: a group's kind, and each member's, both never seen."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with pyro.plate("group", n, dim=-2):
        kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.3, 0.7])))
        with pyro.plate("member", m, dim=-1):
            odd = pyro.sample("odd", dist.Bernoulli(0.2))
            pyro.sample("x", dist.Normal(CENTRES[kind] + 3.0 * odd, scale))


def test_nested_sites_are_summed_out_exactly():
    """Against a sum over all 2^2 x 2^6 values."""
    x = torch.tensor([[0.5, 3.0, -2.0], [1.7, 4.5, 0.3]])
    found = density(groups, {"x": x}, (2, 3))
    assert found.size == 1
    for z in points(1):
        scale = z.exp()
        total = []
        for kinds in itertools.product((0, 1), repeat=2):
            for odds in itertools.product((0.0, 1.0), repeat=6):
                k, o = torch.tensor(kinds), torch.tensor(odds).reshape(2, 3)
                log_p = torch.tensor([0.3, 0.7])[k].log().sum() + dist.Bernoulli(0.2).log_prob(o).sum()
                log_p = log_p + dist.Normal(CENTRES[k][:, None] + 3.0 * o, scale).log_prob(x).sum()
                total.append(log_p)
        prior_density = dist.LogNormal(0.0, 0.5).log_prob(scale).sum() + z.sum()
        expected = torch.stack(total).logsumexp(0) + prior_density
        torch.testing.assert_close(found.log_prob(z[None])[0], expected, rtol=1e-6, atol=1e-6)


def test_a_discrete_site_away_from_the_last_dimension():
    """A kind for every group, in a plate at dim=-2: its tables have the site's shape, (groups, 1)."""

    def story(n):
        with pyro.plate("group", 4, dim=-2):
            kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.3, 0.7])))
            with pyro.plate("member", n, dim=-1):
                pyro.sample("x", dist.Normal(CENTRES[kind], 1.5))

    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    like = dist.Normal(CENTRES, 1.5).log_prob(x[..., None]).sum(1) + torch.tensor([0.3, 0.7]).log()
    posterior = fit(story, {"x": x}, (5,))
    assert posterior.certificate.log_evidence == pytest.approx(float(like.logsumexp(-1).sum()), rel=1e-5)
    expected = like.softmax(-1)[:, None].double()
    torch.testing.assert_close(posterior.probabilities("kind"), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        posterior.probabilities("kind", given={"x": x}), expected, rtol=1e-4, atol=1e-6
    )
    assert posterior.sample(["x", "kind"])["kind"].shape == (4, 1)
    torch.testing.assert_close(
        posterior.log_prob({"x": x}), like.logsumexp(-1).double(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("count", [3, 40])
def test_a_discrete_site_that_acts_outside_its_plate(count):
    """Spike and slab: of three features all inclusions are gone through together, of forty not."""
    covariates = torch.randn(10, count, generator=torch.Generator().manual_seed(1)).double()
    y = covariates[:, 0] * 2

    def story():
        with pyro.plate("feature", count, dim=-1):
            use = pyro.sample("use", dist.Bernoulli(0.3))
            slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
        with pyro.plate("row", 10, dim=-1):
            pyro.sample("y", dist.Normal(((use * slope)[..., None, :] * covariates).sum(-1), 1.5))

    if count == 40:
        match = "site 'use': 'y' depends on it from outside its plate.*40 values.*assignments"
        with pytest.raises(ValueError, match=match):
            fit(story, {"y": y})
        return
    uses = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).double()
    spread = 4 * torch.einsum("nf,uf,mf->unm", covariates, uses, covariates) + 2.25 * torch.eye(10)
    like = dist.MultivariateNormal(torch.zeros(10).double(), spread).log_prob(y)
    log_p = like + dist.Bernoulli(0.3).log_prob(uses).sum(-1)
    posterior = fit(story, {"y": y}, **QUICK)
    found = posterior.probabilities("use")[:, 1]
    torch.testing.assert_close(found, log_p.softmax(0) @ uses, atol=0.05, rtol=0)
    given = {"y": y, "use": torch.tensor([1.0, 0.0, 0.0])}
    assert fit(story, given, restarts=1, draws=50)


def mixture(n):
    weights = pyro.sample("weights", dist.Dirichlet(torch.tensor([2.0, 3.0])))
    with pyro.plate("class", 2, dim=-1):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with rows(n):
        y = pyro.sample("y", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(mu[y], 1.5))


MIXED = torch.tensor([-6.0, -5.0, 4.5, 6.0, 5.2])


@pytest.mark.parametrize("decorate", [lambda story: story, config_enumerate])
def test_labels_never_seen_are_summed_out(decorate):
    found = density(decorate(mixture), {"x": MIXED})
    z = points(found.size)
    draws = found.constrain(z)
    weights, mu = draws["weights"], draws["mu"]
    rows_log_p = (weights.log()[:, None] + dist.Normal(mu[:, None], 1.5).log_prob(MIXED[:, None])).logsumexp(
        -1
    )
    expected = dist.Dirichlet(torch.tensor([2.0, 3.0]).double()).log_prob(weights) + rows_log_p.sum(-1)
    expected = expected + dist.Normal(0.0, 5.0).log_prob(mu).sum(-1)
    expected = expected + biject_to(constraints.simplex).log_abs_det_jacobian(z[:, :1], weights)
    torch.testing.assert_close(found.log_prob(z), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_label_switching_is_never_silent(seed):
    """Two modes: a trusted fit holds both of them, else the certificate says what happened."""
    posterior = fit(mixture, {"x": MIXED}, restarts=2, draws=100, seed=seed)
    first = posterior.draws["mu"][..., 0]
    shares = (first > 0).double().mean(-1)
    both = bool(((shares > 0.05) & (shares < 0.95)).all())
    assert both or not posterior.certificate.trusted
    assert posterior.certificate.trusted or posterior.certificate.reasons


def test_sites_on_which_nothing_depends_are_dropped():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with rows(n):
            pyro.sample("x", dist.Normal(mu, 2.0))
            pyro.sample("later", dist.Poisson(mu.exp()))
            pyro.sample("after", dist.MultivariateNormal(mu * torch.ones(2), torch.eye(2)))

    found = density(story, {"x": torch.tensor([2.0, 3.0])})
    assert found.names == ("mu",) and set(found.plan.dropped) == {"later", "after"}
    posterior = fit(story, {"x": torch.tensor([2.0, 3.0])}, **QUICK)
    assert posterior.sample(["later", "after"], num_samples=3)["after"].shape == (3, 2, 2)


def test_subsampling_inside_a_story_is_an_error():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("row", n, subsample_size=2, dim=-1):
            pyro.sample("x", dist.Normal(mu, 2.0))

    with pytest.raises(ValueError, match=r"plate 'row'.*subsample_size=2"):
        fit(story, {"x": torch.tensor([2.0, 3.0])}, (4,))
