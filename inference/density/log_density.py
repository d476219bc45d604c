"""A story and its data as one function: unconstrained vector -> log joint density, in batches.

Pyro runs once. The program is recorded as a tape of tensor operations; the tape is differentiated, batched
over draws, shortened, and compared with plain Pyro at fresh points: values, and at one of them the gradient.
If they disagree, if the program draws random numbers, or if it cannot be recorded (it branches on values,
say), plain Pyro takes over, draw by draw: slower, and said in ``LogDensity.note``. What was traced serves the
next fit of the same story and shapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from inference.compiler.batched_function import BatchedFunction, BoundFunction, leaves
from inference.compiler.recording import RandomStoryError
from inference.compiler.vmapped import Vmapped
from inference.compiler.zero_wins import ZeroWins
from inference.density.evaluation import Evaluation, apart
from inference.density.holes import Holes
from inference.density.traced import (
    Evaluated,
    Kept,
    Traced,
    disagreement,
    first_line,
    sites_agree,
    trace_story,
)
from inference.runtime.isolation import isolated
from inference.story.bijections import wrong_jacobian
from inference.story.observations import Observation
from inference.story.plan import enumerating
from inference.story.structure import Structure

_MEMORY = 2**17  # elements of the largest intermediate per call: 1 MiB, of which a core's cache holds several
_RANDOM = (
    "The story draws random numbers outside pyro.sample, so its density is not a function: the fit saw "
    "arbitrary draws of them. Make them sample sites."
)
_KEPT: Kept[Traced | str] = Kept()
_REFUSED = "not folded"  # kept where rows could not be folded, so that it is not tried at every fit


class LogDensity(Evaluation):
    """The log joint density of a story's unknowns, given its data.

    Args:
        structure: of the story as it is called.
        observations: checked, by site name.
        folding: whether rows may be folded into sufficient sums.

    Attributes:
        size: number of unconstrained unknowns.
        names: the sites (and missing elements of sites) among the unknowns.
        traced: whether the traced story serves; else plain Pyro, and ``note`` says why.
        folded: the rows folded into sufficient sums, where that was possible and agreed.
        note: why plain Pyro is used, where it is.
        flaw: why no fit of this density can be trusted, where that is so.
        holes: points that were met at which the density is NaN.
        gradient_calls: how many batched gradients were taken.
        run_cost: elements of the largest intermediate result at one point where the story is run.
        seconds: phase ("plan", "trace" or "recall") -> how long it took.
    """

    def __init__(
        self, structure: Structure, observations: Mapping[str, Observation], *, folding: bool = True
    ) -> None:
        began = time.perf_counter()
        super().__init__(structure, observations, folding=folding)
        self.gradient_calls = 0
        self.note, self.flaw = "", ""
        self.holes = Holes()
        self.run_cost = 1
        self.traced_story: Traced | None = None
        self._constraining: tuple[Traced, BoundFunction] | None = None
        planned = time.perf_counter()
        recalled = self._recall()
        if not recalled:
            sites = structure.sites
            mapped = [(n, sites[n].fn.support, sites[n].shape) for n in self.plan.unknown]
            self.flaw = wrong_jacobian(mapped)  # before tracing: what has a flaw is not kept
            self._trace()
        self.seconds = {
            "plan": planned - began,
            "recall" if recalled else "trace": time.perf_counter() - planned,
        }

    @property
    def traced(self) -> bool:
        """Whether the story was traced."""
        return self.traced_story is not None

    @property
    def cost(self) -> int:
        """Elements that the log density at one point goes through: what draws cost."""
        return self.run_cost if self.traced_story is None else self.traced_story.cost

    @property
    def points(self) -> BatchedFunction:
        """The traced log density, for any data of these shapes."""
        return cast(Traced, self.traced_story).log_prob

    @property
    def sites(self) -> Traced | None:
        """What was traced to map points to sites, if it serves."""
        return None if self._constraining is None else self._constraining[0]

    def _plain(self, z: Tensor) -> Evaluated:
        """Log density and values of sites by plain Pyro, all rows; call inside :func:`isolated`."""
        value, sites, self.run_cost = self.evaluated(z, self.inputs())
        return value, sites

    def _plain_gradient(self, z: Tensor) -> tuple[Evaluated, Tensor | None]:
        """The same and the gradient; ``None`` where torch refuses it: what it needs was overwritten."""
        try:
            with torch.inference_mode(False), torch.enable_grad():  # whatever block the caller is in
                point = z.detach().clone().requires_grad_()
                value, sites = self._plain(point)
                grad = torch.zeros_like(z)
                if value.requires_grad:
                    with ZeroWins():
                        (grad,) = torch.autograd.grad(value, point, materialize_grads=True)
        except RuntimeError:
            return self._plain(z), None
        return (value.detach(), {n: v.detach() for n, v in sites.items()}), grad

    # ---- tracing

    def _recall(self) -> bool:
        """Take up what an earlier fit traced, if it agrees with plain Pyro here."""
        story = self.structure.call.story
        folded = self.folded
        if folded is not None and _KEPT.get(story, self.key(self.inputs(folded))) is _REFUSED:
            folded = None
        inputs = self.inputs(folded)
        kept = _KEPT.get(story, self.key(inputs))
        if not isinstance(kept, Traced):
            return False
        with isolated(1):
            fresh = torch.rand(1, self.size) * 2 - 1
            first, slope = self._plain_gradient(fresh[0])
        plain = [first]
        if disagreement(kept, inputs, fresh, plain, slope):
            return False
        self.folded = folded
        self._adopt(kept, inputs, fresh, plain)
        return True

    def _adopt(self, traced: Traced, inputs: Mapping[str, Any], z: Tensor, plain: list[Evaluated]) -> None:
        self.traced_story = traced
        self._bound = traced.log_prob.bind(leaves(inputs), report=self.holes.look)
        self._take_sites(traced, inputs, z, plain)

    def _take_sites(
        self, traced: Traced, inputs: Mapping[str, Any], z: Tensor, plain: list[Evaluated]
    ) -> None:
        """Take the traced values of sites, if they are all there and agree with plain Pyro."""
        complete = set(traced.names) >= set(plain[0][1])
        if traced.sites is not None and complete and sites_agree(traced, inputs, z, plain):
            self._constraining = traced, traced.sites.bind(leaves(inputs))

    def _trace(self) -> None:
        with isolated(0):
            fresh = torch.rand(3, self.size) * 2 - 1
            with enumerating(self.plan.summed):
                plain = [self._plain(z) for z in fresh]
                (again, _), slope = self._plain_gradient(fresh[0])
        if again != plain[0][0] and not again.isnan():
            self.flaw = _RANDOM
        if self.folded is not None and not self._traced_as(self.inputs(self.folded), fresh, plain, slope):
            _KEPT.put(self.structure.call.story, self.key(self.inputs(self.folded)), _REFUSED)
            self.folded = None
        if self.traced_story is None:
            self._traced_as(self.inputs(), fresh, plain, slope)

    def _traced_as(
        self, inputs: Mapping[str, Any], fresh: Tensor, plain: list[Evaluated], slope: Tensor | None
    ) -> bool:
        """Trace the story, folded or not, and take the result if it agrees with plain Pyro."""
        self.note = ""
        try:
            traced = trace_story(self.evaluated, fresh[0], inputs)
        except RandomStoryError:
            self.flaw = _RANDOM
            return False
        except Exception as error:  # whatever a user's program does that cannot be recorded
            self.note = f"the story could not be traced ({first_line(error)})"
            return False
        self.note = disagreement(traced, inputs, fresh, plain, slope)
        if self.note:
            return False
        self._adopt(traced, inputs, fresh, plain)
        if not self.flaw:
            _KEPT.put(self.structure.call.story, self.key(inputs), traced)
        return True

    def _trace_sites(self) -> None:
        """Trace the values of sites with all rows, where the density needs only their sums."""
        story, inputs = self.structure.call.story, self.inputs()
        traced = _KEPT.get(story, self.key(inputs))
        with isolated(1):
            fresh = torch.rand(1, self.size) * 2 - 1
            plain = [self._plain(fresh[0])]
        try:
            if not isinstance(traced, Traced):
                traced = trace_story(self.evaluated, fresh[0], inputs)
                _KEPT.put(story, self.key(inputs), traced)
            self._take_sites(traced, inputs, fresh, plain)
        except Exception:  # whatever a user's program does that cannot be recorded: it is run for each draw
            return

    # ---- what the ladder calls

    def log_prob(self, z: Tensor) -> Tensor:
        """Log joint density with the Jacobian of the constraining map.

        Args:
            z: (draws, size).

        Returns:
            (draws,), in nats.
        """
        self.holes.asked += len(z)
        if self.traced_story is not None:
            return self._by_chunks(lambda part: (self._bound.value(part)[0], part), z)[0]
        with isolated(0):
            value = torch.stack([self._plain(row)[0] for row in z])
        self.holes.look(z, value)
        return value

    def by_pyro(self, point: Tensor) -> float:
        """Log joint density at one point (size,), by plain Pyro, in nats."""
        with isolated(0):
            return float(self._plain(point)[0])

    def value_and_grad(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log joint density and its gradient.

        Args:
            z: (draws, size).

        Returns:
            (draws,) and (draws, size).
        """
        self.gradient_calls += 1
        self.holes.asked += len(z)
        if self.traced_story is not None:
            return self._by_chunks(self._gradient, z)
        value, grad = self._looped_gradient(z)
        self.holes.look(z, value, grad)
        return value, grad

    def _by_chunks(
        self, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Evaluate chunk by chunk, into results that are there beforehand.

        Small results kept between large ones that were given back would leave holes in memory, which the C
        library's aligned allocations do not fill: with many rows it would grow by a chunk for each.
        """
        chunks = self._chunks(z, cast(Traced, self.traced_story).largest)
        if len(chunks) == 1:
            return apart(evaluate, z)
        values, others = z.new_empty(len(z)), torch.empty_like(z)
        start = 0
        for part in chunks:
            stop = start + len(part)
            values[start:stop], others[start:stop] = apart(evaluate, part)
            start = stop
        return values, others

    def _gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = self._bound.gradient(z)
        return value, grad

    def _chunks(self, z: Tensor, largest: int) -> tuple[Tensor, ...]:
        return z.split(max(1, min(4096, _MEMORY // max(1, largest))))

    def _looped_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        values, grads = [], []
        with isolated(0), torch.enable_grad():
            for row in z:
                point = row.detach().clone().requires_grad_()
                try:
                    value = self._plain(point)[0]
                    with ZeroWins():
                        grads.append(torch.autograd.grad(value, point)[0])
                except RuntimeError as error:
                    raise ValueError(
                        f"story: its density has no gradient with respect to the unknowns "
                        f"({first_line(error)}). Between pyro.sample statements use torch operations, not "
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
        if self._constraining is None and self.folded is not None:
            self._trace_sites()
        if self._constraining is not None:
            traced, bound = self._constraining
            parts = [bound.value(part) for part in self._chunks(z, self.run_cost)]
            return {n: torch.cat([p[i] for p in parts]) for i, n in enumerate(traced.names)}
        inputs = self.inputs()
        with isolated(0):
            return Vmapped(lambda point: self._site_values(*self._run(point, inputs)), self.run_cost)(z)
