"""Supports that depend on unknowns: no density beyond them, and no fit that is trusted and wrong."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, prior
from inference.density.stacked import stack
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.support import edged, inside

SHIFT = dist.transforms.AffineTransform


def shifted(n):
    start = pyro.sample("start", dist.Normal(-2.0, 1.0))
    with pyro.plate("row", n):
        later = dist.TransformedDistribution(dist.Exponential(torch.ones(())), [SHIFT(start, 1.0)])
        pyro.sample("x", later)


def pareto(n):
    start = pyro.sample("start", dist.HalfNormal(0.3))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Pareto(start, 2.0))


def uniform(n):
    end = pyro.sample("end", dist.Exponential(1.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Uniform(0.0, end))


def with_a_support(n, smallest):
    gap = pyro.sample("gap", dist.Exponential(1.0))
    with pyro.plate("row", n):
        later = dist.TransformedDistribution(dist.Exponential(torch.ones(())), [SHIFT(smallest - gap, 1.0)])
        pyro.sample("x", later)


class Shifted(dist.TransformedDistribution):
    """A user's class, which goes on beyond its edge."""

    def __init__(self, start, validate_args=None):
        super().__init__(dist.Exponential(torch.ones_like(start)), [SHIFT(start, 1.0)], validate_args)

    def expand(self, batch_shape, _instance=None):
        return super().expand(batch_shape, self._get_checked_instance(Shifted, _instance))


class Declared(dist.TorchDistribution):
    """A user's class that says where it begins."""

    def __init__(self, start):
        self.start = start
        super().__init__(start.shape, torch.Size(), validate_args=False)

    @dist.constraints.dependent_property(event_dim=0, is_discrete=False)
    def support(self):
        return dist.constraints.greater_than_eq(self.start)

    def expand(self, batch_shape, _instance=None):
        return Declared(self.start.expand(batch_shape))

    def sample(self, sample_shape=()):
        return self.start + torch.rand(self.shape(sample_shape)).log().neg()

    def log_prob(self, value):
        return self.start - value


def sigmoid(end):
    """Uniform between 0 and ``end``: the sigmoid of a logistic number, stretched."""
    logistic = dist.TransformedDistribution(
        dist.Uniform(torch.zeros_like(end), 1.0), dist.transforms.SigmoidTransform().inv
    )
    return dist.TransformedDistribution(logistic, [dist.transforms.SigmoidTransform(), SHIFT(0.0, end)])


def by_hand(n, data):
    start = pyro.sample("start", dist.Normal(0.0, 1.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Exponential(1.0), obs=data - start)


def rows(n=20, seed=0):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)).log().neg()


@pytest.mark.parametrize(("story", "data"), [(shifted, rows()), (pareto, 1 + rows()), (uniform, 3 * rows(4))])
def test_an_unknown_edge_is_never_overstepped_in_a_trusted_fit(story, data):
    """Before, the shifted exponential came back trusted, with a start 18 beyond the first observation."""
    posterior = fit(story, {"x": data}, draws=500, seed=0)
    unknown = next(iter(posterior.draws.values()))
    within = unknown >= data.max() if story is uniform else unknown <= data.min()
    assert bool(within.all()) or not posterior.certificate.trusted
    assert posterior.certificate.trusted or posterior.certificate.reasons


def test_the_edge_written_as_a_support_gives_the_closed_form():
    """The gap before the first of n exponential times, itself exponential, is exponential of rate n + 1."""
    data = rows()
    posterior = fit(with_a_support, {"x": data}, kwargs={"smallest": data.min()}, draws=1000, seed=0)
    gap = posterior.draws["gap"].flatten() * 21
    assert posterior.certificate.trusted, str(posterior.certificate)
    assert abs(float(gap.mean()) - 1) < 5 / math.sqrt(4000)
    assert abs(float(gap.std()) - 1) < 5 * math.sqrt(2 / 4000)  # kurtosis 9


@pytest.mark.parametrize("story", [shifted, pareto, uniform])
def test_new_rows_beyond_the_edge_weigh_nothing(story):
    """Under the prior some draws allow a value, and none allows one that is far beyond."""
    weighed = prior(story, draws=200, seed=0).log_prob({"x": torch.tensor([-1e3])})
    assert float(weighed) == -math.inf


@pytest.mark.parametrize(
    ("law", "side"),
    [
        (lambda start: Shifted(start), 1),
        (lambda start: Declared(start), 1),
        (lambda start: dist.MaskedMixture(start > 9, Shifted(start), dist.Normal(start, 1.0)), 1),
        (lambda end: sigmoid(end), -1),
    ],
)
def test_a_density_ends_at_its_edge_and_its_gradient_is_a_number(law, side):
    start = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    with pyro.validation_enabled(False):
        fn = law(start)
        values = torch.tensor([[0.5, 0.5], [1.5, 1.5], [2.5, 2.5]])
        density, plain = edged(fn).log_prob(values), fn.log_prob(values)
        within = side * (values - start) >= 0
        assert torch.equal(density[within], plain[within])
        assert bool((density[~within] == -math.inf).all())
        (slope,) = torch.autograd.grad(density[within].sum() + density.exp().sum(), start)
    assert torch.isfinite(slope).all()


def test_what_the_story_observes_itself_ends_there_too():
    """n exponential times from an unknown start: the posterior is Normal(n, 1) cut off at the smallest."""
    data = 3 + rows(8)
    posterior = fit(by_hand, {}, kwargs={"n": 8, "data": data}, draws=500, seed=0)
    start = posterior.draws["start"]
    assert bool((start <= data.min()).all()) or not posterior.certificate.trusted
    with pyro.validation_enabled(False):
        assert edged(dist.Exponential(1.0), observed=True).log_prob(torch.tensor(-1.0)) == -math.inf
        assert edged(dist.Normal(0.0, 1.0), observed=True).log_prob(torch.tensor(-1.0)) > -2


def test_what_the_story_observes_itself_beyond_a_fixed_edge_is_refused():
    def story(data):
        rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
        with pyro.plate("row", len(data)):
            pyro.sample("x", dist.Exponential(rate), obs=data)

    with pytest.raises(ValueError, match="'x': the story observes values .obs=. outside .* 1 of 3"):
        fit(story, {}, (torch.tensor([1.0, -2.0, 3.0]),))


def test_observed_numbers_of_the_story_are_folded_as_data_are():
    """Only what is computed from unknowns can come to lie outside; the rest keeps its plain density."""

    def story(data):
        rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
        start = pyro.sample("start", dist.Normal(0.0, 1.0))
        pyro.sample("known", dist.Exponential(rate).expand([3]).to_event(1), obs=data)
        pyro.sample("moved", dist.Exponential(rate).expand([3]).to_event(1), obs=data - start)

    structure, _ = inspect_rows(Call.bind(story, (torch.tensor([1.0, 2.0, 3.0]),)), {})
    assert structure.call.computed == {"moved"}


def classes(n):
    weight = pyro.sample("weight", dist.Beta(1.0, 1.0))
    waiting = dist.Exponential(torch.ones(()))
    with pyro.plate("row", n):
        y = pyro.sample("y", dist.Bernoulli(weight))
        pyro.sample("x", dist.TransformedDistribution(waiting, [SHIFT(5.0 * y, 1.0)]))


def test_classes_with_edges_of_their_own_are_told_apart():
    """As many rows as classes: the dimension of the classes must not be taken for that of the rows."""
    data = {"x": torch.tensor([1.0, 2.0, 6.0, 9.0]), "y": torch.tensor([0.0, 0.0, 1.0, 1.0])}
    fitted = fit(classes, data, seed=0)
    assert fitted.certificate.trusted, str(fitted.certificate)
    x = torch.tensor([2.0, 7.0], dtype=torch.float64)
    low, high = (-x).exp() / 2, torch.tensor([0.0, math.exp(-2.0) / 2])  # the weight's mean is one half
    found = fitted.probabilities("y", given={"x": x})[:, 1]
    torch.testing.assert_close(found.double(), high / (low + high), rtol=0, atol=0.01)
    torch.testing.assert_close(fitted.log_prob({"x": x}).double(), (low + high).log(), rtol=0, atol=0.06)


def totals(n):
    share = pyro.sample("share", dist.Beta(2.0, 2.0))
    total = pyro.sample("total", dist.Categorical(torch.ones(30)))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Binomial(total.double(), share))


def test_totals_that_are_impossible_are_summed_over_as_impossible():
    """Totals below the largest count weigh nothing; before, the gradient of such a sum was NaN."""
    data = torch.tensor([7.0, 9.0, 8.0, 12.0, 10.0])
    posterior = fit(totals, {"x": data}, seed=0)
    assert posterior.certificate.trusted, str(posterior.certificate)
    share = torch.linspace(0, 1, 4003, dtype=torch.float64)[1:-1]
    counts = torch.arange(12, 30, dtype=torch.float64)
    each = torch.distributions.Binomial(counts[:, None], share, validate_args=False)
    log_p = sum(each.log_prob(x) for x in data.double()) + (6 * share * (1 - share)).log() - math.log(30)
    mass = log_p.exp().sum(0)
    mean = float((mass * share).sum() / mass.sum())
    stddev = math.sqrt(float((mass * (share - mean) ** 2).sum() / mass.sum()))
    evidence = math.log(float(mass.sum() * (share[1] - share[0])))
    draws = posterior.draws["share"].flatten()
    assert abs(float(draws.mean()) - mean) < 5 * stddev / math.sqrt(len(draws))
    assert abs(float(draws.std()) / stddev - 1) < 0.05
    certificate = posterior.certificate
    assert abs(certificate.log_evidence - evidence) < 5 * certificate.log_evidence_stderr + 1e-3


def test_a_count_that_one_run_does_not_allow_is_taken_where_another_count_bounds_it():
    def story(n):
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        with pyro.plate("row", n):
            total = pyro.sample("total", dist.Categorical(probs=0.7 ** torch.arange(30.0)))
            pyro.sample("x", dist.Binomial(total.double(), share))

    def fixed(n):
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Binomial(5, share))

    data = {"x": torch.tensor([7.0, 9.0, 8.0])}
    assert fit(story, data, draws=200, seed=0).certificate.trusted
    with pytest.raises(ValueError, match="upper 5"):
        fit(fixed, data)


def test_data_sets_beyond_the_bounds_of_one_prior_run_are_taken():
    data = [{"x": scale * rows()} for scale in (0.2, 1.0, 25.0)]
    stacked = stack(uniform, data)
    value, _ = stacked.value_and_grad(torch.full((3, 1, 1), 2.5, dtype=torch.float64))  # an end of 12
    assert torch.isfinite(value[:, 0]).tolist() == [bool(d["x"].max() < math.exp(2.5)) for d in data]


def test_data_beyond_a_fixed_bound_are_refused():
    def story(n):
        rate = pyro.sample("rate", dist.Exponential(1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Gamma(rate, 1.0))

    with pytest.raises(ValueError, match="expected values in the support of"):
        fit(story, {"x": torch.tensor([1.0, -1.0])}, seed=0)


def test_only_distributions_without_an_edge_are_copied():
    normal, log_normal = dist.Normal(0.0, 1.0), dist.LogNormal(0.0, 1.0)
    twice = dist.TransformedDistribution(
        dist.TransformedDistribution(normal, SHIFT(1.0, 2.0)), SHIFT(0.0, 3.0)
    )
    for fn in (normal, log_normal, twice, dist.Uniform(0.0, 1.0), normal.expand([3]).to_event(1)):
        assert edged(fn) is fn
    gamma = dist.TransformedDistribution(dist.Gamma(2.0, torch.ones(3)), SHIFT(-1.0, 1.0))
    masked = gamma.mask(torch.tensor([True, True, False])).to_event(1)
    values = torch.tensor([0.0, 1.0, -5.0])
    assert type(edged(gamma)) is not type(gamma) and isinstance(edged(gamma), type(gamma))
    assert inside(gamma, values).tolist() == [True, True, False]
    with pyro.validation_enabled(False):
        assert torch.isfinite(edged(masked).log_prob(values)) and bool(inside(masked, values))
        torch.testing.assert_close(edged(gamma).log_prob(values)[:2], gamma.log_prob(values)[:2])
        assert edged(gamma).log_prob(values)[2] == -math.inf


def test_components_of_a_mixture_end_where_they_do():
    start = torch.tensor([0.0, 2.0])
    parts = dist.TransformedDistribution(dist.Exponential(torch.ones(2)), SHIFT(start, 1.0))
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.5, 0.5])), parts)
    with pyro.validation_enabled(False):
        found = edged(mixture).log_prob(torch.tensor([-1.0, 1.0, 3.0])).exp()
    true = torch.tensor([0.0, 0.5 * math.exp(-1.0), 0.5 * (math.exp(-3.0) + math.exp(-1.0))])
    torch.testing.assert_close(found, true)
