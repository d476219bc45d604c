"""What every story with networks promises beside the contract of all stories."""

import importlib
import inspect
import pkgutil
from functools import partial

import pyro
import pytest
import torch
from pyro import poutine

import inference
import ppl_models

MODULES = {}
for found in pkgutil.iter_modules(ppl_models.__path__):
    module = importlib.import_module(f"ppl_models.{found.name}")
    if inspect.isclass(getattr(module, found.name, None)):
        MODULES[found.name] = module
LIKELIHOOD = [name for name, module in MODULES.items() if not hasattr(module, "loss")]


@pytest.fixture(params=MODULES)
def name(request):
    return request.param


def made(name, seed=0, **sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(MODULES[name], name)(**sizes)


def loss_of(name):
    """The loss beside a story without a likelihood: a function, or a class of adversaries."""
    loss = getattr(MODULES[name], "loss", None)
    if not inspect.isclass(loss):
        return loss
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return loss()


def fitted(name, seed=0, steps=12, **options):
    args, data = MODULES[name].EXAMPLE
    story = getattr(MODULES[name], name)
    return inference.fit(
        story, data, args, loss=loss_of(name), steps=steps, restarts=1, draws=10, seed=seed, **options
    )


def elbo(name, story, guide):
    """One draw of the evidence lower bound on the example, in nats."""
    args, data = MODULES[name].EXAMPLE
    data = {n: v.float() if v.is_floating_point() else v for n, v in data.items()}
    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope(), pyro.validation_enabled(True):
        torch.manual_seed(2)
        way = poutine.trace(guide).get_trace(*args, data=data) if guide is not None else poutine.Trace()
        told = poutine.trace(poutine.replay(poutine.condition(story, data), way)).get_trace(*args)
        return told.log_prob_sum() - way.log_prob_sum()


@pytest.mark.parametrize("name", LIKELIHOOD)
def test_the_bound_is_finite_and_reaches_every_parameter_of_story_and_guide(name):
    """In plain Pyro, with validation on, without help from `inference`."""
    story = made(name)
    beside = getattr(MODULES[name], "guide", None)
    guide = beside(story) if beside is not None else None
    value = elbo(name, story, guide)
    assert torch.isfinite(value)
    value.backward()
    parts = [("story", story)] + ([("guide", guide)] if guide is not None else [])
    for part, module in parts:
        for parameter, tensor in module.named_parameters():
            assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), f"{part} {parameter}"


def test_a_fit_leaves_the_class_alone_generates_and_weighs(name):
    data = MODULES[name].EXAMPLE[1]
    posterior = fitted(name)
    drawn = posterior.sample("x", args=(7,), seed=3)
    assert drawn.shape == (7, *data["x"].shape[1:]) and torch.isfinite(drawn).all()
    if name in LIKELIHOOD:
        log_p = posterior.log_prob({"x": data["x"]})
        assert log_p.shape == (len(data["x"]),) and torch.isfinite(log_p).all()
    else:
        assert not posterior.certificate.trusted
        with pytest.raises(ValueError, match="likelihood"):
            posterior.log_prob({"x": data["x"]})


def test_the_same_seed_gives_the_same_story(name):
    first, second = (fitted(name, seed=4, steps=3).sample("x", args=(5,)) for _ in range(2))
    assert torch.equal(first, second)


def test_an_instance_of_ones_own_is_not_changed(name):
    args, data = MODULES[name].EXAMPLE
    story = made(name)
    before = {n: v.clone() for n, v in story.state_dict().items()}
    inference.fit(story, data, args, loss=loss_of(name), steps=3, restarts=1, draws=5)
    assert all(torch.equal(v, before[n]) for n, v in story.state_dict().items())


def test_it_can_be_told_with_labels(name):
    """With classes it samples y too, and x given y has the shape it has without."""
    story = getattr(MODULES[name], name)
    if "classes" not in inspect.signature(story).parameters:
        pytest.skip(f"{name} has no labelled version")
    labelled = partial(story, classes=3)
    unfitted = inference.prior(labelled, draws=10, seed=5)
    y = unfitted.sample("y", args=(50,))
    assert y.shape == (50,) and set(y.tolist()) == {0, 1, 2}
    x = unfitted.sample("x", given={"y": torch.tensor([2, 0, 1, 1])})
    assert x.shape == (4, *MODULES[name].EXAMPLE[1]["x"].shape[1:])
