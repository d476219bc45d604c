"""What the stories need, the packaging, the import budget, and that nothing global changes."""

import ast
import configparser
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("inference", "ppl_models", "experiments")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
STORIES = [path for path in SOURCES if path.relative_to(ROOT).parts[0] == "ppl_models"]
# Where the name that is imported is not the name that is installed.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "pyro": "pyro-ppl",
    "cycler": "matplotlib",
    "PIL": "matplotlib",
    "pytensor": "pymc",
}


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def imports(path):
    """Absolute names of the modules that a file imports anywhere, also inside functions."""
    package = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            # `from experiments import truth` imports experiments.truth
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def within(name, package):
    return name == package or name.startswith(f"{package}.")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def loaded_after(code, names):
    return run(f"{code}\nimport sys\nprint(sorted({set(names)!r} & set(sys.modules)))")


def test_imports_are_read_from_every_kind_of_statement(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "experiments" / "truth" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text("import x.y\ndef f():\n    from .. import b\n    from .c import d\n    import e\n")
    assert imports(path) >= {"x.y", "experiments.b", "experiments.truth.c", "e"}


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.name)
def test_stories_need_torch_and_pyro_only(path):
    allowed = {"torch", "pyro", "ppl_models"} | sys.stdlib_module_names
    assert {name.split(".")[0] for name in imports(path)} <= allowed


def declared(section, option):
    return {
        line.split()[0].lower().replace("_", "-")
        for line in settings()[section][option].splitlines()
        if line.strip() and not line.startswith("#")
    }


def test_every_library_that_is_imported_is_declared():
    """The other libraries are extras, and only their own room may import them."""
    room = ROOT / "experiments" / "peers"
    required = declared("options", "install_requires")
    for paths, allowed in (
        ([path for path in SOURCES if room not in path.parents], required),
        (room.rglob("*.py"), required | declared("options.extras_require", "peers")),
    ):
        used = {name.split(".")[0] for path in paths for name in imports(path)}
        others = used - set(PACKAGES) - sys.stdlib_module_names
        assert {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in others} <= allowed


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_do_not_import_heavy_libraries(package):
    heavy = ["torch", "arviz", "matplotlib", "seaborn", "sklearn", "pandas", "scipy", "zuko"]
    if package == "ppl_models":
        heavy.remove("torch")
    assert loaded_after(f"import {package}", heavy) == "[]"


def test_using_inference_does_not_import_the_plotting_libraries():
    """Resolving the public names loads torch and Pyro, and none of what is used in few places."""
    code = "from inference import Posterior, fit, load, prior"
    heavy = ["arviz", "matplotlib", "seaborn", "sklearn", "pandas", "xarray", "zuko"]
    assert loaded_after(code, heavy) == "[]"


def test_the_help_of_the_command_does_not_load_torch():
    code = """
import sys
from experiments.cli import main
sys.argv = ["ppl", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code
"""
    assert loaded_after(code, ["torch", "pyro", "arviz", "matplotlib", "seaborn", "sklearn"]) == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_every_module_changes_no_global_state(package):
    code = f"""
import importlib, pkgutil, random, warnings
import arviz, matplotlib.pyplot, numpy, pandas, pyro, scipy.stats, seaborn, sklearn, torch

def state():
    return {{
        "default dtype": torch.get_default_dtype(),
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": repr(numpy.random.get_state()),
        "python generator": random.getstate(),
        "warnings filters": list(warnings.filters),
        "torch validation": torch.distributions.Distribution._validate_args,
        "pyro settings": pyro.settings.get(),
        "pyro parameters": sorted(pyro.get_param_store().keys()),
        "gradient mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "rcParams": dict(matplotlib.rcParams),
    }}

before = state()
package = importlib.import_module({package!r})
names = [m.name for m in pkgutil.walk_packages(package.__path__, {package!r} + ".")]
for name in names:
    importlib.import_module(name)
after = state()
assert names
print([name for name in before if before[name] != after[name]])
"""
    assert run(code) == "[]"


def test_setup_cfg_is_the_only_place_of_the_version():
    version = settings()["metadata"]["version"]
    assert importlib.metadata.version("ppl-workbench") == version, "reinstall the project"
    others = [*SOURCES, ROOT / "pyproject.toml", ROOT / "ruff.toml", ROOT / "README.md"]
    assert [path.name for path in others if version in path.read_text()] == []
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pyproject_holds_the_build_system_only():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[build-system]"]


def test_metadata_of_the_distribution():
    config = settings()
    assert config["options"]["python_requires"] == ">=3.10"
    assert config["options"]["install_requires"].splitlines()[1:3] == [
        "torch >=2.6,<2.14",
        "pyro-ppl >=1.9,<2",
    ]
    assert set(config["options.extras_require"]) == {"test", "dev", "peers"}
    metadata = importlib.metadata.metadata("ppl-workbench")
    assert metadata["License-Expression"] == "MIT"
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="ppl")
    assert command.load().__module__ == "experiments.cli"


def test_every_requirement_has_a_range():
    lines = settings()["options"]["install_requires"].splitlines()
    assert [line for line in lines if line and not line.startswith("#") and ">=" not in line] == []


def test_a_test_that_changes_global_state_fails(tmp_path):
    """And what it changed is put back, so that the test after it passes."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_state.py").write_text(
        """
import pyro, torch

def test_dtype(): torch.set_default_dtype(torch.float64)
def test_parameter(): pyro.param("w", torch.zeros(2))
def test_validation(): pyro.enable_validation(False)
def test_nothing():
    assert torch.get_default_dtype() == torch.float32
    assert not pyro.get_param_store().keys()
    assert pyro.settings.get("validate_poutine")
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ERROR")]
    assert failed == [f"test_state.py::test_{name}" for name in ("dtype", "parameter", "validation")]
    assert "4 passed, 3 errors" in done.stdout
    assert "torch default dtype" in done.stdout
