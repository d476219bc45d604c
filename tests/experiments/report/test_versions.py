"""Versions are those that are installed; the commit is that of this source tree, or unknown."""

import importlib.metadata
import platform
import re

from experiments.report import versions as module


def test_versions_name_the_software():
    found = module.versions()
    assert found["python"] == platform.python_version()
    for name in ("numpy", "arviz", "seaborn"):
        assert found[name] == importlib.metadata.version(name)
    assert set(module.PACKAGES) <= set(found)
    assert found.get("git commit") == module.commit()


def test_a_commit_is_a_hash_or_unknown():
    commit = module.commit()
    assert commit is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert module.commit() is None


def test_a_package_that_is_not_installed_is_said():
    assert module._version("no-such-distribution") == "unknown (not installed)"
