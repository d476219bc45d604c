"""Stories named on the command line, ``FILE.py:STORY`` or ``package.module:story``."""

from __future__ import annotations

import importlib
import inspect
import json
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import experiments
import inference
from experiments.report.errors import InputError
from experiments.report.script import beside, import_file, name_of

__all__ = ["StoryFile", "first_line", "parse_arguments", "place", "story_file"]


@dataclass(frozen=True)
class StoryFile:
    """A story, its name, and the example that stands beside it in its module, if any.

    A story that is a class is constructed with its defaults; ``written`` is the class itself, of which
    ``inference.fit`` makes a new one for every restart.
    """

    story: Callable[..., Any]
    name: str
    args: tuple[Any, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    written: Any = None
    docstring: str = ""


@contextmanager
def story_file(where: str) -> Iterator[StoryFile]:
    """Load the story that ``FILE.py:STORY`` or ``package.module:story`` names.

    Without ``:STORY``, the story that bears its module's name is meant. While the block lasts, the
    story may import what lies beside its file.

    Raises
    ------
    InputError
        If there is no such file, module or story, or it cannot be loaded; in one line.
    """
    source, colon, name = where.rpartition(":")
    if not colon or not name.isidentifier():
        source, name = where, ""
    is_file = source.endswith(".py") or Path(source).exists()
    with beside(Path(source) if is_file else Path.cwd() / "module"):
        module = _import(source, is_file)
        name = name or name_of(getattr(module, "__file__", None) or source)
        story = _find(module, name, source)
        args, data = _example(module)
        yield StoryFile(_constructed(story, where), name, args, data, story, module.__doc__ or "")


def parse_arguments(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a story from JSON: a list is positional, an object goes by name.

    Lists inside become tensors.

    Examples
    --------
    >>> parse_arguments('[100, [0.5, 1.5]]')
    ((100, tensor([0.5000, 1.5000])), {})
    >>> parse_arguments('{"n": 100}')
    ((), {'n': 100})
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--args is not JSON: {error.msg} at character {error.pos + 1}") from error
    if isinstance(value, list):
        return tuple(_argument(item) for item in value), {}
    if isinstance(value, dict):
        return (), {name: _argument(item) for name, item in value.items()}
    raise InputError(f"--args: expected a JSON list such as '[100]' or an object, got {text}")


def first_line(error: BaseException) -> str:
    """An exception in one line: its type, its message, and where in the user's file it rose."""
    # Pyro appends the shapes of all sites, many lines long.
    words = " ".join(str(error).partition("Trace Shapes:")[0].split()) or "no message"
    shown = words if len(words) <= 300 else f"{words[:300]} ..."
    where = place(error)
    return f"{type(error).__name__}: {shown}" + (f" ({where})" if where else "")


def place(error: BaseException) -> str:
    """File and line of the user's own code where an exception rose; empty if it was elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(f.filename).name}, line {f.lineno}" for f in frames if _is_own(f.filename)]
    return own[-1] if own else ""


def _is_own(file: str) -> bool:
    """Whether a frame is the user's: outside Python's library, installed packages and this one."""
    library = [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen"]
    rooms = [str(Path(room.__file__).parent) for room in (experiments, inference) if room.__file__]
    return not file.startswith((*library, *rooms))


def _import(source: str, is_file: bool) -> ModuleType:
    try:
        return import_file(Path(source)) if is_file else importlib.import_module(source)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (source == error.name or source.startswith(f"{error.name}.")):
            raise InputError(f"no file and no module {source}") from error
        raise InputError(f"{source} cannot be loaded: {first_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{source} cannot be loaded: {first_line(error)}") from error


def _find(module: ModuleType, name: str, source: str) -> Callable[..., Any]:
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, torch.nn.Module) or _is_module(value))
        and getattr(value, "__module__", module.__name__) == module.__name__
    ]
    if not hasattr(module, name):
        close = get_close_matches(name, own, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(own) or 'no function'}"
        raise InputError(f"{source} has no story {name}; {hint}")
    story = getattr(module, name)
    if inspect.isclass(story) and not issubclass(story, torch.nn.Module):
        raise InputError(
            f"{source}:{name} is a class, but no PyroModule; a story is a function or a PyroModule"
        )
    if not callable(story):
        raise InputError(f"{source}:{name} is not a story: it is of type {type(story).__name__}")
    found: Callable[..., Any] = story
    return found


def _is_module(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, torch.nn.Module)


def _constructed(story: Any, where: str) -> Callable[..., Any]:
    """A story that is a class, made with its defaults; the random state stays as it was."""
    if not inspect.isclass(story):
        return story
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made: Any = story()
            return made
    except Exception as error:
        raise InputError(
            f"{where}: {story.__name__}() cannot be constructed without arguments: {first_line(error)}. Name "
            f"an instance, made as story = {story.__name__}(...)"
        ) from error


def _example(module: ModuleType) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    example = getattr(module, "EXAMPLE", None)
    if example is None:
        return (), {}
    match example:
        case (tuple() as args, Mapping() as data):
            return args, data
    kind = type(example).__name__
    raise InputError(f"{module.__name__}: expected EXAMPLE = (args, data), got {kind}")


def _argument(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    try:
        return torch.tensor(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"--args: a list inside cannot be made a tensor: {error}") from error
