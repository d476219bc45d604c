"""Where marks of origin are lost: values that leave their tensors, and assignments in place.

A story's dependencies are read off marks that travel with tensors. A branch (``if y == 1:``), a number
(``y.item()``) or an assignment (``loc[0] = mu``) carries a value on without its mark. What was read so is
noted here, and counts as a parent of every later site: an assumption too many costs time, one too few
would be silently wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance, get_provenance
from torch import Tensor
from torch.overrides import TorchFunctionMode

_READS = frozenset(
    "__bool__ __int__ __float__ __index__ __complex__ __array__ __contains__ __setitem__ item tolist numpy "
    "is_nonzero equal allclose".split()
)
_AUGMENTED = frozenset(
    f"__i{name}__"
    for name in "add sub mul div truediv floordiv mod pow and or xor lshift rshift matmul".split()
)


class Reads(TorchFunctionMode):
    """Notes the marks of values that are read out of tensors, or assigned in place, in ``names``.

    Args:
        outside: names of tensors that were there before the run, by their memory; no run may write there.

    Raises:
        ValueError: before something is written there.

    Example:
        >>> import torch
        >>> from pyro.ops.provenance import ProvenanceTensor
        >>> y = ProvenanceTensor(torch.tensor(1.0), frozenset({"y"}))
        >>> with Reads() as reads:
        ...     loc = 3.0 if y > 0 else -3.0
        >>> sorted(reads.names)
        ['y']
    """

    def __init__(self, outside: Mapping[int, str] | None = None) -> None:
        super().__init__()
        self.names: frozenset[str] = frozenset()
        self.outside = outside or {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.startswith("__")
        if name in _READS or in_place or kwargs.get("out") is not None:
            self.names |= get_provenance([args, dict(kwargs)])
        if self.outside and (in_place or name in _AUGMENTED or name == "__setitem__" or "out" in kwargs):
            self._refuse_outside(kwargs.get("out", args[0] if args else None))
        return func(*args, **kwargs)

    def _refuse_outside(self, target: Any) -> None:
        name = self.outside.get(memory(detach_provenance(target))) if isinstance(target, Tensor) else None
        if name is not None:
            raise ValueError(written_outside(name))


def written_outside(name: str) -> str:
    """What to say to a story that writes into what it was not given."""
    return (
        f"story: it writes in place into {name}, which was there before it ran and which every run would "
        f"change again. Pass {name} as an argument (args=), which is copied, or compute something new "
        f"({name} = {name} - ...)."
    )


def memory(value: Tensor) -> int:
    """Where a tensor's numbers are; 0 where it has none."""
    return value.untyped_storage().data_ptr() if value.layout == torch.strided else 0


def reached(story: Any) -> dict[str, Any]:
    """What a story reaches without being given it, by name.

    What is in its closure, the globals that it names, its defaults, and what ``functools.partial`` filled in.
    """
    found: dict[str, Any] = {}
    while isinstance(story, partial):
        found |= {**{f"args[{i}]": v for i, v in enumerate(story.args)}, **story.keywords}
        story = story.func
    function = inspect.unwrap(getattr(type(story), "forward", story))
    if isinstance(function, FunctionType):
        code, cells = function.__code__, function.__closure__ or ()
        found |= {n: function.__globals__[n] for n in code.co_names if n in function.__globals__}
        for name, cell in zip(code.co_freevars, cells, strict=True):
            with suppress(ValueError):  # a variable that is not bound yet
                found[name] = cell.cell_contents
        found |= {n: p.default for n, p in inspect.signature(function).parameters.items()}
    return found


def closed_over(story: Any) -> dict[int, str]:
    """The tensors that a story reaches without being given them, by their memory: name of each.

    Example:
        >>> import torch
        >>> X = torch.ones(3)
        >>> def story(scale=torch.ones(())):
        ...     return scale * X
        >>> sorted(closed_over(story).values())
        ['X', 'scale']
    """
    tensors = {n: v for n, v in reached(story).items() if isinstance(v, Tensor)}
    return {memory(v): n for n, v in tensors.items() if memory(v)}


def unmarked(fn: Any) -> Any:
    """Strip the marks from a distribution's parameters, on a copy."""
    if not isinstance(fn, torch.distributions.Distribution):
        return fn
    plain = fn.__class__.__new__(fn.__class__)
    plain.__dict__ = {
        key: unmarked(value) if isinstance(value, torch.distributions.Distribution) else _strip(value)
        for key, value in fn.__dict__.items()
    }
    return plain


def _strip(value: Any) -> Any:
    marked: Any = value  # detach_provenance is typed for tensors, and takes containers of them
    return detach_provenance(marked) if isinstance(value, Tensor | tuple | list | dict) else value
