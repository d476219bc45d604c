"""Save a posterior as a folder of netCDF, JSON and safetensors files, and load it again.

``posterior.nc`` holds the draws and opens in ArviZ by itself; ``posterior.json`` the certificate, the
history and how the story was called; ``tensors.safetensors`` the data, the arguments, the guide, and the
parameters of trained programs.
Reading them executes no code: the story is given by whoever loads.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inference.calls import Call
from inference.certificate import Certificate
from inference.construct import instance
from inference.evidence import Evidence
from inference.fitted import Fit
from inference.guides.stored import Family, from_tensors, to_tensors
from inference.programs import FittedGuide
from inference.states import WITHOUT_GUIDE, pack, require_same, unpack
from inference.structure import inspect_story

if TYPE_CHECKING:
    from inference.posterior import Posterior

_FORMAT = "ppl-workbench posterior 1"
_FILES = ("posterior.nc", "posterior.json", "tensors.safetensors")


def save(posterior: Posterior, path: str | os.PathLike[str]) -> None:
    """Write a posterior to the folder ``path``; see ``Posterior.save``."""
    path = Path(path)
    if path.exists() and not _is_saved(path):
        raise ValueError(
            f"path: {path} exists and is not a saved posterior; it was left alone. Choose another name."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    part.mkdir()
    try:
        _write(posterior, part)
        _swap(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_saved(path: Path) -> bool:
    try:
        return json.loads((path / _FILES[1]).read_text())["format"] == _FORMAT
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
    shutil.rmtree(old, ignore_errors=True)


def _write(posterior: Posterior, folder: Path) -> None:
    from safetensors.torch import save_file

    from inference import groups

    fit, family = posterior._fit, posterior._family
    tensors: dict[str, Tensor] = {}
    for name, one in fit.evidence.items():
        tensors[f"data/{name}"] = one.value
        if one.seen is not None:
            tensors[f"seen/{name}"] = one.seen
    tensors.update({f"guide/{name}": value for name, value in to_tensors(family).items()})
    facts, trained = pack(posterior)
    tensors.update(trained)
    call = fit.structure.call
    page = {
        "format": _FORMAT,
        "story": getattr(call.story, "__name__", type(call.story).__name__),
        "args": [_encode(a, f"args/{i}", tensors) for i, a in enumerate(call.args)],
        "kwargs": {k: _encode(a, f"kwargs/{k}", tensors) for k, a in call.kwargs.items()},
        "counts_rows": call.counts_rows,
        "unknown": list(fit.unknown),
        "programs": facts,
        "prior_draws": fit.prior_draws,
        "seed": fit.seed,
        "certificate": posterior.certificate.as_dict(),
        "history": posterior.history,
    }
    filled = {
        "posterior": {_escaped(n): v.numpy() for n, v in posterior.draws.items()},
        "sample_stats": {n: v.numpy() for n, v in fit.stats.items()},
    }
    groups.write_netcdf(groups.build(filled, {}, {}, {}), folder / _FILES[0])
    (folder / _FILES[1]).write_text(json.dumps(page, indent=1))
    save_file({n: t.cpu().contiguous().clone() for n, t in tensors.items()}, str(folder / _FILES[2]))


def _escaped(name: str) -> str:
    """A site's name as netCDF takes it: there a slash parts groups."""
    return name.replace("%", "%25").replace("/", "%2F")


def _unescaped(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")


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


def _decode(item: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    ((kind, value),) = item.items()
    if kind == "tensor":
        return tensors[value]
    if kind in ("tuple", "list"):
        parts = [_decode(v, tensors) for v in value]
        return tuple(parts) if kind == "tuple" else parts
    if kind == "dict":
        return {k: _decode(v, tensors) for k, v in value.items()}
    if kind == "opaque":
        raise ValueError(
            f"args: the posterior was saved with an argument of type {value}, which is not data. Pass "
            f"args= and kwargs= to load."
        )
    return value


def load(
    path: str | os.PathLike[str],
    story: Callable[..., Any],
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    guide: Any = None,
) -> Posterior:
    """Load a saved posterior. Nothing in the files is executed.

    Args:
        path: the folder that ``Posterior.save`` wrote.
        story: the story that was fitted: a function, a module (any instance of the same sizes), its class
            or a ``functools.partial`` of it.
        args, kwargs: what it is called with; by default as it was fitted.
        guide: that was fitted with it, for latent sites of rows; by default the one that stands beside the
            story in its module. Without any, such sites of new rows are proposed from their prior.

    Raises:
        ValueError: if the folder is no saved posterior, the story does not have its sites, a parameter of
            the story or the guide has another shape than was saved (it names the parameter), or the story
            gives fitted rows another density than it did.

    Example:
        >>> import pyro, torch, tempfile, os
        >>> import pyro.distributions as dist
        >>> from inference import fit, load
        >>> def story(n):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", n):
        ...         pyro.sample("x", dist.Normal(mu, 2.0))
        >>> posterior = fit(story, {"x": torch.tensor([3.0, 5.0, 4.0, 8.0])})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     posterior.save(os.path.join(folder, "mu"))
        ...     again = load(os.path.join(folder, "mu"), story)
        >>> bool((again.draws["mu"] == posterior.draws["mu"]).all())
        True
    """
    from inference.posterior import Posterior

    path = Path(path)
    if not _is_saved(path):
        raise ValueError(f"path: expected a folder that Posterior.save wrote, got {path}.")
    page, tensors, groups = _read(path)
    counts = page["counts_rows"]
    if args is None:
        args = tuple(_decode(a, tensors) for a in page["args"])
    if kwargs is None:
        kwargs = {k: _decode(a, tensors) for k, a in page["kwargs"].items()}
    pairs, local = unpack(page["programs"], tensors, story, guide) if page.get("programs") else ([], None)
    best = local.best if local is not None else 0
    bound = Call.bind(pairs[best].story if pairs else instance(story), args, kwargs)
    call = Call(bound.story, bound.args, bound.kwargs, counts or bound.counts_rows)
    evidence = {
        name.removeprefix("data/"): Evidence(value, tensors.get("seen/" + name.removeprefix("data/")))
        for name, value in tensors.items()
        if name.startswith("data/")
    }
    structure, checked = inspect_story(call, evidence)
    draws = groups["posterior"]
    _check_sites(path, structure.sites, page["unknown"], draws)
    fit = Fit(
        structure, checked, tuple(page["unknown"]), groups["sample_stats"], draws,
        prior_draws=page["prior_draws"], seed=page["seed"], local=local,
    )  # fmt: skip
    require_same(fit, (page.get("programs") or {}).get("log_joint", []))
    certificate = Certificate.of_dict(page["certificate"])
    family: Family | FittedGuide | None = from_tensors(
        {n.removeprefix("guide/"): t for n, t in tensors.items() if n.startswith("guide/")}
    )
    if family is None and local is not None and local.guide is not None:
        seen = {n: e.seen for n, e in checked.items() if e.seen is not None}
        data = {n: e.value for n, e in checked.items()}
        family = FittedGuide(local.guide.program, local.guide.params, data, seen)
    elif family is None and local is not None and page["programs"]["guide"] is not None:
        certificate = replace(certificate, notes=(*certificate.notes, WITHOUT_GUIDE))
    return Posterior(fit, certificate, family, [tuple(row) for row in page["history"]])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    import xarray
    from safetensors.torch import load_file

    groups: dict[str, dict[str, Tensor]] = {}
    for group in ("posterior", "sample_stats"):
        try:
            with xarray.open_dataset(path / _FILES[0], group=group, engine="h5netcdf") as stored:
                groups[group] = {
                    _unescaped(str(n)): torch.from_numpy(v.values.copy()) for n, v in stored.data_vars.items()
                }
        except OSError:  # a group without variables is not written
            groups[group] = {}
    page = json.loads((path / _FILES[1]).read_text())
    return page, load_file(str(path / _FILES[2])), groups


def _check_sites(
    path: Path, sites: Mapping[str, Any], unknown: list[str], draws: Mapping[str, Tensor]
) -> None:
    for name in unknown:
        if name not in sites or sites[name].shape != draws[name].shape[2:]:
            got = tuple(sites[name].shape) if name in sites else "no such site"
            raise ValueError(
                f"story: {path} holds draws of {name!r} of shape {tuple(draws[name].shape[2:])}, the "
                f"story has {got}. Load it with the story and the arguments that were fitted."
            )
