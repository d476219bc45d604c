"""What every story promises, checked on all that are found by scanning `ppl_models`."""

import ast
import importlib
import inspect
import pkgutil
import re

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.poutine.util import site_is_subsample

import inference
import ppl_models
from inference.density.log_density import LogDensity
from inference.runtime.isolation import isolated
from inference.story.bijections import bijection
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import as_observations

MODULES = [
    importlib.import_module(f"ppl_models.{found.name}")
    for found in pkgutil.iter_modules(ppl_models.__path__)
    if not found.ispkg and not found.name.startswith("_")
]
NAMES = [module.__name__.rpartition(".")[2] for module in MODULES]


def written(module):
    """The story as it stands in its file: a function, or a class that holds networks."""
    return getattr(module, module.__name__.rpartition(".")[2])


# Stories with networks are checked further in test_contract_deep.py.
DESIGNED = [module for module in MODULES if not inspect.isclass(written(module))]


@pytest.fixture(params=DESIGNED, ids=[m.__name__.rpartition(".")[2] for m in DESIGNED], scope="module")
def module(request):
    return request.param


@pytest.fixture(params=MODULES, ids=NAMES, scope="module")
def any_module(request):
    return request.param


def story_of(module):
    story = written(module)
    if not inspect.isclass(story):
        return story
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return story()


def structure_of(module):
    args, data = module.EXAMPLE
    structure, _ = inspect_story(Call.bind(story_of(module), args), as_observations(data))
    return structure


def density_of(module):
    args, data = module.EXAMPLE
    structure, observations = inspect_story(Call.bind(story_of(module), args), as_observations(data))
    return LogDensity(structure, observations)


def simulate(module, args, seed):
    """Every site of one run of the story, in its own dtype (float64 without networks)."""
    call = Call.bind(story_of(module), args)
    with call.room(seed), pyro.get_param_store().scope():
        trace = poutine.trace(call).get_trace()
    sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not site_is_subsample(s)}
    return {name: site["value"] for name, site in sites.items()}


def fewer_rows(module, rows):
    """The example's arguments for its first rows: `n`, and every tensor with a row for each of them."""
    args, data = module.EXAMPLE
    full = len(next(iter(data.values())))
    story = story_of(module)
    names = list(inspect.signature(getattr(story, "forward", story)).parameters)
    return tuple(
        rows if name == "n" else a[:rows] if torch.is_tensor(a) and len(a) == full else a
        for name, a in zip(names, args, strict=False)
    )


def test_stories_are_found():
    assert {"binomial_pixels", "gaussian_classes", "linear_regression"} <= set(NAMES)


def test_the_story_bears_the_name_of_its_module_and_says_where_it_comes_from(any_module):
    assert callable(story_of(any_module))
    for heading in ("Story", "Joint", "Shapes", "Priors", "Answers", "Source"):
        assert f"\n{heading}" in any_module.__doc__, heading
    assert len(any_module.__doc__.splitlines()[0]) > 10


def test_the_answers_name_sites_of_the_story(any_module):
    """`p(y | x): invert` speaks of what the story samples, computes or is called with."""
    answers = any_module.__doc__.partition("\nAnswers")[2].partition("\nSource")[0]
    asked = re.findall(r"^    (not )?p\(([^)]*)\)", answers, flags=re.MULTILINE)
    assert [what for negated, what in asked if not negated], "at least one question is answered"
    story = story_of(any_module)
    known = set(structure_of(any_module).sites) | {"theta", "data"}
    known |= set(inspect.signature(getattr(story, "forward", story)).parameters)
    known |= set(inspect.signature(written(any_module)).parameters) | {"y"}
    for negated, what in asked:
        names = {re.sub(r"_[ijt].*|\[.*|'", "", n) for n in re.split(r"[\s,|∣]+", what) if n}
        assert negated or names <= known, names - known


def test_the_example_holds_no_zero_and_no_one(any_module):
    """At 1 a precision passes for a standard deviation, and at 0 a sign for another."""
    args, data = any_module.EXAMPLE
    structure = structure_of(any_module)
    labels = {n for n, s in structure.sites.items() if s.enumerable and s.fn.enumerate_support().shape[0] < 4}
    numbers = {f"args[{i}]": torch.as_tensor(a) for i, a in enumerate(args)}
    numbers |= {name: torch.as_tensor(v) for name, v in data.items() if name not in labels}
    assert [name for name, v in numbers.items() if bool(((v == 0) | (v == 1)).any())] == []


def test_the_story_observes_nothing_itself(any_module):
    args, _ = any_module.EXAMPLE
    call = Call.bind(story_of(any_module), args)
    with call.room(1), pyro.get_param_store().scope():
        trace = poutine.trace(call).get_trace()
    sites = [s for s in trace.nodes.values() if s["type"] == "sample" and not site_is_subsample(s)]
    assert [s["name"] for s in sites if s["is_observed"] and not s["infer"].get("_deterministic")] == []


def test_plates_say_their_dimension(any_module):
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(any_module))) if isinstance(n, ast.Call)]
    plates = [c for c in calls if ast.unparse(c.func) in ("pyro.plate", "plate")]
    assert plates, "a story of rows has a data plate"
    assert [ast.unparse(c) for c in plates if "dim" not in {k.arg for k in c.keywords}] == []


def is_local(module, name):
    """Whether the docstring's Shapes declare a site of rows: `z (n, factors)`."""
    shapes = module.__doc__.partition("\nShapes")[2].partition("\nPriors")[0]
    return re.search(rf"\b{name} \(n\b", shapes) is not None


def test_what_is_shared_by_rows_lies_outside_their_plate(any_module):
    """A parameter sampled inside the data plate by mistake is not pooled: its shape follows the rows."""
    args, data = any_module.EXAMPLE
    rows = 3
    few, all_rows = simulate(any_module, fewer_rows(any_module, rows), 2), simulate(any_module, args, 2)
    assert few.keys() == all_rows.keys()
    for name in few:
        if name in data or is_local(any_module, name):
            assert few[name].shape == (rows, *all_rows[name].shape[1:]), name
        else:
            assert few[name].shape == all_rows[name].shape, name


def test_density_and_gradient_are_finite(module):
    density = density_of(module)
    z = 1.5 * torch.randn(8, density.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    value, gradient = density.value_and_grad(z)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    step = 1e-6 * torch.ones_like(z)
    slope = (density.log_prob(z + step) - density.log_prob(z - step)) / 2e-6
    torch.testing.assert_close(gradient.sum(-1), slope, rtol=1e-4, atol=1e-4)


def summed_out(known, density):
    """Pyro's own enumeration of the discrete sites that were not seen."""
    elbo = TraceEnum_ELBO(max_plate_nesting=density.structure.nesting)
    return torch.tensor(-elbo.loss(config_enumerate(known), lambda: None))


def test_the_traced_graph_is_what_plain_pyro_says(module):
    density = density_of(module)
    assert density.traced, density.note
    z = torch.randn(3, density.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    draws, (args, data) = density.constrain(z), module.EXAMPLE
    expected = []
    for i in range(len(z)):
        values = {name: draws[name][i] for name in density.names}
        with isolated(0):
            known = poutine.condition(Call.bind(story_of(module), args), {**data, **values})
            known = poutine.block(known, hide=list(density.plan.dropped))
            trace = poutine.trace(known).get_trace()
            total = summed_out(known, density) if density.plan.summed else trace.log_prob_sum()
            for name, value in values.items():
                transform = bijection(trace.nodes[name]["fn"].support)
                total = total + transform.log_abs_det_jacobian(transform.inv(value), value).sum()
        expected.append(total)
    torch.testing.assert_close(density.log_prob(z), torch.stack(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", [11, 12])
def test_simulate_fit_recover(module, seed):
    """The true values lie within 4.5 standard deviations, on the unconstrained scale, or the fit is refused.

    Drawn from the prior, they are draws of the posterior: each coordinate exceeds 4.5 with chance 1e-5.
    """
    args, data = module.EXAMPLE
    truth = simulate(module, args, seed)
    seen = {name: truth[name] for name in data}
    posterior = inference.fit(story_of(module), seen, args, restarts=2, draws=500, seed=seed)
    if not posterior.certificate.trusted:
        assert posterior.certificate.reasons
        return
    sites = density_of(module).structure.sample_sites  # what follows from them needs no check of its own
    for name, draws in posterior.draws.items():
        if (
            name not in sites or sites[name].discrete
        ):  # what was dropped, and drawn afterwards, has no such scale
            continue
        transform = bijection(sites[name].fn.support)
        z = transform.inv(draws.flatten(0, 1))
        score = (transform.inv(truth[name]) - z.mean(0)) / z.std(0)
        assert score.abs().max() < 4.5, name


@pytest.mark.filterwarnings("ignore:Singular sample")  # torch's Wishart: its check is inverted
def test_the_story_runs_in_plain_pyro(module):
    """No help from `inference`: default dtype, validation on."""
    args, data = module.EXAMPLE
    args = tuple(a.float() if torch.is_tensor(a) and a.is_floating_point() else a for a in args)
    with torch.random.fork_rng(), pyro.validation_enabled(True):
        torch.manual_seed(5)
        trace = poutine.trace(story_of(module)).get_trace(*args)
    assert all(trace.nodes[name]["value"].shape == data[name].shape for name in data)
    assert torch.isfinite(trace.log_prob_sum())
