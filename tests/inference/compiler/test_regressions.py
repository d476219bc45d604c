"""Rows of regressions on a tape: folded or gone through in few passes, with the same values and gradients."""

import os
import subprocess
import sys

import pytest
import torch

from inference.compiler.batched_function import simplified
from inference.compiler.recording import record
from inference.compiler.tape import Meta

DOUBLE = {"dtype": torch.float64}
ROWS, COLUMNS, POINTS = 1_000, 3, 4
MANY = 70_000  # rows that are gone through in blocks
EXTRA = 130.0  # MB that a fit of 200,000 rows may take; all results of its run kept at once are 270
BCE = torch.nn.functional.binary_cross_entropy_with_logits


def draws(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


SQUARES = {
    "matrix": lambda z, x, y: ((y - x @ z[:3]) ** 2).sum() / z[3].exp(),
    "mean first": lambda z, x, y: -((x @ z[:3] - y) ** 2 / (2 * z[3].exp() ** 2)).sum(),
    "intercept": lambda z, x, y: ((y - (z[3] + x @ z[:3])) ** 2).sum(),
    "columns": lambda z, x, y: ((y - (z[0] + z[1] * x[:, 1] + x[:, 2] * z[2:3])) ** 2).sum(),
    "products": lambda z, x, y: ((y - ((x * z[:3]).sum(-1) + z[3])) ** 2).sum(),
    "twice": lambda z, x, y: ((y - (x @ z[:3] + x @ z[1:])) ** 2).sum(),
}
LOGITS = {
    "logits": lambda z, x, y: -BCE(x @ z[:3], y.sigmoid(), reduction="none").sum() - z[3] ** 2,
    "sum and part": lambda z, x, y: (-BCE(x @ z[:3] + z[3], y.sigmoid(), reduction="none")).sum(),
    "counts": lambda z, x, y: (y * (x @ z[:3]) - (x @ z[:3]).exp()).sum() + z[3],
}


def points_of(function, x, y):
    return simplified(record(function, draws(4, seed=1), x, y).tape)


def agree(function, x, y, z):
    """Values and gradients of what was shortened are those of the function itself."""
    value, grad = points_of(function, x, y).bind([x, y]).gradient(z)
    for i, point in enumerate(z.clone()):
        expected = function(point.requires_grad_(), x, y)
        torch.testing.assert_close(value[i], expected.detach(), rtol=1e-11, atol=1e-9)
        torch.testing.assert_close(grad[i], torch.autograd.grad(expected, point)[0], rtol=1e-9, atol=1e-8)


def lengths(points):
    """Sizes of the leading axes of all values that depend on the point."""
    tape = points.tape
    return [tape.meta[n].shape[0] for n in tape.depends(tape.inputs[:1]) if tape.meta[n].shape]


@pytest.mark.parametrize("name", SQUARES | LOGITS)
def test_values_and_gradients_stay(name):
    agree((SQUARES | LOGITS)[name], draws(ROWS, 3, seed=2), draws(ROWS, seed=3), draws(POINTS, 4, seed=4))


@pytest.mark.parametrize("name", LOGITS)
def test_values_and_gradients_stay_with_many_rows(name):
    x, y = draws(MANY, 3, seed=2), draws(MANY, seed=3)
    agree(LOGITS[name], x, y, draws(2, 4, seed=4))


@pytest.mark.parametrize("name", SQUARES)
def test_least_squares_leave_no_rows(name):
    assert max(lengths(points_of(SQUARES[name], draws(ROWS, 3, seed=2), draws(ROWS, seed=3)))) < 10


def test_blocks_of_rows_stay_small():
    x, y = draws(MANY, 3, seed=2), draws(MANY, seed=3)
    assert max(lengths(points_of(LOGITS["logits"], x, y))) < MANY / 4
    assert max(lengths(points_of(LOGITS["logits"], x[:ROWS], y[:ROWS]))) == ROWS


def test_few_rows_are_left_as_they_are():
    points = points_of(SQUARES["matrix"], draws(100, 3, seed=2), draws(100, seed=3))
    assert max(lengths(points)) == 100


def test_rows_that_depend_on_the_point_are_not_folded():
    def function(z, x, y):
        return (((y + z[0].expand(ROWS).exp() * y) - x @ z[:3]) ** 2).sum()

    agree(function, draws(ROWS, 3, seed=2), draws(ROWS, seed=3), draws(POINTS, 4, seed=4))


def test_no_squares_of_the_data_are_formed():
    """Residuals of a thousandth about values of a million: from X'X and y'y nothing would be left of them."""
    x = torch.cat([torch.ones(ROWS, 1, **DOUBLE), draws(ROWS, 2, seed=2)], 1)
    w = torch.tensor([1e6, 2.0, -1.0, 0.0], **DOUBLE)
    y = x @ w[:3] + 1e-3 * draws(ROWS, seed=3)
    function = lambda z, x, y: ((y - x @ z[:3]) ** 2).sum()  # noqa: E731
    (found,) = points_of(function, x, y).bind([x, y]).value(w[None])
    torch.testing.assert_close(found[0], function(w, x, y), rtol=1e-5, atol=0)
    moments = y @ y - 2 * (x.T @ y) @ w[:3] + w[:3] @ (x.T @ x) @ w[:3]
    assert abs(moments / function(w, x, y) - 1) > 0.1


def test_columns_that_depend_on_each_other_are_no_matter():
    x = draws(ROWS, 3, seed=2)
    x[:, 2] = x[:, 0]
    agree(SQUARES["intercept"], x, draws(ROWS, seed=3), draws(POINTS, 4, seed=4))


def test_logits_far_out_keep_their_gradients():
    x, y = 400.0 * draws(ROWS, 3, seed=2), draws(ROWS, seed=3)
    agree(LOGITS["logits"], x, y, draws(POINTS, 4, seed=4))


@pytest.mark.parametrize("name", ["columns", "logits"])
def test_several_data_sets_at_once(name):
    function = (SQUARES | LOGITS)[name]
    x, y, z = draws(2, ROWS, 3, seed=2), draws(2, ROWS, seed=3), draws(2, POINTS, 4, seed=4)
    points = points_of(function, x[0], y[0])
    value, grad = points.bind([x, y], sets=True).gradient(z)
    for i in range(2):
        alone, own = points.bind([x[i], y[i]]).gradient(z[i])
        torch.testing.assert_close(value[i], alone)
        torch.testing.assert_close(grad[i], own)


def test_a_tape_lets_go_of_values_after_their_last_use():
    tape = record(lambda z: ((z + 1.0).exp() * 2.0).sum(), draws(4, seed=1)).tape
    let_go = [number for numbers in tape.last_uses().values() for number in numbers]
    assert len(let_go) == len(set(let_go)) == len(tape.ops) - 1
    assert all(tape.meta[n] == Meta((4,), torch.float64) for n in let_go)


FIT = """
import pyro, pyro.distributions as dist, torch, resource
from experiments.row_scaling.child import logistic, linear, rows_of, held, peak
from inference import fit
for story, kind in ((linear, "linear"), (logistic, "logistic")):
    x, y = rows_of(kind, 500)
    fit(story, {"y": y}, (x,), restarts=1, draws=100)
before = held()
for story, kind in ((linear, "linear"), (logistic, "logistic")):
    x, y = rows_of(kind, 200_000)
    fit(story, {"y": y}, (x,), restarts=1, draws=100)
print(peak() - before)
"""


def test_a_fit_of_many_rows_takes_little_memory():
    done = subprocess.run(
        [sys.executable, "-c", FIT], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert float(done.stdout) < EXTRA
