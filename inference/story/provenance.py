"""Where marks of origin are lost: values that leave their tensors, and assignments in place.

A story's dependencies are read off marks that travel with tensors. A branch (``if y == 1:``), a number
(``y.item()``) or an assignment (``loc[0] = mu``) carries a value on without its mark. What was read so is
noted here, and counts as a parent of every later site: an assumption too many costs time, one too few
would be silently wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro.ops.provenance import detach_provenance, get_provenance
from torch import Tensor
from torch.overrides import TorchFunctionMode

_READS = frozenset(
    "__bool__ __int__ __float__ __index__ __complex__ __array__ __contains__ __setitem__ item tolist numpy "
    "is_nonzero equal allclose".split()
)


class Reads(TorchFunctionMode):
    """Notes the marks of values that are read out of tensors, or assigned in place, in ``names``.

    Example:
        >>> import torch
        >>> from pyro.ops.provenance import ProvenanceTensor
        >>> y = ProvenanceTensor(torch.tensor(1.0), frozenset({"y"}))
        >>> with Reads() as reads:
        ...     loc = 3.0 if y > 0 else -3.0
        >>> sorted(reads.names)
        ['y']
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: frozenset[str] = frozenset()

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
        return func(*args, **kwargs)


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
