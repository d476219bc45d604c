"""Tapes: recorded, shortened, batched for any number of draws, kept for the next fit; the numbers stay."""

import subprocess
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.compiler.any_size import UnlikeError, any_size
from inference.compiler.batched_function import simplified
from inference.compiler.codegen import compiled
from inference.compiler.recording import RandomStoryError, record
from inference.compiler.simplify import simplify
from inference.density.log_density import LogDensity
from inference.density.traced import Kept
from inference.runtime.isolation import isolated
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations

DOUBLE = {"dtype": torch.float64}
ROWS = torch.tensor([3.0, -1.5, 4.0, 8.0, 2.5], **DOUBLE)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def draws(count, size, seed=1):
    return torch.randn(count, size, generator=generator(seed), **DOUBLE)


FUNCTIONS = {
    "signs": lambda z, a: -((-(z**2) / (2 * a**2) - a.log()) * 3.0).sum(),
    "offsets": lambda z, a: torch.stack(
        [z[0] - 2.0, 3.0 - z[1], (1.5 - a[0]) + z[2], a.sum() - z.sum()]
    ).sum(),
    "shared": lambda z, a: ((a[:, None].expand(5, 7) - z[:3].sum()) / z.exp().sum()).sum(),
    "expanded": lambda z, a: (z[:, None].expand(5, 6).exp().log1p() * 2.0 - z.sum()).sum(-1).square().mean(),
    "zeros": lambda z, a: (
        (torch.zeros_like(z) + z * torch.ones_like(z)).sum() + torch.full_like(a, 2.0).sum()
    ),
    "masked": lambda z, a: (
        torch.where(z.exp() < 0, z - 7.0, z).masked_fill(z.abs() < 0, 3.0) * (z > 0.1)
    ).sum(),
    "matrix": lambda z, a: (
        torch.linalg.cholesky(torch.eye(5, **DOUBLE) * 3 + z.outer(z)).diagonal().log().sum()
    ),
    "indexed": lambda z, a: z[torch.tensor([0, 2, 2, 4])].sigmoid().cumsum(0)[-1] + torch.logsumexp(z * a, 0),
    "same": lambda z, a: (z + 1).exp().sum() + (z + 1).exp().sum() - ((z * 1.0 + 0.0) ** 1).sum(),
    "detached": lambda z, a: (z.detach() * z).sum(),
    "negative": lambda z, a: (-z * -a / -z.exp() - (-(a - z))).sum() + (-z).sum() * -2.0,
    "large and small": lambda z, a: (
        -((z[:, None] * a * -2.0) * -z.sum().exp() * 3.0 / -(z[:1].exp() * 0.5)).sum()
    ),
    "counts": lambda z, a: (z.sum() * torch.arange(1, 4).lgamma()).sum() + torch.arange(3).add(0.1).sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_the_function(name):
    function, a = FUNCTIONS[name], draws(1, 5, 2)[0].abs() + 0.5
    with isolated(0):
        bound = simplified(record(function, draws(1, 5)[0], a).tape).bind([a])
    assert bound.points.part("gradient", False, [a]).recorded
    for count in (1, 3, 11):
        z = draws(count, 5, count)
        (value,), (again, grad) = bound.value(z), bound.gradient(z)
        for i, row in enumerate(z):
            point = row.clone().requires_grad_()
            with isolated(0), torch.enable_grad():
                expected = function(point, a)
            (slope,) = torch.autograd.grad(expected, point)
            torch.testing.assert_close(value[i], expected.detach(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(grad[i], slope, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(again, value)


def test_a_tape_is_a_function_of_its_inputs():
    function = FUNCTIONS["signs"]
    z, a, other = draws(1, 5)[0], torch.ones(5, **DOUBLE), draws(1, 5, 3)[0].abs() + 1
    points = simplified(record(function, z, a).tape)
    torch.testing.assert_close(points.bind([other]).value(z[None])[0][0], function(z, other))


def test_what_does_not_depend_on_the_point_is_computed_once():
    tape = record(lambda z, a: ((z / (a.exp() + a.log())) ** 2).sum(), torch.ones(3), torch.ones(3)).tape
    points = simplified(tape)
    part = points.part("gradient", False, [torch.ones(3)])
    source = part.run.__code__.co_names
    assert "exp" not in source and "log" not in source


def test_equal_work_is_done_once_and_vain_work_not_at_all():
    def function(x):
        torch.lgamma(x)
        return (x.exp() + 1.0).sum() * (x.exp() + 1.0).sum() + (x.clone().view(3).expand(3) * 1.0 + 0.0).sum()

    names = [str(op.target) for op in simplify(record(function, torch.ones(3, **DOUBLE)).tape).ops]
    assert names.count("aten.exp.default") == 1 and "aten.lgamma.default" not in names
    assert not {"aten.clone.default", "aten.view.default", "aten.expand.default"} & set(names)


def test_quick_spelling_computes_the_same():
    tape = record(FUNCTIONS["expanded"], draws(1, 5)[0], ROWS).tape
    for quick in (True, False):
        found = compiled(tape, quick=quick)(draws(1, 5, 4)[0], ROWS)[0]
        torch.testing.assert_close(found, FUNCTIONS["expanded"](draws(1, 5, 4)[0], ROWS))


def test_runs_that_differ_in_more_than_sizes_are_not_joined():
    def loops(x):
        return (torch.stack([row.sum() for row in x]),)

    with pytest.raises(UnlikeError):
        any_size(loops, lambda n: (torch.ones(n, 3),), (0,))


def test_random_numbers_are_not_recorded():
    with pytest.raises(RandomStoryError, match="random numbers"):
        record(lambda x: x + torch.randn(2), torch.ones(2))


def test_what_was_read_out_of_an_input_is_told():
    def function(z, a, b):
        return z.sum() * float(a.max()) + b.sum()

    recording = record(function, torch.ones(2), torch.ones(2), torch.ones(2))
    assert recording.read == {1}


def normal(n, shift=0.0):
    mu = pyro.sample("mu", dist.Normal(torch.as_tensor(shift).double(), 2.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(3.0))
    with pyro.plate("row", n):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(mu + sigma * eta, 1.5))


def density(story, data, args=(), kwargs=None):
    structure, observations = inspect_rows(Call.bind(story, args, kwargs), as_observations(data))
    return LogDensity(structure, observations)


def agrees(found):
    z = draws(3, found.size)
    value, grad = found.value_and_grad(z)
    expected, slope = found._looped_gradient(z)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(grad, slope, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.log_prob(z), expected, rtol=1e-10, atol=1e-10)


def test_the_next_fit_takes_up_what_was_traced():
    first = density(normal, {"x": ROWS}, kwargs={"shift": torch.tensor(0.5)})
    assert "trace" in first.seconds
    second = density(normal, {"x": ROWS * 3 - 1}, kwargs={"shift": torch.tensor(-2.5)})
    assert "recall" in second.seconds and second.traced
    longer = density(normal, {"x": torch.cat([ROWS, ROWS])}, kwargs={"shift": torch.tensor(0.5)})
    assert "trace" in longer.seconds
    for one in (first, second, longer):
        agrees(one)


def test_a_story_whose_surroundings_changed_is_traced_anew():
    around = {"scale": torch.tensor(2.0)}

    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.StudentT(4.0, mu, around["scale"]))

    agrees(density(story, {"x": ROWS}))
    assert "recall" in density(story, {"x": ROWS}).seconds
    around["scale"] = torch.tensor(3.0)
    changed = density(story, {"x": ROWS})
    assert "trace" in changed.seconds and changed.traced
    agrees(changed)


def test_a_number_put_under_a_mask_and_a_label_of_one_kind_are_traced():
    """torch's multinomial puts zeros under a mask; a category of one is summed out by itself."""

    def story(n):
        share = pyro.sample("share", dist.Dirichlet(torch.tensor([2.0, 3.0, 1.5])))
        pyro.sample("x", dist.Multinomial(9, share))
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0).expand([1]).to_event(1))
        with pyro.plate("row", n):
            label = pyro.sample("label", dist.Categorical(torch.ones(1)))
            pyro.sample("y", dist.Normal(mean[label], 1.5))

    found = density(story, {"x": torch.tensor([4.0, 0.0, 5.0]), "y": ROWS})
    assert found.traced, found.note
    agrees(found)


def test_what_is_kept_is_bounded_and_keeps_no_story_alive():
    kept = Kept(most=2)
    stories = [lambda: None for _ in range(3)]
    for i, story in enumerate(stories):
        kept.put(story, "key", i)
    assert [kept.get(story, "key") for story in stories] == [None, 1, 2]
    del story, stories[2]
    assert len(kept._entries) == 1


def test_densities_need_none_of_torchs_compiler():
    """Its import takes more than a second."""
    code = """
import sys, torch, pyro, pyro.distributions as dist
from inference.story.call import Call
from inference.density.log_density import LogDensity
from inference.story.observations import as_observations
from inference.story.inspection import inspect_rows
def story(n):
    mu = pyro.sample("mu", dist.Uniform(-3.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(2.0))
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("row", n):
        pyro.sample("x", dist.Normal(mu, tau))
structure, observations = inspect_rows(Call.bind(story), as_observations({"x": torch.randn(5)}))
density = LogDensity(structure, observations)
density.value_and_grad(torch.zeros(9, density.size, dtype=torch.float64))
density.constrain(torch.zeros(9, density.size, dtype=torch.float64))
assert density.traced, density.note
print(sorted({"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr + done.stdout
