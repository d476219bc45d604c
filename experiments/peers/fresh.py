"""A peer's two fits in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from experiments.compare import found
from experiments.peers import fits
from experiments.peers.timing import TimedFit, failed, read

__all__ = ["absent", "fresh_run", "peers", "title"]

OURS = "workbench"
ROOT = Path(__file__).parents[2]


def peers() -> list[str]:
    """Return the file names of the other libraries' fits, sorted."""
    return [name for name in found.names(fits) if name != OURS]


def title(peer: str) -> str:
    """What tables call a peer."""
    return str(found.part(fits, peer, "peer").TITLE)


def absent(peer: str) -> list[str]:
    """Return the packages that a peer needs and that are not installed; nothing is imported.

    Examples
    --------
    >>> absent("workbench")
    []
    """
    needs = {name.partition(".")[0] for name in found.part(fits, peer, "peer").NEEDS}
    return sorted(name for name in needs if importlib.util.find_spec(name) is None)


def fresh_run(peer: str, name: str, draws: int = 1000, seed: int = 0, limit: float = 900.0) -> TimedFit:
    """Fit one posterior twice in a process of its own, with no compiled code left over from earlier ones.

    Parameters
    ----------
    peer
        File name in ``fits/``.
    name
        The posterior, as in the database.
    draws
        Of each of four chains.
    seed
        Of the first fit; the second has the next one.
    limit
        Seconds after which the process is ended.

    Returns
    -------
    TimedFit
        With infinite times, and the reason in its notes, if the library failed or took longer.

    Raises
    ------
    ValueError
        If there is no such peer, or its libraries are not installed.
    """
    if missing := absent(peer):
        raise ValueError(f"peer: {peer} needs {', '.join(missing)}: pip install -e '.[peers]'")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "fit.npz")
        command = [sys.executable, "-m", "experiments.peers", peer, name]
        settings = ["--draws", str(draws), "--seed", str(seed), "--out", str(out)]
        try:
            done = subprocess.run(
                [*command, *settings], cwd=ROOT, env=_without_caches(folder), capture_output=True, text=True,
                timeout=limit, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return failed(f"took longer than {limit:.0f} s")
        if done.returncode or not out.exists():
            return failed((done.stderr.strip().splitlines() or ["no message"])[-1])
        return read(out)


def _without_caches(folder: str) -> dict[str, str]:
    """The environment, with the compilers' caches on disk empty, which would outlive a process."""
    flags = [flag for flag in os.environ.get("PYTENSOR_FLAGS", "").split(",") if flag]
    caches = {
        "PYTENSOR_FLAGS": ",".join([*flags, f"base_compiledir={folder}/pytensor"]),
        "NUMBA_CACHE_DIR": f"{folder}/numba",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
    }
    return {**os.environ, **caches}
