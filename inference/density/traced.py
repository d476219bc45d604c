"""A story traced: its log density and its sites as functions of any number of points.

The Pyro program is run once under a recorder. What comes out is compared with plain Pyro at fresh points,
values and a gradient (which a recording can lose while all values are right); if they disagree, or the
program draws random numbers or cannot be recorded, plain Pyro takes over.

What was traced is kept for the next fit of the same story with data of the same shapes (:class:`Kept`). A
tape is a function of the data, the masks and the tensor arguments, so that it serves other numbers too. It is
taken up again only after it agreed with plain Pyro at a fresh point of the new fit: a story may close over
what has changed meanwhile.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from inference.compiler.batched_function import BatchedFunction, leaves, simplified
from inference.compiler.recording import record
from inference.compiler.tape import Tape
from inference.runtime.isolation import isolated

_AGREEMENT = 1e-8  # of the tape with plain Pyro, relative; float64 sums of 1e6 terms stay below it
_STEP = 1e-5  # of differences: about the third root of float64's precision, where their two errors meet
_ROUGHLY = 1e-3  # of a gradient with differences: what is lost differs by more

Evaluated = tuple[Tensor, dict[str, Tensor]]
Entry = TypeVar("Entry")
_PLAIN = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


@dataclass
class Traced:
    """What was traced of a story; it holds no data but what the story closes over.

    Attributes:
        log_prob: from a point and inputs to the log joint density.
        sites: from a point and inputs to the values of sites; ``None`` where that could not be traced.
        names: of these sites, in order.
        cost: elements that the log density at one point goes through.
        largest: elements of its largest intermediate result.
        fixed: positions of the inputs of which numbers are in the tapes.
    """

    log_prob: BatchedFunction
    sites: BatchedFunction | None
    names: tuple[str, ...]
    cost: int
    largest: int
    fixed: frozenset[int] = frozenset()


def trace_story(
    run: Callable[[Tensor, Mapping[str, Any]], tuple[Tensor, dict[str, Tensor], int]],
    z: Tensor,
    inputs: Mapping[str, Any],
) -> Traced:
    """Record a story at a point.

    Args:
        run: (point, inputs) -> log density, values of sites, and the size of the largest intermediate.
        z: (size,).
        inputs: a tree of tensors and plain values.

    Raises:
        Exception: whatever the program does that cannot be recorded.
    """
    names: list[str] = []
    cost = 1

    def outputs(point: Tensor, given: Mapping[str, Any]) -> list[Tensor]:
        nonlocal cost
        value, sites, cost = run(point, given)
        names[:] = list(sites)
        return [value, *sites.values()]

    with isolated(0):
        recording = record(outputs, z, dict(inputs))
        tape = recording.tape
        own = simplified(tape, tape.outputs[:1], density=True)
        sites = simplified(tape, tape.outputs[1:]) if names else None
    if 0 in recording.read:
        raise ValueError("it reads numbers out of the unknowns")
    fixed = frozenset(p - 1 for p in recording.read)
    sizes = _sizes(own.tape)
    return Traced(own, sites, tuple(names), min(cost, sum(sizes)), min(cost, max(sizes)), fixed)


def _sizes(tape: Tape) -> list[int]:
    """Elements of the values that depend on the point: rows may have been folded on the tape."""
    live = tape.depends(tape.inputs[:1])
    return [math.prod([n for n in tape.meta[number].shape if isinstance(n, int)]) for number in live]


def disagreement(
    traced: Traced, inputs: Mapping[str, Any], z: Tensor, plain: Sequence[Evaluated], slope: Tensor | None
) -> str:
    """Why what was traced cannot serve, empty where it can: it differs from plain Pyro at fresh points.

    Args:
        traced: the story.
        inputs: of this fit.
        z: (points, size).
        plain: what plain Pyro gives at each.
        slope: (size,), plain Pyro's gradient at the first point; ``None`` where autograd refuses it.
    """
    bound = traced.log_prob.bind(leaves(inputs))
    expected = torch.stack([value for value, _ in plain])
    try:
        (value,) = bound.value(z)
        again, grad = bound.gradient(z)
        if slope is None:
            lost = _unlike_differences(lambda points: bound.value(points)[0], z[0], grad[0])
        else:
            lost = _unlike(grad[0], slope, _AGREEMENT)
    except RuntimeError as error:
        return f"the story could not be traced ({first_line(error)})"
    gap = torch.maximum((value - expected).abs(), (again - expected).abs())
    same = (gap <= _AGREEMENT * (1 + expected.abs())) | ((value == expected) & (again == expected))
    if not bool(same.all()) and bool(torch.isfinite(expected).any()):
        return f"the traced graph differs from plain Pyro by {gap.max().item():.3g} nats"
    if lost:
        of = "differences of its values" if slope is None else "plain Pyro's"
        return f"the gradient of the traced graph differs from {of} by {lost:.3g}"
    return ""


def _unlike(grad: Tensor, expected: Tensor, tolerance: float) -> float:
    """By how much a gradient differs from the one expected, 0 where that is rounding or not known."""
    known = expected.isfinite()
    gap = (grad[known] - expected[known]).abs().nan_to_num(math.inf)
    scale = 1 + float(expected[known].abs().amax()) if gap.numel() else 1.0
    return float(gap.max()) if bool((gap > tolerance * scale).any()) else 0.0


def _unlike_differences(function: Callable[[Tensor], Tensor], z: Tensor, grad: Tensor) -> float:
    """The same along one direction, by differences of values; 0 where they are not finite."""
    direction = torch.linspace(0.5, 1.0, len(z), dtype=z.dtype)
    ends = function(torch.stack([z + _STEP * direction, z - _STEP * direction]))
    expected = (ends[0] - ends[1]) / (2 * _STEP)
    return _unlike((grad @ direction)[None], expected[None], _ROUGHLY)


def sites_agree(traced: Traced, inputs: Mapping[str, Any], z: Tensor, plain: Sequence[Evaluated]) -> bool:
    """Whether the traced values of sites are plain Pyro's."""
    if traced.sites is None:
        return True
    found = traced.sites.bind(leaves(inputs)).value(z)
    for name, values in zip(traced.names, found, strict=True):
        expected = torch.stack([sites[name] for _, sites in plain])
        if not torch.allclose(values, expected, rtol=_AGREEMENT, atol=_AGREEMENT, equal_nan=True):
            return False
    return True


def first_line(error: Exception) -> str:
    """An error in few words."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


class Kept(Generic[Entry]):
    """A bounded mapping of (story, key) to what was made for them; stories are not kept alive by it.

    Args:
        most: how many entries are kept; the one that was used longest ago goes first.

    Example:
        >>> kept = Kept[int](most=2)
        >>> def story(): ...
        >>> kept.put(story, "three rows", 3)
        >>> kept.get(story, "three rows"), kept.get(story, "four rows")
        (3, None)
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._entries: OrderedDict[tuple[int, Hashable], tuple[weakref.ref[Any], Entry]] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, story: Any, key: Hashable | None) -> Entry | None:
        """What was kept, if anything was; nothing is under the key ``None``."""
        with self._lock:
            found = self._entries.get((id(story), key))
            if found is None or found[0]() is not story:
                return None
            self._entries.move_to_end((id(story), key))
            return found[1]

    def put(self, story: Any, key: Hashable | None, entry: Entry) -> None:
        """Keep something in place of what was kept before; nothing under the key ``None``."""
        if key is None:
            return
        place = (id(story), key)
        try:
            reference = weakref.ref(story, lambda _: self._forget(place))
        except TypeError:  # what cannot be referred to weakly is not kept
            return
        with self._lock:
            self._entries[place] = reference, entry
            self._entries.move_to_end(place)
            while len(self._entries) > self.most:
                self._entries.popitem(last=False)

    def _forget(self, place: tuple[int, Hashable]) -> None:
        with self._lock:
            self._entries.pop(place, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


def key_of_tree(tree: Any) -> Hashable | None:
    """What inputs of one structure have in common: shapes and dtypes of tensors, and all other values.

    ``None`` where it cannot be told, since something is neither a tensor nor a plain value.

    Example:
        >>> import torch
        >>> key_of_tree({"x": torch.ones(3), "n": 3}) == key_of_tree({"x": torch.zeros(3), "n": 3})
        True
    """
    leaves, spec = tree_flatten(tree)
    parts: list[Hashable] = [repr(spec)]
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            parts.append((tuple(leaf.shape), leaf.dtype, leaf.device, leaf.layout))
        elif isinstance(leaf, _PLAIN):
            parts.append((type(leaf), leaf))
        else:
            return None
    return tuple(parts)
