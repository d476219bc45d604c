"""Closed-form posteriors against their own joint densities, for every story that has one.

Where a story's posterior is known only given some of its sites, the module names them in `GIVEN`.
"""

import functools
import importlib
import itertools
import pkgutil

import pytest
import torch
from pyro import poutine

import ppl_models
from inference.runtime.isolation import isolated
from inference.story.call import Call

MODULES = [
    module
    for found in pkgutil.iter_modules(ppl_models.__path__)
    if hasattr(module := importlib.import_module(f"ppl_models.{found.name}"), "exact")
]


@pytest.fixture(params=MODULES, ids=[m.__name__.rpartition(".")[2] for m in MODULES], scope="module")
def module(request):
    return request.param


@functools.cache
def held_fixed(module):
    """Values, from the prior, of the sites without which the rest has no closed form (`GIVEN`)."""
    args, _ = module.EXAMPLE
    names = getattr(module, "GIVEN", ())
    with isolated(7):
        trace = poutine.trace(
            Call.bind(getattr(module, module.__name__.rpartition(".")[2]), args)
        ).get_trace()
    return {name: trace.nodes[name]["value"] for name in names}


def exact(module, given=None):
    args, data = module.EXAMPLE
    with isolated():
        return module.exact(data, *args, given={**held_fixed(module), **(given or {})})


def log_joint(module, theta):
    args, data = module.EXAMPLE
    story = getattr(module, module.__name__.rpartition(".")[2])
    with isolated(0):
        known = poutine.condition(Call.bind(story, args), {**data, **held_fixed(module), **theta})
        return poutine.trace(known).get_trace().log_prob_sum()


def draw(module, seed, order=None):
    """A draw of all latent sites, each given those before it; and its log density."""
    theta, log_q = {}, 0.0
    for name in order or exact(module):
        conditional = exact(module, theta)[name]
        with isolated(seed):
            theta[name] = conditional.sample()
        log_q = log_q + conditional.log_prob(theta[name]).sum()
    return theta, log_q


def test_bayes_rule_holds(module):
    """log p(x, theta) - log q(theta | x) is log p(x), whatever theta, in whatever order it was drawn."""
    orders = list(itertools.permutations(exact(module)))
    draws = [draw(module, seed, orders[seed % len(orders)]) for seed in range(24)]
    gaps = torch.stack([log_joint(module, theta) - log_q for theta, log_q in draws])
    assert gaps.dtype == torch.float64
    torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-9, atol=1e-9)


def test_a_given_site_is_left_out(module):
    names = list(exact(module))
    theta, _ = draw(module, 0)
    for name in names:
        assert list(exact(module, {name: theta[name]})) == [n for n in names if n != name]


def test_marginals_are_averages_of_conditionals(module):
    """q(b | x) = E[q(b | a, x)] over a ~ q(a | x), within 4 Monte Carlo errors at 2 values of b."""
    names = list(exact(module))
    draws = [draw(module, seed)[0] for seed in range(100)]
    for position, name in enumerate(names[1:], start=1):
        marginal = exact(module)[name]
        for value in (draws[i][name] for i in (0, 1)):
            terms = []
            for theta in draws[2:]:
                given = {n: theta[n] for n in names[:position]}
                terms.append(exact(module, given)[name].log_prob(value))
            log_p = torch.stack(terms)  # (draws, *batch): each batch element is a separate statement
            mean = log_p.exp().mean(0)
            error = log_p.exp().std(0) / len(terms) ** 0.5
            gap = (mean - marginal.log_prob(value).exp()).abs()
            assert (gap <= 4 * error + 1e-9 * mean).all(), name
