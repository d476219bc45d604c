"""The files of posteriordb, read from where PDB_PATH says they lie."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def root() -> Path:
    """Return the database's folder.

    Raises
    ------
    ValueError
        If PDB_PATH is not set, or is not such a folder.
    """
    path = os.environ.get("PDB_PATH", "")
    if not path or not Path(path, "posteriors").is_dir():
        raise ValueError(
            f"PDB_PATH: expected an environment variable that names posteriordb's folder posterior_database "
            f"(git clone https://github.com/stan-dev/posteriordb), got {path!r}"
        )
    return Path(path)


def posteriors() -> list[tuple[str, str, str]]:
    """Return (posterior, model, data) for every posterior whose reference draws are there, sorted."""
    base = root()
    rows = []
    for path in sorted((base / "posteriors").glob("*.json")):
        entry = json.loads(path.read_text())
        if (base / "reference_posteriors/draws/draws" / f"{path.stem}.json.zip").is_file():
            rows.append((path.stem, entry["model_name"], entry["data_name"]))
    return rows


def data(name: str) -> dict[str, Any]:
    """Return a data set as Stan gets it, by variable."""
    return dict(_unpack(f"data/data/{name}.json.zip"))


def reference(name: str) -> dict[str, Tensor]:
    """Return the reference draws by parameter, (draws, *shape), float64, all chains joined.

    The elements of a vector come as ``beta[1]``, ``beta[2]``, ... and are put together again.
    """
    chains = _unpack(f"reference_posteriors/draws/draws/{name}.json.zip")
    joined: dict[str, Tensor] = {}
    for key in chains[0]:
        column = torch.tensor([value for chain in chains for value in chain[key]], dtype=torch.float64)
        whole, _, index = key.partition("[")
        if not index:
            joined[whole] = column
            continue
        before = joined.get(whole, column[:, None][:, :0])
        if index != f"{before.shape[1] + 1}]":
            raise ValueError(f"{name}: expected the elements of vectors in order, got {', '.join(chains[0])}")
        joined[whole] = torch.cat([before, column[:, None]], 1)
    return joined


def _unpack(path: str) -> Any:
    with zipfile.ZipFile(root() / path) as packed:
        return json.loads(packed.read(packed.namelist()[0]))
