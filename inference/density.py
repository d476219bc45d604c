"""A story and its data as one function: unconstrained vector -> log joint density, in batches.

Pyro runs once. The program is traced into a graph of tensor operations; the graph is differentiated,
batched over draws, and compared with plain Pyro at fresh points. If they disagree, if the graph holds a
random node, or if the program cannot be traced (it branches on values, say), plain Pyro takes over,
draw by draw: slower, and said in ``LogDensity.note``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor
from torch.func import grad_and_value, vmap

from inference.batching import Batched
from inference.bijections import bijection
from inference.contraction import total_log_prob
from inference.evidence import Evidence
from inference.failures import apart
from inference.folding import Folded, Folding, fold
from inference.graphs import RandomStoryError, trace
from inference.handlers import Known, Slot, Unknown
from inference.isolation import isolated
from inference.plan import enumerating, plan
from inference.structure import Structure

_AGREEMENT = 1e-8  # of the graph with plain Pyro, relative; float64 sums of 1e6 terms stay below it
_MEMORY = 2**20  # elements of the largest intermediate per call: 8 MiB, about a core's cache
_RANDOM = (
    "The story draws random numbers outside pyro.sample, so its density is not a function: the fit saw "
    "arbitrary draws of them. Make them sample sites."
)
_WORTH_TRACING = 100  # calls; a trace costs about .5 s and saves some milliseconds a call


class LogDensity:
    """The log joint density of a story's unknowns, given its data.

    Args:
        structure: of the story as it is called.
        evidence: checked, by site name.

    Attributes:
        size: number of unconstrained unknowns.
        names: the sites (and missing elements of sites) among the unknowns.
        traced: whether the graph serves; else plain Pyro, and ``note`` says why.
        folded: the rows folded into sufficient sums, where that was possible and agreed.
        note: why plain Pyro is used, where it is.
        flaw: why no fit of this density can be trusted, where that is so.
        gradient_calls: how many batched gradients were taken.
    """

    def __init__(self, structure: Structure, evidence: Mapping[str, Evidence]) -> None:
        self.structure, self.evidence = structure, dict(evidence)
        self.plan = plan(structure, evidence)
        self.data = {name: e.value for name, e in evidence.items()}
        self.folded = fold(structure, evidence, self.plan.dropped)
        self.slots = self._slots()
        self.size = max((slot.stop for slot in self.slots.values()), default=0)
        self.names = tuple(self.slots)
        self.gradient_calls = 0
        self.note, self.flaw = "", ""
        self._graph: Any = None
        self._inputs: Mapping[str, Any] = self.data
        self._gradient: Any = None
        self._batches: dict[int, Any] = {}
        self._uses: dict[int, int] = {}
        self._trace()

    @property
    def traced(self) -> bool:
        """Whether the story was traced into a graph."""
        return self._graph is not None

    def _slots(self) -> dict[str, Slot]:
        slots, start = {}, 0
        for name in self.structure.sites:
            site, index = self.structure.sites[name], None
            if name in self.plan.unknown:
                shape = bijection(site.fn.support).inverse_shape(site.shape)
            elif name in self.plan.filled:
                index = (~self.plan.seen[name]).reshape(-1).nonzero().squeeze(-1)
                shape = index.shape
            else:
                continue
            stop = start + shape.numel()
            slots[name] = Slot(start, stop, shape, index)
            start = stop
        return slots

    def _run(self, z: Tensor, data: Mapping[str, Tensor]) -> tuple[Any, Unknown]:
        """Run the story with its unknowns at ``z``; call inside :func:`isolated`."""
        known = {n: v for n, v in data.items() if n not in self.plan.filled}
        seen = {n: m for n, m in self.plan.seen.items() if n not in self.plan.filled}
        unknown = Unknown(z, self.slots, data)
        with (
            EnumMessenger(-1 - self.structure.nesting),
            unknown,
            Known(known, seen, self.plan.summed, self._stand_in()),
        ):
            run = poutine.trace(self.structure.call).get_trace()
        return run, unknown

    def _point(self, z: Tensor, data: Mapping[str, Any]) -> Tensor:
        run, unknown = self._run(z, data)
        return total_log_prob(run) + unknown.log_det

    def _folded_point(self, z: Tensor, data: Mapping[str, Any]) -> Tensor:
        run, unknown = self._run_folded(z, data)
        return total_log_prob(run) + unknown.log_det

    def _run_folded(self, z: Tensor, inputs: Mapping[str, Any]) -> tuple[Any, Unknown]:
        """Run the story with one row per group of rows; call inside :func:`isolated`."""
        folded = cast(Folded, self.folded)
        unknown = Unknown(z, self.slots, {})
        shared = {n: v for n, v in self.data.items() if n not in {**inputs["values"], **inputs["sums"]}}
        with unknown, Folding(inputs), Known(shared, {}, (), self._stand_in(len(inputs["counts"]))):
            run = poutine.trace(folded.call).get_trace()
        return run, unknown

    def _stand_in(self, groups: int | None = None) -> dict[str, Tensor]:
        """Values of the dropped sites; those of the first rows where one row stands for each group."""
        sites = self.structure.sites
        rows = self.structure.row_plate(self.evidence) if groups is not None else None
        return {n: sites[n].value[: groups if sites[n].within(rows) else None] for n in self.plan.dropped}

    def _trace(self) -> None:
        with isolated(0):
            fresh = torch.rand(3, self.size) * 2 - 1
            with enumerating(self.plan.summed):
                plain = torch.stack([self._point(z, self.data) for z in fresh])
                again = self._point(fresh[0], self.data)
            if again != plain[0] and not again.isnan():
                self.flaw = _RANDOM
            self.cost = self._largest(self._run(fresh[0], self.data)[0])
        if self.folded is not None and self._adopt(self._folded_point, self.folded.inputs, fresh, plain):
            with isolated(0):
                self.cost = self._largest(self._run_folded(fresh[0], self.folded.inputs)[0])
            self.note = ""
            return
        self.folded, self.note = None, ""
        self._adopt(self._point, self.data, fresh, plain)

    def _adopt(self, point: Any, inputs: Mapping[str, Any], fresh: Tensor, plain: Tensor) -> bool:
        """Trace a function of one point and take the graph if it agrees with plain Pyro."""
        try:
            graph = trace(point, fresh[0], inputs)
            with isolated(0):
                traced = torch.stack([graph(z, inputs) for z in fresh])
                _, batched = _gradient(graph)(fresh, inputs)
        except RandomStoryError:
            self.flaw = _RANDOM
            return False
        except Exception as error:  # whatever a user's program does that a graph cannot hold
            self.note = f"the story could not be traced ({_first_line(error)})"
            return False
        gap = torch.maximum((traced - plain).abs(), (batched - plain).abs())
        same = (gap <= _AGREEMENT * (1 + plain.abs())) | ((traced == plain) & (batched == plain))
        if not bool(same.all()) and bool(torch.isfinite(plain).any()):
            self.note = f"the traced graph differs from plain Pyro by {gap.max().item():.3g} nats"
            return False
        self._graph, self._inputs = graph, inputs
        self._gradient = _gradient(graph)
        return True

    def _largest(self, run: Any) -> int:
        total_log_prob(run)
        nodes = [n for n in run.nodes.values() if "unscaled_log_prob" in n]
        sizes = [n["unscaled_log_prob"].numel() * torch.Size(n["fn"].event_shape).numel() for n in nodes]
        return max(sizes, default=1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log joint density with the Jacobian of the constraining map.

        Args:
            z: (draws, size).

        Returns:
            (draws,), in nats.
        """
        if self._graph is not None:
            values = vmap(lambda u: self._graph(u, self._inputs))
            chunks = z.split(self._chunk())
            return torch.cat([apart(lambda part: (values(part), part), c)[0] for c in chunks])
        with isolated(0):
            return torch.stack([self._point(row, self.data) for row in z])

    def value_and_grad(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log joint density and its gradient.

        Args:
            z: (draws, size).

        Returns:
            (draws,) and (draws, size).
        """
        self.gradient_calls += 1
        if self._graph is None:
            return self._looped_gradient(z)
        parts = [apart(self._traced_gradient, part) for part in z.split(self._chunk())]
        values, grads = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(grads)

    def _traced_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        grad, value = self._batch(z)(z, self._inputs)
        return value, grad

    def _chunk(self) -> int:
        return max(1, min(4096, _MEMORY // max(1, self.cost)))

    def _batch(self, z: Tensor) -> Any:
        """The batched gradient; traced once more for a batch size that is used over and over."""
        count = len(z)
        self._uses[count] = self._uses.get(count, 0) + 1
        if count not in self._batches and self._uses[count] >= _WORTH_TRACING:
            self._batches[count] = trace(self._gradient, z, self._inputs)
        return self._batches.get(count, self._gradient)

    def _looped_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        values, grads = [], []
        with isolated(0), torch.enable_grad():
            for row in z:
                point = row.detach().clone().requires_grad_()
                try:
                    value = self._point(point, self.data)
                    grads.append(torch.autograd.grad(value, point)[0])
                except RuntimeError as error:
                    raise ValueError(
                        f"story: its density has no gradient with respect to the unknowns "
                        f"({_first_line(error)}). Between pyro.sample statements use torch operations, not "
                        f"numpy's, and do not detach or read out values."
                    ) from error
                values.append(value.detach())
        return torch.stack(values), torch.stack(grads)

    def constrain(self, z: Tensor) -> dict[str, Tensor]:
        """Map unconstrained draws to the story's sites, deterministic ones included.

        Args:
            z: (draws, size).

        Returns:
            site -> (draws, *site shape).
        """
        deterministic = [n for n, s in self.structure.sites.items() if s.kind == "deterministic"]
        if self.plan.summed:
            hidden = set(self.plan.summed)
            deterministic = [n for n in deterministic if not hidden & self.structure.ancestors([n])]
        folded = self.folded if not deterministic else None  # they may depend on the number of rows

        def one(point: Tensor) -> dict[str, Tensor]:
            if folded is not None:
                run, unknown = self._run_folded(point, folded.inputs)
            else:
                run, unknown = self._run(point, self.data)
            values = dict(unknown.values)
            values.update({n: run.nodes[n]["value"].double() for n in deterministic})
            return values

        with isolated(0):
            return Batched(one, self.cost)(z)


def _gradient(graph: Any) -> Any:
    """Gradient and value of a graph of one point, at many points."""
    return vmap(grad_and_value(lambda z, inputs: graph(z, inputs)), in_dims=(0, None))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
