"""Save a posterior as a folder of netCDF, JSON and safetensors files, whole or not at all.

``posterior.nc`` holds the draws and opens in ArviZ by itself; ``posterior.json`` the certificate, the
history and how the story was called; ``tensors.safetensors`` the data, the arguments, the guide, and the
parameters of trained programs. :mod:`inference.posterior.load` reads them.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from inference.answers.result import Fit
from inference.arviz_groups.build import build, write_netcdf
from inference.checks.certificate import Certificate
from inference.guides.serialization import Family, to_tensors
from inference.posterior.program_tensors import pack
from inference.runtime.files import sync_folder, write_bytes, writing
from inference.story.programs import FittedGuide

FORMAT = "ppl-workbench posterior 1"
FILES = ("posterior.nc", "posterior.json", "tensors.safetensors")


def save(
    fit: Fit,
    draws: Mapping[str, Tensor],
    family: Family | FittedGuide | None,
    certificate: Certificate,
    history: Sequence[tuple[str, int, float]],
    path: str | os.PathLike[str],
) -> None:
    """Write the parts of a posterior to the folder ``path``; see ``Posterior.save``.

    Each file is built in memory, the largest beside a copy of itself at most, and the folder is swapped in
    when all of them are on the disk.
    """
    path = Path(path)
    if path.exists() and not is_saved(path):
        raise ValueError(
            f"path: {path} exists and is not a saved posterior; it was left alone. Choose another name."
        )
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with writing("the posterior could not be saved", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.mkdir()
            _write(fit, draws, family, certificate, history, part)
            _swap(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def is_saved(path: Path) -> bool:
    """Whether a folder holds a saved posterior."""
    try:
        return json.loads((path / FILES[1]).read_text())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _swap(part: Path, path: Path) -> None:
    """Put the new folder in place; the old one is removed only when the new one stands."""
    old = path.with_name(f".{path.name}.old.{uuid.uuid4().hex}")
    if path.exists():
        path.rename(old)
    try:
        part.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(
    fit: Fit,
    draws: Mapping[str, Tensor],
    family: Family | FittedGuide | None,
    certificate: Certificate,
    history: Sequence[tuple[str, int, float]],
    folder: Path,
) -> None:
    from safetensors.torch import save as to_bytes

    tensors: dict[str, Tensor] = {}
    for name, one in fit.observations.items():
        tensors[f"data/{name}"] = one.value
        if one.seen is not None:
            tensors[f"seen/{name}"] = one.seen
    tensors.update({f"guide/{name}": value for name, value in to_tensors(family).items()})
    facts, trained = pack(fit)
    tensors.update(trained)
    call = fit.structure.call
    page = {
        "format": FORMAT,
        "story": getattr(call.story, "__name__", type(call.story).__name__),
        "args": [_encode(a, f"args/{i}", tensors) for i, a in enumerate(call.args)],
        "kwargs": {k: _encode(a, f"kwargs/{k}", tensors) for k, a in call.kwargs.items()},
        "counts_rows": call.counts_rows,
        "unknown": list(fit.unknown),
        "programs": facts,
        "prior_draws": fit.prior_draws,
        "seed": fit.seed,
        "certificate": certificate.as_dict(),
        "history": list(history),
    }
    filled = {
        "posterior": {escaped(n): v.numpy() for n, v in draws.items()},
        "sample_stats": {n: v.numpy() for n, v in fit.stats.items()},
    }
    write_netcdf(build(filled, {}, {}, {}), folder / FILES[0])
    write_bytes(folder / FILES[1], json.dumps(page, indent=1).encode())
    write_bytes(folder / FILES[2], to_bytes(_apart(tensors)))


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, no two in the same memory; copied only where they were not that."""
    apart: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage()
        if memory.data_ptr() in taken or memory.nbytes() != own.nbytes:
            own = own.clone()
        taken.add(own.untyped_storage().data_ptr())
        apart[name] = own
    return apart


def escaped(name: str) -> str:
    """A site's name as netCDF takes it: there a slash parts groups."""
    return name.replace("%", "%25").replace("/", "%2F")


def _encode(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[key] = value.detach()
        return {"tensor": key}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    if isinstance(value, list | tuple):
        parts = [_encode(v, f"{key}/{i}", tensors) for i, v in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": parts}
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {"dict": {k: _encode(v, f"{key}/{k}", tensors) for k, v in value.items()}}
    return {"opaque": type(value).__name__}
