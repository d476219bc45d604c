"""Which values a story mixes: what it computes from discrete sites is computed for other values, too.

Beside every tensor that depends on the followed sites stand two others, computed by the same operations:
what it would be with half of the rows at other values, and with the other half. An element of a tensor that
differs in both hangs on rows of both halves: it mixes rows. So a sum over rows is found, however it is
spelled, also where it is compared with a threshold that is never reached.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_READ_OUT = frozenset(
    "__bool__ __int__ __float__ __index__ __complex__ __array__ __contains__ item tolist numpy is_nonzero "
    "equal allclose".split()
)
_VALIDATING = ("torch.distributions.", "pyro.distributions.")
_ROUNDING = 1e-5  # relative; far above that of single precision in one operation


@dataclass
class Mark:
    """What is known of a tensor that depends on followed sites.

    Attributes:
        value: the tensor; held, so that nothing else takes its place.
        names: the sites.
        others: the tensor at the two other sets of values; ``None`` where that is not known.
        mixed: the operation that mixed rows on the way to it; empty if none did.
    """

    value: Tensor
    names: frozenset[str]
    others: tuple[Tensor, Tensor] | None
    mixed: str = ""


class Followed(TorchDispatchMode):
    """Follows what is computed from some tensors, for two other sets of values at once.

    Args:
        values: site -> its value, and the two others, in which no element differs from the value in both.

    Attributes:
        read: site -> how its value, or something computed from it, left the tensors.

    Example:
        >>> import torch
        >>> b = torch.zeros(4)
        >>> others = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
        >>> with torch.no_grad(), Followed({"b": (b, others)}) as followed:
        ...     own, shared = 2.0 * b, torch.where(b.sum() > 90, 1.0, 2.0)
        >>> followed.mark(own).mixed, followed.mark(shared).mixed
        ('', 'sum')
    """

    def __init__(self, values: Mapping[str, tuple[Tensor, tuple[Tensor, Tensor]]]) -> None:
        super().__init__()
        self.read: dict[str, str] = {}
        self._marks = {id(v): Mark(v, frozenset({n}), others) for n, (v, others) in values.items()}
        self._written: dict[int, Mark] = {}  # memory -> what was written there in place
        self._reading = _Reading(self)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would otherwise import its compiler at the first operation, for a second."""
        return False

    def __enter__(self) -> Followed:
        """Follow until the block ends."""
        super().__enter__()
        self._reading.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop following."""
        self._reading.__exit__(*error)
        super().__exit__(*error)

    def mark(self, value: Any) -> Mark | None:
        """What is known of a value; ``None`` where it does not depend on followed sites."""
        if not isinstance(value, Tensor):
            return None
        written = self._written.get(_memory(value)) if self._written else None
        return written or self._marks.get(id(value))

    def note_read(self, names: frozenset[str], how: str) -> None:
        """Note that values that depend on the sites left their tensors."""
        for name in names:
            self.read.setdefault(name, how)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        found = [m for leaf in tree_leaves((args, kwargs)) if (m := self.mark(leaf)) is not None]
        if not found:
            return func(*args, **kwargs)
        writes = func._schema.is_mutable
        others = None if writes else self._others(func, args, kwargs)
        result = func(*args, **kwargs)
        names = frozenset[str]().union(*(m.names for m in found))
        mixed = next((m.mixed for m in found if m.mixed), "")
        for place, value in enumerate(_tensors(result)):
            pair = None if others is None else (others[0][place], others[1][place])
            self._follow(value, names, pair, mixed, func.overloadpacket.__name__, writes)
        return result

    def _others(self, func: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], list[Tensor]] | None:
        """The results for the two other sets of values; ``None`` where there are none."""
        found = []
        for side in (0, 1):
            swapped = tree_map(lambda leaf, side=side: self._other(leaf, side), (args, kwargs))
            try:
                found.append(_tensors(func(*swapped[0], **swapped[1])))
            except (RuntimeError, IndexError, ValueError):  # shapes that follow values, say
                return None
        return (found[0], found[1]) if len(found[0]) == len(found[1]) else None

    def _other(self, leaf: Any, side: int) -> Any:
        known = self.mark(leaf)
        return leaf if known is None or known.others is None else known.others[side]

    def _follow(
        self, value: Tensor, names: frozenset[str], others: Any, mixed: str, how: str, writes: bool
    ) -> None:
        if others is not None and any(other.shape != value.shape for other in others):
            self.note_read(names, how)  # its shape tells of values
            others, mixed = None, mixed or how
        if others is not None and not mixed:
            both = _differs(value, others[0]) & _differs(value, others[1])
            mixed = how if bool(both.any()) else ""
        mark = Mark(value, names, others, mixed)
        if writes:
            self._written[_memory(value)] = mark
        self._marks[id(value)] = mark


class _Reading(TorchFunctionMode):
    """Notes which followed values are read by Python."""

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self.followed = followed

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _READ_OUT and not _in_library(sys._getframe(1)):
            for leaf in tree_leaves((args, dict(kwargs))):
                known = self.followed.mark(leaf)
                if known is not None:
                    self.followed.note_read(known.names, name.strip("_"))
        return func(*args, **kwargs)


def _in_library(frame: FrameType) -> bool:
    """Whether a value is read by a distribution that validates its arguments: that decides nothing."""
    return str(frame.f_globals.get("__name__", "")).startswith(_VALIDATING)


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def _differs(value: Tensor, other: Tensor) -> Tensor:
    """Which elements differ by more than rounding."""
    if not value.is_floating_point():
        return value != other
    near = (value - other).abs() <= _ROUNDING * (1 + value.abs())
    return ~(near | (value == other) | (value.isnan() & other.isnan()))
