"""Nothing global changes, whatever happens; the same seed gives the same draws."""

import random
import threading
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, load, prior
from ppl_models.binomial_pixels import EXAMPLE, binomial_pixels

QUICK = {"restarts": 1, "draws": 60}
X = torch.tensor([3.0, 5.0, 4.0])


def story(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    tau = pyro.sample("tau", dist.HalfNormal(5.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, tau))


def state():
    return {
        "parameter store": {k: v.tolist() for k, v in pyro.get_param_store().items()},
        "torch random state": torch.random.get_rng_state().tolist(),
        "numpy random state": repr(np.random.get_state()),
        "python random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "torch validation": torch.distributions.Distribution._validate_args,
        "pyro validation": pyro.settings.get("validate_distributions_pyro"),
        "pyro settings": pyro.settings.get(),
        "warnings filters": list(warnings.filters),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "torch function modes": torch._C._len_torch_function_stack(),
        "pyro handlers": len(pyro.poutine.runtime._PYRO_STACK),
    }


@pytest.fixture(scope="module", autouse=True)
def libraries(tmp_path_factory):
    """Some add a warnings filter when they are first imported, which is not what is tested here."""
    posterior = fit(story, {"x": X}, restarts=1, draws=50)
    posterior.to_arviz(predictive=2)
    path = tmp_path_factory.mktemp("posterior") / "saved"
    posterior.save(path)
    load(path, story)


@pytest.fixture
def user():
    """A user's process: parameters of their own, another seed, validation switched on, two threads."""
    store, threads = pyro.get_param_store(), torch.get_num_threads()
    with torch.random.fork_rng(), pyro.validation_enabled(True), store.scope():
        torch.manual_seed(12345)
        torch.set_num_threads(2)
        pyro.param("mu", torch.tensor([2.5, 3.5]))
        yield state()
        torch.set_num_threads(threads)


def same(before):
    after = state()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}


def test_fitting_and_asking_change_nothing(user, tmp_path):
    posterior = fit(story, {"x": X}, seed=1, **QUICK)
    same(user)
    posterior.sample("x", num_samples=3)
    posterior.sample("x", given={"x": np.ma.masked_array(X.numpy(), [1, 0, 0])})
    posterior.log_prob({"x": X})
    posterior.to_arviz(predictive=3)
    posterior.save(tmp_path / "posterior")
    load(tmp_path / "posterior", story).log_prob({"x": X})
    prior(story, (3,), draws=20).sample("x")
    same(user)


def test_discrete_questions_change_nothing(user):
    posterior = fit(binomial_pixels, EXAMPLE[1], EXAMPLE[0], **QUICK)
    posterior.probabilities("y", given={"x": EXAMPLE[1]["x"]})
    posterior.sample("x", given={"y": EXAMPLE[1]["y"]}, num_samples=2)
    same(user)


def raises(n):
    pyro.param("scale", torch.ones(2))
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    raise KeyError("from inside the story")


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: fit(story, {"x": X * torch.nan}),
        lambda: fit(story, {"x": X, "z": X}),
        lambda: fit(raises, {"x": X}),
        lambda: fit(story, {"x": X[:, None]}),
        lambda: fit(story, {"x": X}, guide="magic"),
        lambda: fit(story, {}, (3,)),
        lambda: prior(raises, (3,)).sample("x"),
    ],
)
def test_failing_changes_nothing(user, attempt):
    with pytest.raises((ValueError, KeyError)):
        attempt()
    same(user)


def test_two_fits_leave_each_other():
    """The guide of the first, its draws and its answers, after another of the same site names."""
    first = fit(story, {"x": X}, seed=1, **QUICK)
    x = torch.tensor([4.0])
    draws, answer = {n: v.clone() for n, v in first.draws.items()}, first.log_prob({"x": x})

    def guided():
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return first.guide(3)["mu"].clone()

    guess = guided()
    second = fit(story, {"x": X - 100.0}, seed=1, **QUICK)
    assert second.draws["mu"].mean() < -20
    assert all((first.draws[n] == draws[n]).all() for n in draws)
    assert first.log_prob({"x": x}) == answer
    assert guided() == guess
    again = fit(story, {"x": X}, seed=1, **QUICK)
    assert all((again.draws[n] == draws[n]).all() for n in draws)


def test_seeds():
    one, same_seed, other = (
        fit(story, {"x": X}, restarts=2, draws=60, seed=s).draws["mu"] for s in (1, 1, 2)
    )
    assert (one == same_seed).all()
    assert not torch.isin(one, other).any()
    assert not torch.isin(one[0], one[1]).any(), "restarts are independent"
    first, second = (prior(story, (3,), draws=20, seed=s).draws["mu"] for s in (1, 2))
    assert not torch.isin(first, second).any()


def test_the_random_state_outside_does_not_matter():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = fit(story, {"x": X}, **QUICK)
        torch.manual_seed(2)
        two = fit(story, {"x": X}, **QUICK)
        assert (one.draws["mu"] == two.draws["mu"]).all()
        assert (one.sample("x") == two.sample("x")).all()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inside_a_block_without_gradients(context):
    with context():
        draws = fit(story, {"x": X}, seed=1, **QUICK).draws["mu"].clone()
    torch.testing.assert_close(draws, fit(story, {"x": X}, seed=1, **QUICK).draws["mu"])


def test_inside_a_users_handlers():
    """A condition, a scale or a trace around a fit is none of the story's business."""
    expected = fit(story, {"x": X}, seed=1, **QUICK).draws["mu"]
    handlers = pyro.poutine
    with (
        handlers.trace() as tracer,
        handlers.condition(data={"mu": torch.tensor(3.0)}),
        handlers.scale(scale=9.0),
    ):
        found = fit(story, {"x": X}, seed=1, **QUICK).draws["mu"]
    assert set(tracer.trace.nodes) <= {"_INPUT", "_RETURN"}
    torch.testing.assert_close(found, expected)


def test_with_double_precision_as_the_default():
    expected = fit(story, {"x": X}, seed=1, **QUICK)
    torch.set_default_dtype(torch.float64)
    try:
        found = fit(story, {"x": X}, seed=1, **QUICK)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found.draws["mu"], expected.draws["mu"])


def test_fits_in_threads_are_those_of_one_thread():
    data = [X, X + 50.0, X - 50.0]
    expected = [fit(story, {"x": x}, seed=1, **QUICK).draws["mu"] for x in data]
    found: dict = {}

    def run(i):
        found[i] = fit(story, {"x": data[i]}, seed=1, **QUICK).draws["mu"]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, draws in enumerate(expected):
        assert (found[i] == draws).all()
