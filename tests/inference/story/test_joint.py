"""Discrete sites whose rows a story mixes: found in every spelling, summed out jointly or refused."""

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex

from inference import fit
from inference.density.log_density import LogDensity
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations
from inference.story.plan import plan

X = torch.tensor([0.0, 1.0, 2.0, 1.5])
LOCS = torch.tensor([-1.0, 0.5, 2.0]).double()
W = torch.tensor(
    [[0.5, -1.0, 2.0, 0.3], [1.0, 0.2, 0.1, -0.4], [0.0, 1.5, 0.7, 0.6], [-0.2, 0.4, 1.0, 1.1]]
).double()


def density(story, data=None, args=()):
    data = {"x": X} if data is None else data
    return LogDensity(*inspect_rows(Call.bind(story, args), as_observations(data)))


def by_hand(found, z, open_sites, data):
    """Log joint at a point, discrete sites (site -> values) summed over all assignments, by plain Pyro."""
    with torch.no_grad():
        sites = found.constrain(z[None])
    known = {n: v[0] for n, v in sites.items() if n in found.plan.unknown}
    terms = []
    names, shapes = list(open_sites), [found.structure.sites[n].shape for n in open_sites]
    axes = [open_sites[n] for n, s in zip(names, shapes, strict=True) for _ in range(s.numel())]
    for values in itertools.product(*axes):
        parts = torch.tensor(values, dtype=torch.float64).split([s.numel() for s in shapes])
        assigned = {
            n: p.reshape(s).to(found.structure.sites[n].value.dtype)
            for n, p, s in zip(names, parts, shapes, strict=True)
        }
        with found.structure.call.room(0):
            run = poutine.trace(
                poutine.condition(found.structure.call.__call__, {**data, **known, **assigned})
            ).get_trace()
            terms.append(run.log_prob_sum())
    log_det = sum(
        torch.distributions.biject_to(found.structure.sites[n].fn.support).log_abs_det_jacobian(
            z[found.slots[n].start : found.slots[n].stop].reshape(found.slots[n].shape), known[n]
        ).sum()
        for n in known
    )  # fmt: skip
    return torch.stack([torch.as_tensor(t).double() for t in terms]).logsumexp(0) + log_det


def of_rows(compute, prior_of=lambda a: dist.Bernoulli(a), count=4):
    """A story of rows with one discrete site, from which ``compute`` makes the distribution of x."""

    def story():
        a = pyro.sample("a", dist.Beta(2.0, 2.0))
        with pyro.plate("row", count):
            b = pyro.sample("b", prior_of(a))
            pyro.sample("x", compute(b))

    return story


def normal(loc):
    return lambda b: dist.Normal(loc(b), 0.5)


def each_of(b):
    """Rows one by one, in Python."""
    total = 0.0
    for v in b:
        total = total + v
    return b - total


MIXING = {
    "mean": lambda b: b - b.mean(),
    "mean over -1": lambda b: b - b.mean(-1, keepdim=True),
    "sum": lambda b: b * b.sum(),
    "of a function": lambda b: b + (b * 2.0).mean(),
    "max": lambda b: b + b.max(),
    "min": lambda b: b + b.min(),
    "amax": lambda b: b + b.amax(-1),
    "any": lambda b: b + b.bool().any(),
    "all": lambda b: b + b.bool().all(),
    "prod": lambda b: b + b.prod(),
    "count_nonzero": lambda b: b + b.count_nonzero(),
    "sort": lambda b: b.sort().values,
    "argsort": lambda b: b.argsort(stable=True).double(),
    "cumsum": lambda b: b.cumsum(-1),
    "cumprod": lambda b: (b + 1).cumprod(0),
    "roll": lambda b: b.roll(1),
    "flip": lambda b: b.flip(-1),
    "first": lambda b: b + b[0],
    "last": lambda b: b + b[..., -1:],
    "shifted": lambda b: torch.cat([b[1:], b[:1]]),
    "permuted": lambda b: b[torch.tensor([2, 0, 3, 1])],
    "index_select": lambda b: b.index_select(-1, torch.tensor([1, 0, 3, 2])),
    "unique": lambda b: b + len(b.unique()),
    "nonzero": lambda b: b + len(b.nonzero()),
    "masked": lambda b: b + torch.ones(4)[b == 1].sum(),
    "median": lambda b: b + b.median(),
    "quantile": lambda b: b + b.double().quantile(0.6),
    "softmax": lambda b: 4.0 * b.softmax(-1),
    "logsumexp": lambda b: b - b.logsumexp(-1),
    "matrix": lambda b: W @ b,
    "einsum": lambda b: torch.einsum("ij,j->i", W, b),
    "inner": lambda b: b + (b @ W[0]),
    "norm": lambda b: b / (1 + b.norm()),
    "std": lambda b: b - b.std(),
    "view": lambda b: b + b.view(2, 2).sum(-1).repeat_interleave(2),
    "reshape": lambda b: b + b.reshape(-1).sum(),
    "diff": lambda b: b + torch.diff(b, prepend=torch.zeros(1, dtype=b.dtype)),
    "pairwise": lambda b: (b[:, None] * b[None, :]).sum(-1),
    "loop over rows": each_of,
    "unbind": lambda b: b + torch.stack(b.unbind(-1)).sum(0),
    "stack": lambda b: b + torch.stack([b, 2 * b]).mean(),
    "normalised": lambda b: b / (b.sum() + 1.0),
    "branch on a sum": lambda b: b if b.sum() > 1 else 2 * b,
    "branch on any": lambda b: b if b.any() else b + 3.0,
    "branch on a number": lambda b: b + (2.0 if b.max().item() == 1 else 0.0),
    "branch on a length": lambda b: b * len(b.nonzero()),
    "branch on a list": lambda b: b + sum(b.tolist()),
    "branch on an array": lambda b: b + float(np.asarray(b).sum()),
    "branch row by row": lambda b: torch.stack([v if v == 1 else v - 1.0 for v in b]),
    "a rare branch": lambda b: b + (3.0 if b.sum() == 2 else 0.0),
    "rare": lambda b: b + torch.where(b.sum() == 2, 3.0, 0.0),
}


def chosen(story, data=None):
    return plan(*inspect_rows(Call.bind(story), as_observations({"x": X} if data is None else data)))


@pytest.mark.parametrize("spelling", MIXING)
def test_rows_that_are_mixed_are_found(spelling):
    joint = chosen(of_rows(normal(MIXING[spelling]))).joint
    assert joint is not None and joint.count == 16 and set(joint.values) == {"b"}, spelling


@pytest.mark.parametrize("spelling", ["mean", "rare", "unique", "softmax", "branch row by row"])
def test_rows_that_are_mixed_are_summed_out_jointly(spelling):
    """Against a sum over all 2^4 assignments, each by plain Pyro."""
    found = density(of_rows(normal(MIXING[spelling])))
    for z in (torch.tensor([-0.7]), torch.tensor([1.2])):
        expected = by_hand(found, z.double(), {"b": (0.0, 1.0)}, {"x": X.double()})
        torch.testing.assert_close(found.log_prob(z[None].double())[0], expected, rtol=1e-9, atol=1e-9)
    assert found.plan.joint.batched == (spelling not in ("unique", "branch row by row"))


MANY = torch.linspace(-1.0, 2.0, 100).double()


@pytest.mark.parametrize(
    "spelling", ["mean", "first", "flip", "softmax", "matrix", "branch on a sum", "branch on a list", "rare"]
)
def test_too_many_assignments_are_refused_by_name(spelling):
    """100 rows: that the sum is 2 is true at few of 2^100 assignments; the sum is seen all the same."""
    compute = (lambda b: torch.ones(100, 100).double() @ b) if spelling == "matrix" else MIXING[spelling]
    with pytest.raises(
        ValueError, match="site 'b'.*100 values in the plate 'row'.*row by row.*give 'b' in data"
    ):
        chosen(of_rows(normal(compute), count=100), {"x": MANY})


@pytest.mark.parametrize("threshold", [1, 50, 90, 99])
@pytest.mark.parametrize("branch", [True, False])
def test_a_threshold_that_is_hardly_ever_crossed_is_found(threshold, branch):
    def compute(b):
        over = b.sum() > threshold
        return b + ((3.0 if over else 0.0) if branch else torch.where(over, 3.0, 0.0))

    with pytest.raises(ValueError, match="site 'b': the story"):
        chosen(of_rows(normal(compute), count=100), {"x": MANY})


ROW_BY_ROW = {
    "affine": lambda b: 2.0 * b - 1.0,
    "where": lambda b: torch.where(b == 0, -1.0, 2.0),
    "masks": lambda b: (b == 1).double() * 3.0,
    "index": lambda b: LOCS[b.long()],
    "Vindex": lambda b: Vindex(W)[torch.arange(4), b.long()],
    "one-hot": lambda b: torch.nn.functional.one_hot(b.long(), 3).double() @ LOCS.double(),
    "a sum over no rows": lambda b: (b[..., None] * LOCS).sum(-1),
    "softmax over no rows": lambda b: (b[..., None] * LOCS).softmax(-1)[..., 0],
    "parameters": lambda b: LOCS[b.long()] - LOCS.mean(),
    "stack": lambda b: torch.stack([b, 2 * b], -1).mean(-1),
    "a function of position": lambda b: b * torch.arange(4.0),
}


@pytest.mark.parametrize("spelling", ROW_BY_ROW)
def test_rows_that_are_apart_stay_apart(spelling):
    assert chosen(of_rows(normal(ROW_BY_ROW[spelling]))).joint is None


def nested(compute):
    """Kinds of groups and of their members; ``compute`` makes the mean of x of both."""

    def story():
        a = pyro.sample("a", dist.Beta(2.0, 2.0))
        with pyro.plate("group", 2, dim=-2):
            g = pyro.sample("g", dist.Bernoulli(a))
            with pyro.plate("member", 3, dim=-1):
                b = pyro.sample("b", dist.Bernoulli(0.3))
                pyro.sample("x", dist.Normal(compute(g, b), 0.5))

    return story


TABLE = torch.tensor([[0.0, 1.0, 2.0], [1.5, -0.5, 0.4]]).double()
NESTED = {
    "over members": (lambda g, b: g + b - b.mean(-1, keepdim=True), {"b"}),
    "over groups": (lambda g, b: g + b - b.mean(-2, keepdim=True), {"b"}),
    "groups": (lambda g, b: b + g * g.sum(), {"g"}),
    "neighbours": (lambda g, b: g + b.flip(-1), {"b"}),
    "both": (lambda g, b: b * b.sum() + g.flip(-2), {"g", "b"}),
    "a group's members": (lambda g, b: torch.where(g == 1, b.any(-1, keepdim=True).double(), b), {"b"}),
    "row by row": (lambda g, b: 2.0 * g - b * g, set()),
}


@pytest.mark.parametrize("spelling", NESTED)
def test_plates_in_plates(spelling):
    compute, mixed = NESTED[spelling]
    found = density(nested(compute), {"x": TABLE})
    assert (set() if found.plan.joint is None else set(found.plan.joint.values)) == mixed
    z = torch.tensor([0.4]).double()
    expected = by_hand(found, z, {"g": (0.0, 1.0), "b": (0.0, 1.0)}, {"x": TABLE})
    torch.testing.assert_close(found.log_prob(z[None])[0], expected, rtol=1e-8, atol=1e-8)


def through_a_deterministic_site():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Bernoulli(a))
    share = pyro.deterministic("share", b.mean())
    with pyro.plate("again", 4):
        pyro.sample("x", dist.Normal(share + torch.arange(4.0), 0.5))


def in_a_prior():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Bernoulli(a))
        c = pyro.sample("c", dist.Bernoulli((0.2 + 0.6 * b.mean()).expand(4)))
        pyro.sample("x", dist.Normal(2.0 * c - b, 0.5))


def in_a_probability():
    a = pyro.sample("a", dist.Dirichlet(torch.tensor([2.0, 3.0])))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Categorical(a))
        probs = torch.tensor([[0.9, 0.1], [0.3, 0.7]]).double()
        c = pyro.sample("c", dist.Categorical(probs[b].mean(0)))
        pyro.sample("x", dist.Normal(1.5 * c + b, 0.5))


def in_a_factor():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Bernoulli(a))
        pyro.sample("x", dist.Normal(b, 0.5))
        pyro.factor("pull", -((b - b.mean()) ** 2))


def in_a_mask():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Bernoulli(a))
        with poutine.mask(mask=b.cumsum(-1) > 1):
            pyro.sample("x", dist.Normal(b, 0.5))


def neighbours_in_a_grid():
    """An Ising model of four spins, whose coupling is unknown."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(2.0 * b, 0.5))
    pyro.factor("bonds", a * ((2 * b[1:] - 1) * (2 * b[:-1] - 1)).sum())


def written_in_place():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Bernoulli(a))
        loc = torch.zeros(4).double()
        loc[1:] = b[:-1].double()
        pyro.sample("x", dist.Normal(loc + b, 0.5))


BOTH = (0.0, 1.0)
ELSEWHERE = {
    "through a deterministic site": (through_a_deterministic_site, {"b": BOTH}, {"b"}),
    "in a prior": (in_a_prior, {"b": BOTH, "c": BOTH}, {"b"}),
    "in a probability": (in_a_probability, {"b": BOTH, "c": BOTH}, {"b"}),
    "in a factor": (in_a_factor, {"b": BOTH}, {"b"}),
    "in a mask": (in_a_mask, {"b": BOTH}, {"b"}),
    "neighbours in a grid": (neighbours_in_a_grid, {"b": BOTH}, {"b"}),
    "written in place": (written_in_place, {"b": BOTH}, {"b"}),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_rows_that_are_mixed_elsewhere(case):
    story, open_sites, mixed = ELSEWHERE[case]
    found = density(story)
    assert found.plan.joint is not None and set(found.plan.joint.values) == mixed
    z = torch.tensor([0.4]).double()
    expected = by_hand(found, z, open_sites, {"x": X.double()})
    torch.testing.assert_close(found.log_prob(z[None])[0], expected, rtol=1e-8, atol=1e-8)


def hidden_chain():
    """A chain of states for each of two rows; the plate holds rows, the loop steps."""
    stay = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 2, dim=-1):
        state = torch.zeros(()).long()
        for t in pyro.markov(range(3)):
            up = torch.where(state == 1, stay, 1 - stay)
            state = pyro.sample(f"state_{t}", dist.Categorical(torch.stack([1 - up, up], -1)))
            pyro.sample(f"x_{t}", dist.Normal(LOCS[state], 0.5))


def validated():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 100):
        b = pyro.sample("b", dist.Bernoulli(a))
        pyro.sample("x", dist.Normal(b, 0.5 + b, validate_args=True))


def counted_only():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 100):
        b = pyro.sample("b", dist.Bernoulli(a))
        pyro.sample("x", dist.Normal(b, 0.5))
    pyro.deterministic("count", b.sum())


def one_by_one():
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    total = 0.0
    for i in pyro.plate("row", 4):
        total = total + pyro.sample(f"b_{i}", dist.Bernoulli(a))
    pyro.sample("x", dist.Normal(total, 0.5))


def over_events():
    """A sum over the elements of an event, in every row."""
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", 4):
        b = pyro.sample("b", dist.Categorical(torch.stack([a, 1 - a])))
        loc = W[:2][b]
        pyro.sample("x", dist.Normal(loc - loc.mean(-1, keepdim=True), 0.5).to_event(1))


HONEST = {
    "hidden chain": (hidden_chain, {f"x_{t}": torch.tensor([0.3, 1.0]) for t in range(3)}),
    "validated": (validated, {"x": MANY}),
    "counted only": (counted_only, {"x": MANY}),
    "one by one": (one_by_one, {"x": torch.tensor(2.0)}),
    "over events": (over_events, {"x": torch.zeros(4, 4)}),
}


@pytest.mark.parametrize("case", HONEST)
def test_what_does_not_mix_rows_is_left_alone(case):
    story, data = HONEST[case]
    assert chosen(story, data).joint is None


def test_a_range_that_follows_what_is_summed_out_is_refused():
    def story():
        with pyro.plate("row", 4):
            b = pyro.sample("b", dist.Bernoulli(0.4))
        u = pyro.sample("u", dist.Uniform(0.0, 1.0 + b.sum()))
        with pyro.plate("again", 4):
            pyro.sample("x", dist.Normal(u, 0.5))

    with pytest.raises(ValueError, match="site 'u': its support depends on 'b'"):
        chosen(story)


def test_sites_that_come_and_go_with_what_is_summed_out_are_refused():
    def story():
        with pyro.plate("row", 4):
            b = pyro.sample("b", dist.Bernoulli(0.4))
            pyro.sample("x", dist.Normal(b, 0.5))
        if b.sum() > 2:
            pyro.sample("more", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="site 'more': the story has it or not by the values of 'b'"):
        chosen(story)


def test_a_scale_around_what_hangs_together_is_refused():
    def story():
        with poutine.scale(scale=2.0):
            of_rows(normal(MIXING["mean"]))()

    with pytest.raises(ValueError, match="site 'b': it is scaled"):
        fit(story, {"x": X})


def test_few_rows_of_many_values():
    """Three rows of a binomial site: 5^3 assignments."""
    found = density(
        of_rows(normal(lambda b: b - b.mean()), lambda a: dist.Binomial(4, a), count=3), {"x": X[:3]}
    )
    assert found.plan.joint.count == 125
    z = torch.tensor([0.4]).double()
    expected = by_hand(found, z, {"b": range(5)}, {"x": X[:3].double()})
    torch.testing.assert_close(found.log_prob(z[None])[0], expected, rtol=1e-8, atol=1e-8)
