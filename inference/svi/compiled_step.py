"""One training step as a graph: the story and the guide run in plain Python once per shape of batch.

Loss and gradient of a batch are recorded together, random numbers included: a draw is a call in the graph
like any other, made anew at every step. The parameters are not inputs but the very tensors that the
optimizer changes. A program that cannot be recorded, or whose graph disagrees with plain Pyro for the same
noise on another batch, keeps being run by Pyro.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from inference.compiler.zero_wins import ZeroWins
from inference.svi.minibatch import Batch

_DIFFERENCE = {torch.float32: 2e-4, torch.float64: 1e-8}  # relative; sums are taken in another order

Gradient = tuple[Tensor, list[Tensor]]


class _NumbersStay(TorchFunctionMode):
    """Keep as tensors the numbers that Pyro's ELBOs read out.

    They do so for their report, and ``TraceEnum_ELBO`` to ask whether a probability is zero, in order to
    leave it out: it is kept, and a cost that is infinite there makes the graph disagree with plain Pyro.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.item:
            return args[0].detach()
        if func is Tensor.all and sys._getframe(1).f_globals.get("__name__") == "pyro.infer.util":
            return True
        return func(*args, **(kwargs or {}))


class TracedStep:
    """Loss and gradient of a batch, from a graph where there is one.

    Args:
        run: sets a batch (and the factor of the warm-up) and returns the loss, differentiable.
        params: the tensors that are trained.
        buffers: that a run may change (running means); runs that only try a graph out leave them alone.
    """

    def __init__(
        self, run: Callable[[Batch, Any], Tensor], params: Sequence[Tensor], buffers: Sequence[Tensor] = ()
    ) -> None:
        self.run, self.params, self.buffers = run, list(params), list(buffers)
        self.refused, self.careful = "", False
        self._graphs: dict[Any, fx.GraphModule] = {}
        self._only: dict[Any, Batch] = {}  # the batch on which a graph was made, until it served another

    def take_care(self) -> None:
        """From now on take derivatives at the edge with care: some gradient was not finite."""
        self.careful, self.refused = True, ""
        self._graphs.clear()
        self._only.clear()

    def plain(self, batch: Batch, factor: Any) -> Gradient:
        """By Pyro itself."""
        loss = self.run(batch, factor)
        with ZeroWins() if self.careful else nullcontext():
            found = torch.autograd.grad(loss, self.params, allow_unused=True)
        return loss.detach(), [
            torch.zeros_like(p) if g is None else g for p, g in zip(self.params, found, strict=True)
        ]

    def __call__(self, batch: Batch, factor: Any) -> Gradient | None:
        """Loss and gradient by the graph; ``None`` where there is none."""
        leaves, key = _flat(batch, factor)
        graph = self._graphs.get(key)
        if graph is None:
            if self.refused or not self.trace(batch, factor):
                return None
            graph = self._graphs[key]
        elif self._only.get(key, batch) is not batch and not self._serves(batch, factor, key):
            return None
        with torch.no_grad(), torch._C.DisableTorchFunction():
            loss, *found = graph(*leaves)
        return loss, found

    def trace(self, batch: Batch, factor: Any) -> bool:
        """Record the step for batches of this shape, and compare it with plain Pyro."""
        leaves, key = _flat(batch, factor)
        rebuild = _rebuild(batch, factor)

        def step(*values: Tensor) -> tuple[Tensor, ...]:
            with _NumbersStay():
                loss, found = self.plain(*rebuild(values))
            return loss, *found

        def make() -> None:
            self._graphs[key] = _slim(make_fx(step)(*leaves))

        if self._holds(make, batch, factor):
            self._only[key] = batch
        return not self.refused

    def _serves(self, batch: Batch, factor: Any, key: Any) -> bool:
        """Compare on a second batch: numbers that a program took out of the first would be in the graph."""
        del self._only[key]
        return self._holds(lambda: None, batch, factor)

    def _holds(self, make: Callable[[], None], batch: Batch, factor: Any) -> bool:
        """Whether a graph that agrees with plain Pyro can be made; noise and buffers are put back."""
        state, before = torch.random.get_rng_state(), [b.clone() for b in self.buffers]
        try:
            make()
            self.refused = self._compare(batch, factor)
        except Exception as error:  # whatever a user's program does that a graph cannot hold
            self.refused = (str(error).strip().splitlines() or [type(error).__name__])[0]
        torch.random.set_rng_state(state)
        with torch.no_grad():
            for buffer, value in zip(self.buffers, before, strict=True):
                buffer.copy_(value)
        if self.refused:
            self._graphs.clear()
        return not self.refused

    def _compare(self, batch: Batch, factor: Any) -> str:
        """Why the graph cannot serve: it differs from plain Pyro for new noise."""
        for seed in (1, 2):
            results: list[Any] = []
            for by in (self.plain, self):
                torch.manual_seed(seed)
                results.append(by(batch, factor))
            (loss, grads), (traced, others) = results
            for one, other in zip([loss, *grads], [traced, *others], strict=True):
                scale = 1e-6 + float(one.abs().max())
                gap = float((one - other).abs().max()) / scale
                if not gap <= _DIFFERENCE.get(one.dtype, 1e-3):
                    return f"it differs from plain Pyro by {gap:.1e}"
        return ""


def _slim(module: fx.GraphModule) -> fx.GraphModule:
    """Leave out what a step need not compute, in place: constants made anew, and detaching.

    Nothing is touched in a graph that changes tensors in place, but for draws that fill new ones.
    """
    if any(_writes(node) for node in module.graph.nodes):
        return module
    constant: dict[fx.Node, Tensor] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            value = getattr(module, str(node.target))
            if isinstance(value, Tensor) and not value.requires_grad and node.target.startswith("_tensor"):
                constant[node] = value
        elif node.op != "call_function" or not isinstance(node.meta.get("val"), Tensor):
            continue
        elif node.target == torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
        elif _fixed(node) and node.all_input_nodes and all(n in constant for n in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: constant[n])
            name = f"_constant_{node.name}"
            module.register_buffer(name, node.target(*args, **kwargs))
            with module.graph.inserting_before(node):
                made = module.graph.get_attr(name)
            constant[made] = getattr(module, name)
            node.replace_all_uses_with(made)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _fixed(node: fx.Node) -> bool:
    """Whether a node computes the same from the same inputs."""
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()) and not _mutable(node)


def _mutable(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _writes(node: fx.Node) -> bool:
    """Whether a node changes a tensor that was there before."""
    if not _mutable(node):
        return False
    first = node.args[0] if node.args else None
    return not (isinstance(first, fx.Node) and "empty" in str(first.target) and len(first.users) == 1)


def _parts(batch: Batch, factor: Any) -> tuple[Any, ...]:
    call = batch.call
    return (
        dict(batch.values), dict(batch.seen), dict(batch.stand_in), tuple(call.args), dict(call.kwargs),
        factor,
    )  # fmt: skip


def _flat(batch: Batch, factor: Any) -> tuple[list[Tensor], Any]:
    """The tensors of a step, and a key by which steps of one shape share a graph."""
    leaves, spec = tree_flatten(_parts(batch, factor))
    tensors = [x for x in leaves if isinstance(x, Tensor)]
    kinds = tuple((x.shape, x.dtype) if isinstance(x, Tensor) else repr(x) for x in leaves)
    return tensors, (spec, kinds, batch.scale)


def _rebuild(batch: Batch, factor: Any) -> Callable[[Sequence[Tensor]], tuple[Batch, Any]]:
    """What puts other tensors of the same shapes into a step."""
    leaves, spec = tree_flatten(_parts(batch, factor))

    def build(values: Sequence[Tensor]) -> tuple[Batch, Any]:
        given = iter(values)
        filled = [next(given) if isinstance(x, Tensor) else x for x in leaves]
        *parts, other = tree_unflatten(filled, spec)
        return batch.replaced(*parts), other

    return build
