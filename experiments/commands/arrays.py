"""Data from an ``.npz`` file: sites, their missing values, and arguments of the story."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.report.errors import InputError

__all__ = ["argument_names", "read_arrays", "split", "with_masks"]

# NAME__mask says which elements of NAME are missing: npz files hold no masked arrays.
MASK = "__mask"

Array = NDArray[Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an npz file; nothing in it is executed.

    Raises
    ------
    InputError
        If there is no such file, it is no npz file, or an array holds no numbers.
    """
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise InputError(f"{path} holds one array; save it by name: np.savez(file, x=x)")
            arrays = {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not an npz file of numbers: {error}") from error
    if not arrays:
        raise InputError(f"{path} holds no arrays")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"{path}: {name} holds {array.dtype}, expected numbers")
    return arrays


def with_masks(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays without masks; where ``NAME__mask`` stands beside ``NAME``, a masked array.

    Raises
    ------
    InputError
        If a mask has no array, another shape, or is not boolean.
    """
    found = {name: array for name, array in arrays.items() if not name.endswith(MASK)}
    for name, mask in arrays.items():
        if not name.endswith(MASK):
            continue
        target = name.removesuffix(MASK)
        if target not in found:
            raise InputError(f"{name} has no {target} beside it; got {', '.join(arrays)}")
        if mask.shape != found[target].shape or mask.dtype.kind != "b":
            raise InputError(
                f"{name}: expected booleans (True is missing) of the shape {found[target].shape} "
                f"of {target}, got {mask.dtype} of shape {mask.shape}"
            )
        found[target] = np.ma.MaskedArray(found[target], mask)
    return found


def argument_names(story: Callable[..., Any]) -> dict[str, bool]:
    """Names of a story's arguments; True for those that must be given."""
    call = story.forward if isinstance(story, torch.nn.Module) else story
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind not in kinds
    }


def as_argument(name: str, array: Array) -> Any:
    """A number where the array holds a single one without axes, else a tensor."""
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name} is an argument of the story and cannot have missing values")
    return array.item() if array.ndim == 0 else torch.from_numpy(np.ascontiguousarray(array))


def split(
    arrays: Mapping[str, Array], arguments: Mapping[str, bool], sites: Collection[str]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The arrays that are arguments of the story, and those that are data.

    A required argument comes first, then the sites, then the other arguments. What is none of
    them stays among the data, where ``inference.fit`` refuses it by name.
    """
    given = {
        name: as_argument(name, array)
        for name, array in arrays.items()
        if name in arguments and (arguments[name] or name not in sites)
    }
    return given, {name: array for name, array in arrays.items() if name not in given}
