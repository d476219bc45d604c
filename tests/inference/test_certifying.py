"""What was trained elsewhere is judged against closed forms, and nothing of it is changed."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoDiscreteParallel,
    AutoGuideList,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoStructured,
)
from pyro.infer.autoguide.initialization import init_to_value
from pyro.nn import PyroModule, PyroParam

from inference import certify, fit, load

X = torch.tensor([3.0, 5.0, 4.0, 8.0, 6.5, 2.5])
PRIOR, NOISE = 10.0, 2.0
PRECISION = PRIOR**-2 + len(X) * NOISE**-2
MEAN, STDDEV = X.sum().item() * NOISE**-2 / PRECISION, PRECISION**-0.5


def normal_evidence(x, stddev, noise):
    """Log density of rows that share a normal mean around 0."""
    covariance = torch.full((len(x), len(x)), stddev**2) + noise**2 * torch.eye(len(x))
    return dist.MultivariateNormal(torch.zeros(len(x)), covariance).log_prob(x).item()


EVIDENCE = normal_evidence(X, PRIOR, NOISE)


def story(n):
    mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, NOISE))


def observing(x):
    """The same, as Pyro's SVI wants it."""
    mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
    with pyro.plate("row", len(x)):
        pyro.sample("x", dist.Normal(mu, NOISE), obs=x)


@pytest.fixture(autouse=True)
def own_store():
    """Pyro's parameter store and random state for one test, as a user has them."""
    with pyro.get_param_store().scope(), torch.random.fork_rng():
        pyro.set_rng_seed(0)
        yield


def set_up(kind, model, *args, loc, **options):
    """An autoguide that has run, at a start."""
    guide = kind(model, init_loc_fn=init_to_value(values=loc), **options)
    guide(*args)
    return guide


def is_exact(posterior, evidence=EVIDENCE, mean=MEAN, stddev=STDDEV, name="mu"):
    found = posterior.certificate
    draws = posterior.draws[name].flatten().double()
    assert found.trusted, found
    assert abs(found.log_evidence - evidence) < 4 * found.log_evidence_stderr + 1e-5
    assert abs(draws.mean() - mean) < 4 * stddev / len(draws) ** 0.5
    assert abs(draws.std() / stddev - 1) < 4 / (2 * len(draws)) ** 0.5


# ---- guides


def at(mean, stddev):
    return lambda *_, **__: pyro.sample("mu", dist.Normal(mean, stddev))


def test_an_exact_guide_has_equal_weights():
    posterior = certify(story, {"x": X}, guide=at(MEAN, STDDEV))
    is_exact(posterior)
    assert posterior.certificate.log_evidence_stderr < 1e-9
    assert posterior.draws["mu"].shape == (4, 1000)
    assert posterior.certificate.gradient_calls == 0 and posterior.history == []
    assert "Nothing was trained" in posterior.certificate.notes[0]


@pytest.mark.parametrize("factor, shift, reason", [
    (0.3, 0.0, "k-hat"),  # too narrow
    (1.0, 4.0, "k-hat|effective size"),  # beside the posterior
    (40.0, 0.0, "effective size"),  # too wide
])  # fmt: skip
def test_a_wrong_guide_is_refused(factor, shift, reason):
    found = certify(story, {"x": X}, guide=at(MEAN + shift * STDDEV, factor * STDDEV)).certificate
    assert not found.trusted
    assert re.search(reason, found.reasons[0]), found


def test_a_guide_of_another_width_is_corrected_by_its_weights():
    is_exact(certify(story, {"x": X}, guide=at(MEAN + 0.3 * STDDEV, 1.5 * STDDEV)))


def test_a_guide_whose_support_is_too_small_is_refused():
    half = lambda n: pyro.sample("mu", dist.TransformedDistribution(  # noqa: E731
        dist.HalfNormal(STDDEV), dist.transforms.AffineTransform(MEAN, 1.0)))  # fmt: skip
    found = certify(story, {"x": X}, guide=half).certificate
    assert not found.trusted
    assert found.log_evidence == pytest.approx(EVIDENCE - math.log(2), abs=1e-6)


def trained_by_pyro(guide, model, *args, steps=250):
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(steps):
        svi.step(*args)
    return guide


def by_params(x):
    loc = pyro.param("loc", torch.tensor(0.0))
    stddev = pyro.param("stddev", torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("mu", dist.Normal(loc, stddev))


class ByModule(PyroModule):
    def __init__(self):
        super().__init__()
        self.loc = PyroParam(torch.tensor(1.0))
        self.stddev = PyroParam(torch.tensor(0.5), dist.constraints.positive)

    def forward(self, x):
        pyro.sample("mu", dist.Normal(self.loc, self.stddev))


@pytest.mark.parametrize("make", [
    lambda: AutoNormal(observing), lambda: by_params, ByModule,
])  # fmt: skip
def test_what_pyro_has_trained_is_trusted_and_nothing_is_changed(make):
    guide = trained_by_pyro(make(), observing, X)
    store = {n: v.clone() for n, v in pyro.get_param_store().items()}
    state, modes = torch.random.get_rng_state(), getattr(guide, "training", None)
    own = dict(guide.named_parameters()) if isinstance(guide, torch.nn.Module) else {}
    before = {n: (id(p), p.clone(), p.requires_grad) for n, p in own.items()}
    model = getattr(guide, "_model", None)
    is_exact(certify(observing, {}, (X,), guide=guide))
    assert torch.equal(torch.random.get_rng_state(), state)
    after = pyro.get_param_store()
    assert store.keys() == set(after.keys()) and all(torch.equal(store[n], after[n]) for n in store)
    for n, p in own.items():
        assert (id(p), p.requires_grad) == (before[n][0], before[n][2]) and torch.equal(p, before[n][1])
    assert getattr(guide, "training", None) == modes and getattr(guide, "_model", None) is model
    trained_by_pyro(guide, observing, X, steps=1)  # it can be trained on


def test_values_of_a_guide_function_come_from_the_store_and_what_is_not_there_is_said():
    for name, value in (("loc", MEAN), ("stddev", STDDEV)):
        pyro.param(name, torch.tensor(value))
    posterior = certify(observing, {}, (X,), guide=by_params)
    is_exact(posterior)
    with pyro.get_param_store().scope():
        untrained = certify(observing, {}, (X,), guide=by_params).certificate
    assert not untrained.trusted
    assert sum("'loc': its starting value was taken" in note for note in untrained.notes) == 1


@pytest.mark.parametrize("kind", [
    AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal,
])  # fmt: skip
def test_autoguides_of_a_positive_site_carry_the_right_jacobian(kind):
    """A lognormal scale that is seen through lognormal rows: normal-normal in the logarithm."""

    def model(x):
        s = pyro.sample("s", dist.LogNormal(0.0, PRIOR))
        with pyro.plate("row", len(x)):
            pyro.sample("x", dist.LogNormal(s.log(), NOISE), obs=x)

    guide = set_up(kind, model, X.exp(), loc={"s": torch.tensor(MEAN).exp()})
    with torch.no_grad():
        if kind is AutoNormal:
            guide.scales.s = torch.tensor(STDDEV)
        elif kind is AutoLowRankMultivariateNormal:  # variance of x: scale**2 (1 + cov_factor**2)
            guide.scale = torch.tensor([STDDEV])
            guide.cov_factor.fill_(1e-3)
        else:
            guide.scale = torch.tensor([STDDEV])
    posterior = certify(model, {}, (X.exp(),), guide=guide)
    found = posterior.certificate
    assert found.trusted, found
    exact = EVIDENCE - X.sum().item()
    assert found.log_evidence == pytest.approx(exact, abs=1e-4)
    logs = posterior.draws["s"].log()
    assert abs(logs.mean() - MEAN) < 4 * STDDEV / 4000**0.5
    assert abs(logs.std() / STDDEV - 1) < 4 / 8000**0.5


def test_a_laplace_approximation_is_what_its_point_stands_for():
    guide = set_up(AutoLaplaceApproximation, observing, X, loc={"mu": torch.tensor(MEAN)})
    is_exact(certify(observing, {}, (X,), guide=guide))
    is_exact(certify(observing, {}, (X,), guide=guide.laplace_approximation(X)))


def test_a_normalizing_flow_that_has_drawn_is_copied():
    guide = trained_by_pyro(AutoIAFNormal(two_unknowns), two_unknowns, X, steps=3)
    found = certify(two_unknowns, {}, (X,), guide=guide).certificate
    assert not found.trusted and found.khat is not None


def two_unknowns(x):
    mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
    bias = pyro.sample("bias", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("x", dist.Normal(mu + bias, NOISE), obs=x)


def test_parts_of_a_list_and_structured_guides():
    whole = AutoGuideList(two_unknowns)
    for name in ("mu", "bias"):
        whole.append(AutoNormal(poutine.block(two_unknowns, expose=[name])))
    whole(X)
    structured = AutoStructured(
        two_unknowns, conditionals={"mu": "normal", "bias": "normal"}, dependencies={"bias": {"mu": "linear"}}
    )
    structured(X)
    for guide in (whole, structured):
        found = certify(two_unknowns, {}, (X,), guide=guide).certificate
        assert not found.trusted and "k-hat" in found.reasons[0]


def test_a_point_is_refused_in_words():
    guide = set_up(AutoDelta, observing, X, loc={"mu": torch.tensor(MEAN)})
    found = certify(observing, {}, (X,), guide=guide).certificate
    assert not found.trusted and "puts point masses" in found.reasons[0]


def bimodal(n):
    a = pyro.sample("a", dist.Normal(0.3, 1.0))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(a * a, 0.3))


def test_a_missed_mode_is_found():
    """a and -a are alike but for the prior: exp(.6 a) to 1, so that -a holds about 29 % for a = 1.5."""
    x = torch.full((5,), 2.25)

    def one_mode(n):
        return pyro.sample("a", dist.Normal(1.495, 0.047))

    found = certify(bimodal, {"x": x}, guide=one_mode).certificate
    assert not found.trusted and "There are modes of which" in found.reasons[0]
    z = torch.linspace(-3, 3, 20001, dtype=torch.float64)
    log_p = dist.Normal(0.3, 1.0).log_prob(z) + 5 * dist.Normal(z**2, 0.3).log_prob(torch.tensor(2.25))
    evidence = (log_p.logsumexp(0) + math.log(6 / 20000)).item()
    share = float((log_p - log_p.logsumexp(0))[z < 0].logsumexp(0).exp())
    assert f"about {share:.0%}" in found.reasons[0]

    def both(n):
        side = dist.Categorical(torch.tensor([share, 1 - share]))
        pyro.sample("a", dist.MixtureSameFamily(side, dist.Normal(torch.tensor([-1.49, 1.495]), 0.047)))

    posterior = certify(bimodal, {"x": x}, guide=both)
    assert posterior.certificate.trusted, posterior.certificate
    assert abs(posterior.certificate.log_evidence - evidence) < 4 * posterior.certificate.log_evidence_stderr
    assert abs((posterior.draws["a"] < 0).double().mean() - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_a_mode_between_those_of_the_guide_is_found():
    """One Gaussian around the guide's draws would cover it: 5 %, twenty widths from either side."""
    width, centre = torch.full((3,), 0.1).double(), torch.tensor([-2.0, 0.0, 2.0]).double()
    three = dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.475, 0.05, 0.475])), dist.Normal(centre, width)
    )
    two = dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(centre[[0, 2]], 1.3 * width[[0, 2]])
    )

    def tripled(n):
        a = pyro.sample("a", dist.Normal(0.0, 2.0))
        pyro.factor("shape", three.log_prob(a) - dist.Normal(0.0, 2.0).log_prob(a))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    found = certify(tripled, {"x": X}, guide=lambda n: pyro.sample("a", two)).certificate
    assert not found.trusted and "There are modes of which" in found.reasons[0], found


def test_an_autoguide_that_pyro_trains_on_two_modes_is_refused():
    x = torch.full((5,), 2.25)
    model = poutine.condition(bimodal, {"x": x})
    guide = trained_by_pyro(
        AutoNormal(model, init_loc_fn=init_to_value(values={"a": torch.tensor(1.4)})), model, 5
    )
    assert not certify(bimodal, {"x": x}, guide=guide).certificate.trusted


def labelled(n):
    mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
    with pyro.plate("row", n):
        y = pyro.sample("y", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(mu + 0.0 * y, NOISE))


def test_discrete_sites_are_summed_out_and_not_drawn_by_the_guide():
    is_exact(certify(labelled, {"x": X}, guide=at(MEAN, STDDEV)))
    model = poutine.condition(labelled, {"x": X})
    whole = AutoGuideList(model)
    whole.append(AutoNormal(poutine.block(model, hide=["y"])))
    whole.append(AutoDiscreteParallel(poutine.block(model, expose=["y"])))
    whole(6)
    with pytest.raises(ValueError, match="it draws 'y', which is discrete and is summed out"):
        certify(labelled, {"x": X}, guide=whole)


def test_parameters_of_the_story_are_those_in_the_store():
    def with_noise(x):
        noise = pyro.param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
        mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
        with pyro.plate("row", len(x)):
            pyro.sample("x", dist.Normal(mu, noise), obs=x)

    pyro.param("noise", torch.tensor(NOISE), constraint=dist.constraints.positive)
    posterior = certify(with_noise, {}, (X,), guide=at(MEAN, STDDEV))
    is_exact(posterior)
    assert any("noise: point estimates" in note for note in posterior.certificate.notes)
    q = dist.Normal(MEAN, STDDEV)
    mu = q.sample((8000,))
    is_exact(certify(with_noise, {}, (X,), draws={"mu": mu}, log_q=q.log_prob(mu)))


@pytest.mark.parametrize("stddev, trusted", [(0.5**0.5, True), (0.2, False)])
def test_a_guide_that_reads_the_rows_is_checked_row_by_row(stddev, trusted):
    def story(n):
        with pyro.plate("row", n):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0))

    def amortized(n, data):
        with pyro.plate("row", n):
            pyro.sample("z", dist.Normal(data["x"] / 2, stddev))

    found = certify(story, {"x": X}, guide=amortized).certificate
    exact = dist.Normal(0.0, 2**0.5).log_prob(X).sum().item()
    assert found.trusted is trusted and found.rows is not None
    if trusted:
        assert found.log_evidence == pytest.approx(exact, abs=1e-4)


def test_answers_arviz_and_files(tmp_path):
    def classes(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("row", n):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(mu * (2 * y - 1), 1.0))

    data = {"x": torch.tensor([2.0, -2.5, 3.0, -2.0]), "y": torch.tensor([1.0, 0.0, 1.0, 0.0])}
    precision = 1 / 9 + 4
    guide = at(9.5 / precision, precision**-0.5)
    posterior, fitted = certify(classes, data, guide=guide), fit(classes, data)
    assert posterior.certificate.trusted
    given = {"x": torch.tensor([1.0, -0.2])}
    expected = fitted.probabilities("y", given=given)
    assert torch.allclose(posterior.probabilities("y", given=given), expected, atol=0.02)
    assert posterior.sample("x", args=(7,)).shape == (7,)
    assert posterior.to_arviz()["posterior"]["mu"].shape == (4, 1000)
    posterior.save(tmp_path / "mu")
    again = load(tmp_path / "mu", classes)
    assert again.certificate == posterior.certificate
    assert torch.equal(again.draws["mu"], posterior.draws["mu"])


def test_a_guide_that_a_fit_returned_is_judged_anew():
    posterior = fit(story, {"x": X}, guide=AutoNormal, steps=400)
    is_exact(certify(story, {"x": X}, guide=posterior.guide))


def uninvolved(n):
    pyro.sample("nu", dist.Normal(0.0, 1.0))


def misshapen(n):
    pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def superfluous(n):
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("nu", dist.Normal(0.0, 1.0))


def noisy(n):
    e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    pyro.sample("mu", dist.Normal(e, 1.0))


def test_noise_of_the_guides_own_is_refused_in_words():
    found = certify(story, {"x": X}, guide=noisy).certificate
    assert not found.trusted and "noise of its own" in found.reasons[0]


ZEROS = torch.zeros(400)


@pytest.mark.parametrize("options, message", [
    ({}, "guide: expected a trained guide, or draws"),
    ({"guide": "full_rank"}, "guide: expected one that is trained .* got 'full_rank'"),
    ({"guide": AutoNormal}, "guide: expected one that is trained .* the class AutoNormal"),
    ({"guide": AutoNormal(story)}, "guide: expected a trained AutoNormal, got one that has never been run"),
    ({"guide": uninvolved}, "guide: expected a sample statement for each of mu, got none for 'mu'"),
    ({"guide": superfluous}, "guide: .* got 'nu' too, which is no site of the story"),
    ({"guide": misshapen}, r"guide: expected 'mu' of shape \(\), got \(2,\)"),
    ({"guide": lambda: None}, "guide: expected to be called as the story is, with 0 positional"),
    ({"guide": at(0.0, 1.0), "log_q": torch.zeros(9)}, "draws, log_q: given beside a guide"),
    ({"guide": at(0.0, 1.0), "draws": 0}, "draws: expected a positive integer"),
    ({"guide": at(0.0, 1.0), "draws": "many"}, "draws: expected a positive integer, got 'many'"),
    ({"guide": at(0.0, 1.0), "seed": "a"}, "seed: expected an integer, got 'a'"),
    ({"draws": {"mu": ZEROS}}, "log_q: expected the log density"),
    ({"draws": {"nu": ZEROS}, "log_q": ZEROS}, "'nu' too, which is no site"),
    ({"draws": {}, "log_q": ZEROS}, "draws: expected mu, got none for 'mu'"),
    ({"draws": {"mu": ZEROS[:, None]}, "log_q": ZEROS}, r"expected shape \(400,\).*\(400, 1\)"),
    ({"draws": {"mu": ZEROS}, "log_q": ZEROS[:, None, None]}, "log_q: expected one number per draw"),
    ({"draws": {"mu": ZEROS[1:]}, "log_q": ZEROS[1:]}, "100 in each of 4 parts, got 399"),
    ({"draws": {"mu": ZEROS / 0}, "log_q": ZEROS}, "got 400 of 400 that are not"),
    ({"draws": {"mu": "a"}, "log_q": ZEROS}, "expected an array of numbers, got str"),
])  # fmt: skip
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        certify(story, {"x": X}, **options)


def test_a_class_and_a_subsampled_plate_are_refused():
    with pytest.raises(ValueError, match="expected the instance that was trained, got the class ByModule"):
        certify(ByModule, {"x": X}, guide=at(0.0, 1.0))

    def subsampled(x):
        mu = pyro.sample("mu", dist.Normal(0.0, PRIOR))
        with pyro.plate("row", len(x), subsample_size=2) as index:
            pyro.sample("x", dist.Normal(mu, NOISE), obs=x[index])

    with pytest.raises(ValueError, match="plate 'row': expected every row, got subsample_size=2"):
        certify(subsampled, {}, (X,), guide=at(0.0, 1.0))


def test_two_guides_of_one_name_in_the_store_are_told_apart():
    first = set_up(AutoNormal, observing, X, loc={"mu": torch.tensor(MEAN)})
    pyro.clear_param_store()
    set_up(AutoNormal, observing, X, loc={"mu": torch.tensor(0.0)})
    with pytest.raises(ValueError, match="parameter 'AutoNormal.locs.mu' has other values in Pyro's"):
        certify(observing, {}, (X,), guide=first)
    pyro.clear_param_store()
    assert certify(observing, {}, (X,), guide=first).certificate.khat is not None


# ---- draws


def gamma_story(n):
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("row", n):
        pyro.sample("k", dist.Poisson(rate))


K = torch.tensor([3.0, 1.0, 4.0, 2.0])
GAMMA = dist.Gamma(12.0, 5.0)
GAMMA_EVIDENCE = (
    dist.Gamma(2.0, 1.0).log_prob(torch.tensor(2.0)) + dist.Poisson(2.0).log_prob(K).sum()
    - GAMMA.log_prob(torch.tensor(2.0))
).item()  # fmt: skip


@pytest.mark.parametrize("proposal", [GAMMA, dist.LogNormal(0.85, 0.33), dist.Gamma(8.0, 3.4)])
def test_draws_of_a_positive_site_are_weighed_in_its_own_space(proposal):
    rate = proposal.sample((16000,))
    posterior = certify(gamma_story, {"k": K}, draws={"rate": rate}, log_q=proposal.log_prob(rate))
    is_exact(posterior, GAMMA_EVIDENCE, GAMMA.mean.item(), GAMMA.stddev.item(), "rate")
    assert posterior.certificate.guide == "given draws"
    assert posterior.draws["rate"].shape[0] == 4 and posterior.draws["rate"].shape[1] >= 500


def test_numpy_draws_in_batches_and_deterministic_sites():
    rate = GAMMA.sample((2, 3000))
    given = {"rate": rate.numpy(), "twice": 2 * rate.numpy()}

    def doubled(n):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        pyro.deterministic("twice", 2 * rate)
        with pyro.plate("row", n):
            pyro.sample("k", dist.Poisson(rate))

    posterior = certify(doubled, {"k": K}, draws=given, log_q=GAMMA.log_prob(rate).numpy())
    is_exact(posterior, GAMMA_EVIDENCE, GAMMA.mean.item(), GAMMA.stddev.item(), "rate")
    assert posterior.draws["rate"].shape == (2, 1500)
    assert torch.equal(posterior.draws["twice"], 2 * posterior.draws["rate"])


def test_a_simplex_and_a_scale_together():
    """Dirichlet-multinomial and gamma-Poisson: the evidence is the product of the two."""
    counts, prior = torch.tensor([0, 1, 1, 2, 2, 2]), torch.ones(3)

    def both(n):
        weights = pyro.sample("weights", dist.Dirichlet(prior))
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("row", n):
            pyro.sample("y", dist.Categorical(weights))
        with pyro.plate("other", 4):
            pyro.sample("k", dist.Poisson(rate))

    exact = dist.Dirichlet(prior + torch.tensor([1.0, 2.0, 3.0]))
    w, rate = exact.sample((4000,)), GAMMA.sample((4000,))
    log_q = exact.log_prob(w) + GAMMA.log_prob(rate)
    found = certify(both, {"y": counts, "k": K}, draws={"weights": w, "rate": rate}, log_q=log_q).certificate
    at_one = torch.tensor([0.2, 0.3, 0.5])
    evidence = (
        dist.Dirichlet(prior).log_prob(at_one) + dist.Categorical(at_one).log_prob(counts).sum()
        - exact.log_prob(at_one)
    ).item()  # fmt: skip
    assert found.log_evidence == pytest.approx(evidence + GAMMA_EVIDENCE, abs=1e-4)


def test_draws_with_a_wrong_density_or_too_narrow_are_refused():
    narrow = dist.Gamma(120.0, 50.0)
    rate = narrow.sample((8000,))
    assert not certify(
        gamma_story, {"k": K}, draws={"rate": rate}, log_q=narrow.log_prob(rate)
    ).certificate.trusted
    # the density of the logarithm, which is another one: flat weights in the wrong space
    rate = GAMMA.sample((8000,))
    wrong = certify(gamma_story, {"k": K}, draws={"rate": rate}, log_q=GAMMA.log_prob(rate) + 3 * rate)
    assert not wrong.certificate.trusted


def test_few_draws_are_said_and_draws_outside_have_no_weight():
    rate = GAMMA.sample((800,))
    notes = certify(gamma_story, {"k": K}, draws={"rate": rate}, log_q=GAMMA.log_prob(rate)).certificate.notes
    assert any("200 draws in each part are few: k-hat is held to 0.57" in note for note in notes)
    wide = dist.Normal(2.4, 1.0)
    rate = wide.sample((16000,))
    posterior = certify(gamma_story, {"k": K}, draws={"rate": rate}, log_q=wide.log_prob(rate))
    outside = int((rate <= 0).sum())
    assert outside > 0 and any(
        f"{outside} of 16000 draws lie outside" in n for n in posterior.certificate.notes
    )
    assert (
        abs(posterior.certificate.log_evidence - GAMMA_EVIDENCE)
        < 4 * posterior.certificate.log_evidence_stderr
    )
    assert bool((posterior.draws["rate"] > 0).all())


def test_the_same_seed_gives_the_same_draws():
    one, two, other = (certify(story, {"x": X}, guide=at(MEAN, 1.2), seed=s).draws["mu"] for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
