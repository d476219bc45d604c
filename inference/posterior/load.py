"""Load a saved posterior. Reading its files executes no code: the story is given by whoever loads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.answers.result import Fit
from inference.checks.certificate import Certificate
from inference.guides.serialization import Family, from_tensors
from inference.posterior.posterior import Posterior
from inference.posterior.program_tensors import WITHOUT_GUIDE, require_same, unpack
from inference.posterior.save import FILES, is_saved
from inference.story.call import Call
from inference.story.construct import instance
from inference.story.inspection import inspect_story
from inference.story.observations import Observation
from inference.story.programs import FittedGuide


def _unescaped(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")


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
        ValueError: if the folder is no saved posterior, one of its files is missing or damaged, the story
            does not have its sites, a parameter of the story or the guide has another shape than was saved
            (it names the parameter), or the story gives fitted rows another density than it did.

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
    path = Path(path)
    if not is_saved(path):
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
    observations = {
        name.removeprefix("data/"): Observation(value, tensors.get("seen/" + name.removeprefix("data/")))
        for name, value in tensors.items()
        if name.startswith("data/")
    }
    structure, checked = inspect_story(call, observations)
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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    page = json.loads((path / FILES[1]).read_text())
    draws, tensors = path / FILES[0], path / FILES[2]
    try:
        groups = _groups(draws)
    except FileNotFoundError:
        raise ValueError(f"path: {draws} is missing; restore it, or fit and save again.") from None
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(_damaged(draws, error)) from error
    lacks = [name for name in page["unknown"] if name not in groups["posterior"]]
    if lacks:
        raise ValueError(_damaged(draws, f"it has no draws of {lacks[0]!r}"))
    try:
        return page, load_file(str(tensors)), groups
    except FileNotFoundError:
        raise ValueError(f"path: {tensors} is missing; restore it, or fit and save again.") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(_damaged(tensors, error)) from error


def _groups(file: Path) -> dict[str, dict[str, Tensor]]:
    """The draws by group and site; a group without variables was not written."""
    import h5netcdf
    import xarray

    with h5netcdf.File(file, "r") as stored:
        present = set(stored.groups)
    groups: dict[str, dict[str, Tensor]] = {"posterior": {}, "sample_stats": {}}
    for group in groups.keys() & present:
        with xarray.open_dataset(file, group=group, engine="h5netcdf") as dataset:
            groups[group] = {
                _unescaped(str(n)): torch.from_numpy(v.values.copy()) for n, v in dataset.data_vars.items()
            }
    return groups


def _damaged(file: Path, reason: object) -> str:
    return (
        f"path: {file} is damaged, or was not copied whole: {reason}. Copy it again, or fit and save again."
    )


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
