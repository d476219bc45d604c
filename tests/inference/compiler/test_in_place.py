"""Tensors that a story fills in place: values and gradients are plain Pyro's, whatever the spelling."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.compiler import recording
from inference.compiler.recording import record
from inference.compiler.simplify import simplify
from inference.density.log_density import LogDensity
from inference.runtime.isolation import isolated
from inference.story.call import Call
from inference.story.inspection import inspect_rows
from inference.story.observations import as_observations

DOUBLE = {"dtype": torch.float64}
Y = torch.tensor([3.0, -1.5, 4.0, 8.0, 2.5, 0.5], **DOUBLE)
X = torch.tensor([0.5, -1.0, 2.0, 0.1, 1.3, -0.7], **DOUBLE)
MASK = torch.tensor([True, False, True, True, False, True])
PICK = torch.tensor([4, 0, 2])


def zeros(*shape):
    return torch.zeros(*(shape or (6,)))


def after(make, write):
    """The tensor once it was written to."""

    def mean(b):
        m = make(b)
        write(m, b)
        return m

    return mean


def setting(place, value):
    def write(m, b):
        m[place(m)] = value(b)

    return after(lambda b: zeros(), write)


def on_zeros(write):
    return after(lambda b: zeros(), write)


def on_line(write):
    return after(lambda b: b[0] + b[1] * X, write)


def plus(m, b):
    m[1:4] += b[0] * X[1:4]


def times(m, b):
    m[1:4] *= b[2]


def rows_of_a_matrix(b):
    m = torch.zeros(2, 3)
    m[0][1] = b[0] * 2
    m.view(-1)[2] = b[1] ** 2
    m.T[0] = b[:2] * b[2]
    m[1, 1:] = b[0] * b[1]
    return m.reshape(-1)


def columns(b):
    m = torch.zeros(6, 3)
    m[..., 0] = b[0] * X
    m[..., 1:-1] = (b[1] * X.exp())[:, None]
    m[..., -1] = b[2]
    return (m * m.sum(-1, keepdim=True)).sum(-1)


def scan(b):
    h = torch.zeros(6)
    h[0] = b[0]
    for t in range(1, 6):
        h[t] = (b[1] * 0.3).tanh() + 0.5 * h[t - 1] * X[t]
    return h


def scan_of_two_lags(b):
    h = torch.zeros(6, 2)
    h[0] = b[0]
    h[1] = b[1]
    for t in range(2, 6):
        h[t] = 0.4 * h[t - 1] + 0.2 * h[t - 2 : t].sum(0) + b[2] * X[t]
    return h.sum(-1)


def scan_overwritten(b):
    """One cell that holds the state: it is read before it is written again."""
    state, seen = torch.zeros(1), []
    for t in range(6):
        state[0] = 0.5 * state[0] + b[1] * X[t]
        seen.append(state.clone())
    return torch.cat(seen)


def read_before_and_after(b):
    m = b[0] * X
    first = m.exp()
    view = m[2:]
    m[3] = b[1]
    view += b[2]
    m[:2] = view[:2] * first[:2]
    return m + first


def parts(b):
    m = torch.zeros(6)
    one, two = m.split([2, 4])
    one[:] = b[0]
    first, second = two.chunk(2)
    first.copy_(b[1] * X[:2])
    for i, cell in enumerate(second.unbind()):
        cell.add_(b[2] * i)
    return m


def numbers(b):
    """Torch makes a tensor of numbers outside its operations; the next run begins with the same numbers."""
    m = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    m[1] = b[0]
    m[3:] *= b[1]
    return m


def out_arguments(b):
    m, whole, column = torch.empty(6), torch.empty(0), torch.zeros(6, 2)
    torch.mul(b[0], X, out=m)
    torch.exp(m * 0.1, out=whole)
    torch.add(m, whole, out=column[:, 1])
    return column.sum(-1) * b[1]


def reshaped_in_place(b):
    m = torch.zeros(6, 1)
    m.squeeze_(-1)
    m[2] = b[0]
    m.unsqueeze_(0).t_()
    m[3:] = b[1] * X[3:, None]
    return m.squeeze(-1)


def accumulated(m, b):
    m.index_put_((torch.tensor([1, 1, 3]),), b, accumulate=True)
    m.index_put_((MASK,), b[1], accumulate=True)


SPELLINGS = {
    "m[:] =": setting(lambda m: slice(None), lambda b: b[0] * X),
    "m[i] =": setting(lambda m: 2, lambda b: b[0] * 3),
    "m[-1] =": setting(lambda m: -1, lambda b: b[0] * 3),
    "m[a:b] =": setting(lambda m: slice(1, 4), lambda b: b[0] * X[1:4]),
    "m[-3:-1] =": setting(lambda m: slice(-3, -1), lambda b: b[0] * X[1:3]),
    "m[::2] =": setting(lambda m: slice(None, None, 2), lambda b: b[:3]),
    "m[...] = number": setting(lambda m: ..., lambda b: b[0]),
    "m[mask] = number": setting(lambda m: MASK, lambda b: b[0]),
    "m[mask] = values": setting(lambda m: MASK, lambda b: b[0] * X[MASK]),
    "m[mask of data] = values": setting(lambda m: X > 0, lambda b: b[0] * X[X > 0]),
    "m[mask] = one value": setting(lambda m: MASK, lambda b: b[:1]),
    "m[indices] =": setting(lambda m: PICK, lambda b: b),
    "m[list] =": setting(lambda m: [4, 0, 2], lambda b: b),
    "copy_": on_zeros(lambda m, b: m.copy_(b[0] * X)),
    "copy_ of a part": on_zeros(lambda m, b: m[2:5].copy_(b)),
    "add_": on_line(lambda m, b: m.add_(b[2] * X**2, alpha=2)),
    "add_ to zeros": on_zeros(lambda m, b: m[1:].add_(b[0] * X[1:])),
    "mul_": on_line(lambda m, b: m[:4].mul_(b[2])),
    "div_, sub_, neg_, exp_": on_line(lambda m, b: m.sub_(b[2]).div_(10 + b[0]).neg_().exp_()),
    "pow_, clamp_, addcmul_": on_line(lambda m, b: m.pow_(2).clamp_(max=30.0).addcmul_(X, b[2], value=2)),
    "lerp_, sigmoid_": on_line(lambda m, b: m[1:].sigmoid_().lerp_(X[1:], 0.3).mul_(b[0])),
    "scatter_": on_zeros(lambda m, b: m.scatter_(0, PICK, b * 2)),
    "scatter_ of a number": on_line(lambda m, b: m.scatter_(0, PICK, 2.5)),
    "scatter_add_": on_zeros(lambda m, b: m.scatter_add_(0, torch.tensor([1, 1, 3]), b)),
    "scatter_reduce_": on_line(lambda m, b: m.scatter_reduce_(0, torch.tensor([1, 1, 3]), b, "sum")),
    "index_add_": on_zeros(lambda m, b: m.index_add_(0, torch.tensor([1, 1, 3]), b, alpha=2)),
    "index_copy_": on_zeros(lambda m, b: m.index_copy_(0, PICK, b)),
    "index_fill_": on_line(lambda m, b: m.index_fill_(0, PICK, b[2])),
    "index_fill_ of a number": on_line(lambda m, b: m.index_fill_(0, PICK, 2.5)),
    "index_put_, accumulated": on_line(accumulated),
    "masked_fill_": on_line(lambda m, b: m.masked_fill_(MASK, b[2] * 2)),
    "masked_fill_ of a part": on_line(lambda m, b: m[1:].masked_fill_(MASK[1:], -1.0)),
    "masked_scatter_": on_zeros(lambda m, b: m.masked_scatter_(MASK, b[0] * X)),
    "fill_": on_zeros(lambda m, b: m[3:].fill_(b[0])),
    "fill_ of a number": on_line(lambda m, b: m[3:].fill_(2.0)),
    "zero_": on_line(lambda m, b: m[3:].zero_()),
    "put_": on_zeros(lambda m, b: m.put_(PICK, b)),
    "diagonal().copy_": lambda b: after(lambda b: torch.zeros(3, 3), lambda m, b: m.diagonal().copy_(b))(
        b
    ).reshape(-1)[:6],
    "tril_": lambda b: after(lambda b: b.outer(b) + X[:3], lambda m, b: m.tril_())(b).reshape(-1)[-6:],
    "+= on a slice": on_line(plus),
    "*= on a slice": on_line(times),
    "views": rows_of_a_matrix,
    "columns": columns,
    "a loop over time": scan,
    "two lags": scan_of_two_lags,
    "a state overwritten": scan_overwritten,
    "read before and after": read_before_and_after,
    "split, chunk, unbind": parts,
    "a tensor of numbers": numbers,
    "out=": out_arguments,
    "squeeze_, unsqueeze_, t_": reshaped_in_place,
    "a detached tensor": after(lambda b: zeros().detach(), lambda m, b: m.copy_(b[0] * X)),
    "single precision": lambda b: after(
        lambda b: torch.zeros(6, dtype=torch.float32), lambda m, b: m[1:].copy_((b[0] * X[1:]).float())
    )(b).double(),
}


# Torch's autograd refuses them: what it needs later was overwritten, a view is one of several, out=
WITHOUT_AUTOGRAD = {"lerp_, sigmoid_", "read before and after", "split, chunk, unbind", "out="}


def story_of(mean):
    def story(n):
        b = pyro.sample("b", dist.Normal(0.0, 2.0).expand([3]).to_event(1))
        with pyro.plate("row", n):
            pyro.sample("y", dist.Normal(mean(b), 1.5))

    return story


def density(mean):
    structure, observations = inspect_rows(Call.bind(story_of(mean)), as_observations({"y": Y}))
    return LogDensity(structure, observations)


def points(count=3):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1), **DOUBLE)


def differences(function, z, step=1e-5):
    ends = [torch.stack([function(z + sign * step * e) for e in torch.eye(3, **DOUBLE)]) for sign in (1, -1)]
    return ((ends[0] - ends[1]) / (2 * step)).T


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_writes_in_place_keep_their_gradient(spelling):
    found, z = density(SPELLINGS[spelling]), points()
    assert found.traced, found.note
    assert found.points.part("gradient", False, found._bound.inputs).recorded  # by one batched function
    value, grad = found.value_and_grad(z)
    with isolated(0):
        expected = torch.stack([found._plain(one)[0] for one in z])
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    if spelling in WITHOUT_AUTOGRAD:
        with pytest.raises(ValueError, match="no gradient"):
            found._looped_gradient(z)
    else:
        torch.testing.assert_close(grad, found._looped_gradient(z)[1], rtol=1e-9, atol=1e-9)
    # rounding of densities below 1e3, divided by 2e-5, and a third derivative times 1e-10; in single
    # precision a step changes what is rounded to 6e-8 of itself
    rounded = 1e-6 if spelling != "single precision" else 1.0
    torch.testing.assert_close(grad, differences(found.log_prob, z), rtol=rounded, atol=10 * rounded)
    assert bool((grad + z / 4).abs().amax() > 0.1)  # more than the prior's


def test_a_loop_over_time_costs_what_its_steps_cost():
    """What was written is read as it is, and all of it put together once: no copy of the series per step."""

    def series(length):
        def function(z):
            h = torch.zeros(length)
            h[0] = z[0]
            for t in range(1, length):
                h[t] = z[1] * h[t - 1] + z[2]
            return h.square().sum()

        with isolated(0):
            return simplify(record(function, torch.ones(3)).tape).ops

    assert len(series(40)) - len(series(20)) <= 20 * 3
    assert sum("cat" in str(op.target) or "stack" in str(op.target) for op in series(40)) == 1


def test_columns_filled_one_by_one_are_one_concatenation():
    with isolated(0):
        tape = simplify(record(lambda z: columns(z).sum(), torch.ones(3)).tape)
    names = [str(op.target) for op in tape.ops]
    assert names.count("aten.cat.default") == 1 and not any("scatter" in n or "index" in n for n in names)


def test_what_was_read_out_of_what_was_written_is_told():
    def function(z, a, b):
        m = torch.zeros(4)
        m[1:3] = a
        return z.sum() * float(m.sum()) + b.sum()

    assert record(function, torch.ones(2), torch.ones(2), torch.ones(2)).read == {1}


def into_a_tensor_from_outside():
    outside = zeros()

    def mean(b):
        outside[2:] = 0.5
        return outside + b[0]

    return mean


def into_what_was_detached(b):
    m = b[0] * X
    m.detach()[2:] = 3.0
    return m


def diagonal_by_strides(b):
    return b.outer(b).fill_diagonal_(3.0).reshape(-1)[:6]


def seen_after_a_write(b):
    m = b[0] * X
    before = m.detach()
    m[2:] = b[1]
    return m + before


@pytest.mark.parametrize(
    "mean", [into_a_tensor_from_outside(), into_what_was_detached, diagonal_by_strides, seen_after_a_write]
)
def test_what_cannot_be_followed_is_left_to_plain_pyro(mean):
    found, z = density(mean), points()
    assert not found.traced and "could not be traced (ValueError: it " in found.note
    torch.testing.assert_close(found.value_and_grad(z), found._looped_gradient(z))


def without_gradient(b):
    with torch.no_grad():
        shift = b[1] * X
    return b[0] * X + shift


def test_a_gradient_that_is_not_plain_pyros_does_not_serve():
    """A tape knows nothing of ``no_grad``: it has the gradient of what is computed there."""
    found, z = density(without_gradient), points()
    assert not found.traced and "gradient of the traced graph differs from plain Pyro's" in found.note
    torch.testing.assert_close(found.value_and_grad(z), found._looped_gradient(z))


def squashed(m, b):
    m.copy_(b[0] * X).sigmoid_().mul_(b[1])


@pytest.mark.parametrize(("write", "yardstick"), [
    (lambda m, b: m[1:3].copy_(b[0] * X[1:3]), "plain Pyro's"),
    (squashed, "differences of its values"),  # autograd needs what mul_ overwrites
])  # fmt: skip
def test_a_gradient_lost_on_the_tape_does_not_serve(monkeypatch, write, yardstick):
    """As it was lost: what was written is detached before it is read."""
    monkeypatch.setattr(recording, "_without_writes", recording._functionalized)
    found = density(on_zeros(write))
    assert not found.traced and f"differs from {yardstick}" in found.note
