"""Experiments are found by reading their source, and loaded only when they run.

An experiment is a file ``NAME.py``, or, where it has helpers, the file ``__main__.py`` of a folder ``NAME``:
``python -m`` runs both by that name.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from experiments.report.errors import InputError

__all__ = ["Script", "beside", "called", "import_file", "load", "name_of", "question_of", "scan"]

FOLDER = Path(__file__).parents[1]
# The file that Python runs where it is given a folder or a package.
MAIN = "__main__"


@dataclass(frozen=True)
class Script:
    """An experiment's file, its name, and the question it answers.

    ``alone`` says that it measures time, or fills the machine with processes of its own: the module
    declares ``ALONE = True``, and ``ppl run --all`` runs nothing beside it.
    """

    path: Path
    name: str
    question: str
    alone: bool = False


def scan(folder: Path = FOLDER) -> list[Script]:
    """All experiments in a folder, by name; nothing is imported or executed.

    An experiment is a Python file, or the file ``__main__.py`` in a folder, with a function ``main`` whose
    first argument is ``run``.

    Raises
    ------
    InputError
        If a file cannot be read as Python, or two experiments have one name.
    """
    found: dict[str, Script] = {}
    for path in [*folder.glob("*.py"), *folder.glob(f"*/{MAIN}.py")]:
        tree, name = _parse(path), name_of(path)
        if any(_is_main(node) for node in tree.body):
            if name in found:
                raise InputError(f"two experiments are called {name}: {found[name].path} and {path}")
            question = question_of(ast.get_docstring(tree), name)
            found[name] = Script(path, name, question, any(map(_is_alone, tree.body)))
    return [found[name] for name in sorted(found)]


def name_of(file: str | Path) -> str:
    """The name of an experiment or a story by its file; of a file ``__main__.py``, that of its folder.

    Examples
    --------
    >>> name_of("experiments/coin.py"), name_of("experiments/coin/__main__.py")
    ('coin', 'coin')
    """
    path = Path(file)
    return Path(os.path.abspath(path)).parent.name if path.stem == MAIN else path.stem


def called(file: str | Path) -> Path:
    """What Python and ``ppl run`` are told to run it: the file, or the folder whose ``__main__.py`` it is.

    Examples
    --------
    >>> str(called("experiments/coin.py")), str(called("experiments/coin/__main__.py"))
    ('experiments/coin.py', 'experiments/coin')
    """
    path = Path(file)
    return path.parent if path.stem == MAIN else path


def question_of(docstring: str | None, name: str) -> str:
    """The first line of a docstring, or the name where there is none."""
    lines = (docstring or "").strip().splitlines()
    return lines[0].strip() if lines else name


def load(experiment: str | Path | ModuleType) -> ModuleType:
    """The module of an experiment: a module, a dotted module name, or a file.

    Of a package without a function ``main`` it is the module ``__main__`` in it. The file that is running as
    ``__main__`` is not executed a second time.

    Raises
    ------
    InputError
        If there is no such file or module, or it has no function ``main(run)``.
    """
    if isinstance(experiment, ModuleType):
        module = experiment
    elif isinstance(experiment, str) and not experiment.endswith(".py"):
        module = _imported(experiment)
    else:
        module = _running(Path(experiment)) or import_file(Path(experiment))
    if not inspect.isfunction(getattr(module, "main", None)):
        where = getattr(module, "__file__", None) or module.__name__
        raise InputError(f"{where} is not an experiment: it has no function main(run)")
    return module


def import_file(path: Path) -> ModuleType:
    """Execute a Python file as a module of its own, beside whatever else bears its name.

    Raises
    ------
    InputError
        If there is no such file, or it is not Python.
    """
    _parse(path)
    path = path.resolve()
    # Two files named alike in different folders must not meet in sys.modules.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"{name_of(path)}_{digest}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be loaded as a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


@contextmanager
def beside(path: Path) -> Iterator[None]:
    """Let a file import the modules beside it, as ``python FILE`` does, while the block lasts."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _imported(name: str) -> ModuleType:
    module = importlib.import_module(name)
    script = f"{name}.{MAIN}"
    packed = not hasattr(module, "main") and hasattr(module, "__path__")
    return importlib.import_module(script) if packed and importlib.util.find_spec(script) else module


def _running(path: Path) -> ModuleType | None:
    main = sys.modules.get(MAIN)
    file = getattr(main, "__file__", None)
    same = file is not None and os.path.exists(file) and path.exists() and path.samefile(file)
    return main if same else None


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise InputError(f"{path} is not a Python file{where}: {error.msg}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a Python file: {error}") from error


def _is_main(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef) or node.name != "main":
        return False
    arguments = node.args.posonlyargs + node.args.args
    return bool(arguments) and arguments[0].arg == "run"


def _is_alone(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node) == "ALONE = True"
