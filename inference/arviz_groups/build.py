"""From named arrays to ArviZ: groups with named dimensions, on ArviZ 0.x and 1.x.

What goes in is numpy, so this file knows neither torch nor Pyro. What comes out opens in ArviZ: an
`arviz.InferenceData` before ArviZ 1.0, an `xarray.DataTree` since. Both give the same groups,
variables, dimensions, coordinates and attributes, are read by `out["posterior"]["mu"]`, and write
netCDF that the other reads. What differs for who works with the result, seen with 0.23 and 1.3:

- `out.groups` is a method in 0.x and a tuple of paths such as `/posterior` in 1.x, where `out` is
  the tree itself and `out["posterior"].dataset` the Dataset.
- `az.summary` adds a 94 % highest density interval (`hdi_3%`, ...) and rounds in 0.x; in 1.x it is
  an 89 % equal-tailed interval (`eti89_lb`, ...), rounded only where it is shown.
- `az.loo` returns `elpd_loo` and `p_loo` in 0.x, `elpd` and `p` in 1.x.
- `az.plot_ppc` of 0.x is `az.plot_ppc_dist` in 1.x, `az.plot_posterior` is `az.plot_dist`;
  `az.plot_trace` and `az.plot_loo_pit` keep their names, and the latter needs `y=` in 0.x only.
- `az.psislw` has no counterpart among the names of 1.x; `inference.checks.psis` is the one used here.
- Touching `az.InferenceData` in 1.x warns, so the version number decides.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.runtime.files import write_bytes

if TYPE_CHECKING:
    import xarray

SAMPLE_DIMS = ("chain", "draw")
SAMPLED = (
    "posterior",
    "log_likelihood",
    "log_prior",
    "sample_stats",
    "posterior_predictive",
    "prior",
    "prior_predictive",
    "prior_sbc",
)
FIXED = ("observed_data", "constant_data", "fit")
# Densities are summed over event dimensions: they have the leading dimensions of their variable.
DENSITIES = ("log_likelihood", "log_prior")

Group = dict[str, np.ndarray]
Groups = Mapping[str, Mapping[str, np.ndarray]]


def build(
    groups: Groups,
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Sequence[Any]],
    attrs: Mapping[str, Any],
) -> Any:
    """Gather named arrays into what the installed ArviZ works with.

    Parameters
    ----------
    groups
        Group -> variable -> array: (chain, draw, *dims) in the groups of `SAMPLED`, (*dims) in
        those of `FIXED`. Masked elements become NaN. A group without variables is left out.
    dims
        Variable -> names of its dimensions after chain and draw, the same in every group; by
        default `<variable>_dim_0`, ... In log_likelihood and log_prior an array may lack trailing
        dimensions, which were summed over.
    coords
        Dimension -> one label for each position; by default 0, 1, ...
    attrs
        Set on the whole and on every group, beside `inference_library`, its version and
        `created_at`. None, bool, dict and list, which netCDF cannot hold, are written as JSON.

    Returns
    -------
    arviz.InferenceData with ArviZ 0.x, xarray.DataTree with 1.x.

    Raises
    ------
    ValueError
        for an unknown group, for names of dimensions or coordinates that do not fit an array, and
        for one dimension that has two lengths in a group.

    Examples
    --------
    >>> out = build(
    ...     {"posterior": {"mu": np.zeros((4, 100, 3))}, "observed_data": {"x": np.ones(3)}},
    ...     dims={"mu": ["school"], "x": ["school"]},
    ...     coords={"school": ["A", "B", "C"]},
    ...     attrs={"trusted": True},
    ... )
    >>> dict(out["posterior"]["mu"].sizes), out["observed_data"].attrs["trusted"]
    ({'chain': 4, 'draw': 100, 'school': 3}, 'true')
    """
    unknown = [group for group in groups if group not in SAMPLED + FIXED]
    if unknown:
        raise ValueError(f"groups: expected some of {SAMPLED + FIXED}, got {unknown}")
    encoded = _attributes(attrs)
    datasets: dict[str, Any] = {
        group: _dataset(group, variables, dims, coords).assign_attrs(encoded)
        for group, variables in groups.items()
        if variables
    }
    _check_names(coords, datasets)
    return _container(datasets, encoded)


def write_netcdf(idata: Any, path: str | os.PathLike[str]) -> Path:
    """Write an `InferenceData` or `DataTree` to a netCDF file, whole or not at all, and return its path.

    `arviz.from_netcdf` reads it. The file is built in memory, compressed: HDF5, when it cannot write to a
    disk, ends the process. It is then written beside its final place and renamed, so that a reader never
    meets half of it and a failure leaves an older file as it was.

    Raises
    ------
    ValueError
        if the folder does not exist.
    OSError
        if the file cannot be written; it says why.
    """
    import h5netcdf
    from xarray.backends import H5NetCDFStore

    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"path: expected a file in an existing folder, got {path}")
    memory = io.BytesIO()
    with h5netcdf.File(memory, "w") as file:
        for group, dataset in _datasets(idata):
            store = H5NetCDFStore(file, group=group, mode="a")
            smaller = {
                name: {"zlib": True} for name, v in dataset.variables.items() if v.dtype.kind in "biufc"
            }
            dataset.dump_to_store(store, encoding=smaller)
    write_bytes(path, memory.getbuffer())
    return path


def _datasets(idata: Any) -> Iterator[tuple[str, xarray.Dataset]]:
    """Every group by its path in a netCDF file, the root first."""
    import xarray

    if isinstance(idata, xarray.DataTree):
        yield from ((node.path, node.to_dataset(inherit=False)) for node in idata.subtree)
    else:
        yield "/", xarray.Dataset(attrs=idata.attrs)
        yield from ((f"/{group}", idata[group]) for group in idata.groups())


def _container(datasets: dict[str, Any], attrs: dict[str, Any]) -> Any:
    import arviz
    import xarray

    if int(arviz.__version__.split(".")[0]) < 1:
        return arviz.InferenceData(attrs=attrs, **datasets)
    tree = xarray.DataTree.from_dict(datasets)
    tree.attrs = dict(attrs)
    return tree


def _dataset(
    group: str,
    variables: Mapping[str, np.ndarray],
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Sequence[Any]],
) -> xarray.Dataset:
    import xarray

    arrays = {name: np.asanyarray(values) for name, values in variables.items()}
    named = {name: _dimensions(group, name, arrays[name], dims) for name in arrays}
    sizes: dict[str, tuple[int, str]] = {}
    for name, values in arrays.items():
        for dimension, length in zip(named[name], values.shape, strict=True):
            known, owner = sizes.setdefault(dimension, (length, name))
            if known != length:
                raise ValueError(
                    f"dims: expected one length of dimension {dimension!r} in group {group!r}, got "
                    f"{known} in {owner!r} and {length} in {name!r}; name the dimensions of one of "
                    f"them differently"
                )
    labels = {name: _labels(name, length, coords) for name, (length, _) in sizes.items()}
    return xarray.Dataset({name: (named[name], arrays[name]) for name in arrays}, coords=labels)


def _dimensions(
    group: str, name: str, values: np.ndarray, dims: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    leading = SAMPLE_DIMS if group in SAMPLED else ()
    rank = values.ndim - len(leading)
    if rank < 0:
        raise ValueError(
            f"groups: expected {name!r} in group {group!r} to have shape (chain, draw, ...), got "
            f"{values.shape}"
        )
    given = tuple(dims.get(name, (f"{name}_dim_{i}" for i in range(rank))))
    if group in DENSITIES:
        given = given[:rank]
    if len(given) != rank or len(set(given + SAMPLE_DIMS)) != rank + 2:
        raise ValueError(
            f"dims: expected {rank} different names other than 'chain' and 'draw' for {name!r}, "
            f"whose shape in group {group!r} is {values.shape}, got {list(given)}"
        )
    return leading + given


def _check_names(coords: Mapping[str, Any], datasets: Mapping[str, Any]) -> None:
    known = {str(name) for dataset in datasets.values() for name in dataset.dims}
    unknown = sorted(set(coords) - known)
    if unknown:
        raise ValueError(f"coords: expected names of dimensions, {sorted(known)}, got {unknown}")


def _labels(dimension: str, length: int, coords: Mapping[str, Sequence[Any]]) -> np.ndarray:
    if dimension not in coords:
        return np.arange(length)
    labels = np.asarray(coords[dimension])
    if labels.shape != (length,):
        raise ValueError(
            f"coords: expected {length} labels of dimension {dimension!r}, got shape {labels.shape}"
        )
    return labels


def _attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        version = importlib.metadata.version("ppl-workbench")
    except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
        version = "unknown"
    own = {
        "inference_library": "ppl-workbench",
        "inference_library_version": version,
        "created_at": datetime.now(timezone.utc).isoformat(),
    }
    return own | {name: _attribute(value) for name, value in attrs.items()}


def _attribute(value: Any) -> str | int | float:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | dict | list | tuple):
        return json.dumps(value, default=str)
    return value if isinstance(value, str | int | float) else str(value)
