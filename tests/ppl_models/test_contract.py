"""What every story promises, checked on all that are found by scanning `ppl_models`."""

import ast
import importlib
import inspect
import pkgutil

import pyro
import pytest
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

import inference
import ppl_models
from inference.bijections import bijection
from inference.calls import Call
from inference.density import LogDensity
from inference.evidence import as_evidence
from inference.isolation import isolated
from inference.structure import inspect_story

MODULES = [
    importlib.import_module(f"ppl_models.{found.name}")
    for found in pkgutil.iter_modules(ppl_models.__path__)
    if not found.ispkg and not found.name.startswith("_")
]
NAMES = [module.__name__.rpartition(".")[2] for module in MODULES]


@pytest.fixture(params=MODULES, ids=NAMES, scope="module")
def module(request):
    return request.param


def story_of(module):
    return getattr(module, module.__name__.rpartition(".")[2])


def density_of(module):
    args, data = module.EXAMPLE
    structure, evidence = inspect_story(Call.bind(story_of(module), args), as_evidence(data))
    return LogDensity(structure, evidence)


def simulate(module, args, seed):
    """Every site of one run of the story, in float64."""
    call = Call.bind(story_of(module), args)
    with isolated(seed):
        trace = poutine.trace(call).get_trace()
    sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not site_is_subsample(s)}
    return {name: site["value"] for name, site in sites.items()}


def fewer_rows(module, rows):
    """The example's arguments for its first rows: `n`, and every tensor with a row for each of them."""
    args, data = module.EXAMPLE
    full = len(next(iter(data.values())))
    names = list(inspect.signature(story_of(module)).parameters)
    return tuple(
        rows if name == "n" else a[:rows] if torch.is_tensor(a) and len(a) == full else a
        for name, a in zip(names, args, strict=False)
    )


def test_stories_are_found():
    assert {"binomial_pixels", "gaussian_classes", "linear_regression"} <= set(NAMES)


def test_the_story_bears_the_name_of_its_module_and_says_where_it_comes_from(module):
    assert callable(story_of(module))
    for heading in ("Story", "Joint", "Shapes", "Priors", "Source"):
        assert f"\n{heading}" in module.__doc__, heading
    assert len(module.__doc__.splitlines()[0]) > 10


def test_the_example_holds_no_zero_and_no_one(module):
    """At 1 a precision passes for a standard deviation, and at 0 a sign for another."""
    args, data = module.EXAMPLE
    structure = density_of(module).structure
    labels = {n for n, s in structure.sites.items() if s.enumerable and s.fn.enumerate_support().shape[0] < 4}
    numbers = {f"args[{i}]": torch.as_tensor(a) for i, a in enumerate(args)}
    numbers |= {name: torch.as_tensor(v) for name, v in data.items() if name not in labels}
    assert [name for name, v in numbers.items() if bool(((v == 0) | (v == 1)).any())] == []


def test_the_story_observes_nothing_itself(module):
    args, _ = module.EXAMPLE
    with isolated(1):
        trace = poutine.trace(Call.bind(story_of(module), args)).get_trace()
    sites = [s for s in trace.nodes.values() if s["type"] == "sample" and not site_is_subsample(s)]
    assert [s["name"] for s in sites if s["is_observed"] and not s["infer"].get("_deterministic")] == []


def test_plates_say_their_dimension(module):
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(n, ast.Call)]
    plates = [c for c in calls if ast.unparse(c.func) in ("pyro.plate", "plate")]
    assert plates, "a story of rows has a data plate"
    assert [ast.unparse(c) for c in plates if "dim" not in {k.arg for k in c.keywords}] == []


def test_what_is_shared_by_rows_lies_outside_their_plate(module):
    """A parameter sampled inside the data plate by mistake is not pooled: its shape follows the rows."""
    args, data = module.EXAMPLE
    rows = 3
    few, all_rows = simulate(module, fewer_rows(module, rows), 2), simulate(module, args, 2)
    assert few.keys() == all_rows.keys()
    for name in few:
        if name in data:
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
            trace = poutine.trace(known).get_trace()
            total = trace.log_prob_sum()
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
    for name, draws in posterior.draws.items():
        transform = bijection(density_of(module).structure.sites[name].fn.support)
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
