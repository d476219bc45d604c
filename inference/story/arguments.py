"""What a story is called with: its arguments under their names, as copies, complex numbers refused.

A story may write into its arguments (``X -= X.mean()``). The caller's arrays stay as they were, since a call
holds copies (:meth:`inference.story.call.Call.bind`); and every run sees what the first one saw, since a call
whose run changed something hands out fresh copies from then on (:func:`changed`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import SequenceKey, keystr, tree_flatten, tree_flatten_with_path, tree_map

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Path = tuple[Any, ...]


def paths(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[Path, Any]]:
    """Every number, tensor and object in the arguments, with the way to it, in torch's order of leaves."""
    return tree_flatten_with_path((tuple(args), dict(kwargs)))[0]


def spoken(signature: inspect.Signature, path: Path) -> str:
    """What to call a part of the arguments: the parameter's name, and where in it the part stands.

    Example:
        >>> def story(n, covariates, *rest): ...
        >>> signature = inspect.signature(story)
        >>> [spoken(signature, path) for path, _ in paths((3, {"age": 1.0}, 5, [7]), {})]
        ['n', "covariates['age']", 'rest[0]', 'rest[1][0]']
    """
    first, own, rest = path[0], path[1], path[2:]
    if first.idx == 1:
        return str(own.key) + keystr(rest)
    parameters = list(signature.parameters.values())
    named = [p.name for p in parameters if p.kind in _POSITIONAL]
    if own.idx < len(named):
        return named[own.idx] + keystr(rest)
    others = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "args")
    return f"{others}[{own.idx - len(named)}]" + keystr(rest)


def refuse_complex(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse complex numbers by name: on their way to float64 they would lose their imaginary parts.

    Raises:
        ValueError: naming the argument, and what to pass instead.
    """
    if not any(map(_complex, tree_flatten((tuple(args), dict(kwargs)))[0])):
        return
    path, value = next((p, v) for p, v in paths(args, kwargs) if _complex(v))
    name, kind = spoken(signature, path), getattr(value, "dtype", "complex")
    raise ValueError(
        f"{name}: expected real numbers, got {kind}. Densities are computed in real numbers, and the "
        f"imaginary part would be lost. Pass the real and the imaginary parts as two arguments ({name}.real, "
        f"{name}.imag), and put them together inside the story (torch.complex) where it needs them so."
    )


def _complex(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_complex()
    return bool(isinstance(value, complex | np.ndarray | np.generic) and np.iscomplexobj(value))


def copies(tree: Any) -> Any:
    """The same tree, with containers, tensors, data frames, dataclasses and namespaces of its own."""
    return tree_map(_copy, tree)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if is_table(value) or _is_record(value):
        try:
            return deepcopy(value)
        except (RuntimeError, TypeError):  # it holds a tensor with a gradient, a lock, an open file
            return value
    return value


def is_table(value: Any) -> bool:
    """Whether it is an array, or a table or column of pandas or xarray: a story may write into it."""
    frame = type(value).__module__.split(".")[0] in ("pandas", "xarray") and hasattr(value, "equals")
    return frame or isinstance(value, np.ndarray)


def _is_record(value: Any) -> bool:
    """Whether it is an object that only holds values under names."""
    return isinstance(value, SimpleNamespace) or (is_dataclass(value) and not isinstance(value, type))


def changed(tree: Any, copy: Any) -> bool:
    """Whether a run that was given a copy has changed it: a number, a shape, or what a container holds.

    The numbers are compared, since not every way to write is counted by torch (``X.numpy()`` is not).

    Example:
        >>> kept = ([1.0, torch.zeros(2)],)
        >>> given = copies(kept)
        >>> changed(kept, given), given[0][1].add_(1.0), changed(kept, given)
        (False, tensor([1., 1.]), True)
    """
    (own, form), (others, other) = tree_flatten(tree), tree_flatten(copy)
    return form != other or not all(map(_same, own, others))


def _same(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return one is other or (type(one) is type(other) and _same_inside(one, other))
    if one.shape != other.shape or one.dtype != other.dtype or one.requires_grad != other.requires_grad:
        return False
    if one.layout != torch.strided:  # rows of a sparse tensor cannot be compared one by one
        return False
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


def _same_inside(one: Any, other: Any) -> bool:
    """The same for two objects of one type, of which one is a copy."""
    if isinstance(one, np.ndarray):
        if one.dtype == object:
            return bool(one.shape == other.shape and one.tolist() == other.tolist())
        return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if is_table(one):
        return bool(one.equals(other))
    if _is_record(one) and hasattr(one, "__dict__"):
        return not changed(vars(one), vars(other))
    return False


def sequence_of(path: Path) -> Path | None:
    """The way to the list or tuple in which a part of an argument stands, if it stands in one."""
    return path[:-1] if len(path) > 2 and isinstance(path[-1], SequenceKey) else None
