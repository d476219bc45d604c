"""Which software made a result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

__all__ = ["DISTRIBUTION", "commit", "own_version", "versions"]

# The name under which this project is installed.
DISTRIBUTION = "ppl-workbench"
PACKAGES = ("torch", "pyro-ppl", "numpy", "arviz", "seaborn", "scikit-learn")


def versions() -> dict[str, str]:
    """Name to version: Python, the platform, the libraries, this project and its git commit."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    found["processors"] = str(os.cpu_count())
    if "torch" in sys.modules:
        found["torch threads"] = str(sys.modules["torch"].get_num_threads())
    found.update({name: _version(name) for name in PACKAGES})
    found[DISTRIBUTION] = own_version()
    git = commit()
    return found if git is None else {**found, "git commit": git}


def own_version() -> str:
    """The installed version of this project."""
    return _version(DISTRIBUTION)


def commit() -> str | None:
    """The git commit of this source tree, ``-dirty`` added if files differ; None if unknown."""
    here = Path(__file__)
    # Installed inside somebody else's repository, this file is not tracked there.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
