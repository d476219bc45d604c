"""Discrete sites whose rows a story mixes: found in every spelling, summed out jointly, or refused by name."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.ops.indexing import Vindex

from inference import fit, prior
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
    """Log joint at a point, the discrete sites summed out by plain Pyro at every assignment: site -> values."""
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
    """100 rows: at b.sum() == 2 the plain values are at one assignment of 1e26; the sum is seen all the same."""
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
