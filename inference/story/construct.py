"""Stories and guides given as classes: constructed anew for every restart, the guide from its story.

A network is drawn when it is constructed. A story that is given as a class is therefore constructed once
for every restart, under that restart's seed, so that restarts are independent; an instance is copied, and
all its restarts begin at the same network.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule

from inference.runtime.isolation import isolated
from inference.story.call import story_name

Maker = Callable[[int], Callable[..., Any]]


def maker(story: Any) -> Maker | None:
    """Return what constructs a story from a seed, or ``None`` where the story is no class.

    Args:
        story: a class whose instances are stories, a ``functools.partial`` of one that sets its options,
            or a story.

    Raises:
        ValueError: by the maker, if the class cannot be constructed without further arguments, or its
            instances cannot be called.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> make = maker(partial(torch.nn.Linear, 2, 1))
        >>> bool((make(1).weight == make(1).weight).all()), bool((make(1).weight == make(2).weight).any())
        (True, False)
    """
    return partial(_make, story) if isinstance(getattr(story, "func", story), type) else None


def instance(story: Any, seed: int = 0) -> Any:
    """The story itself, or a new one under a seed where a class was given."""
    make = maker(story)
    return story if make is None else make(seed)


def _make(story: Any, seed: int) -> Callable[..., Any]:
    name = story_name(getattr(story, "func", story))
    with isolated(seed, torch.get_default_dtype()):
        try:
            made = story()
        except TypeError as error:
            raise ValueError(
                f"story: the class {name} could not be constructed ({error}). Give its arguments by "
                f"functools.partial({name}, ...), or an instance."
            ) from error
    if not callable(made):
        raise ValueError(f"story: expected a class whose instances can be called, got {name}.")
    return made


def beside(story: Any) -> Any:
    """The ``guide`` (function or class) that stands beside a story in its module, else "auto".

    The story is a function, a class, a ``functools.partial`` of a class, or an instance of one.
    """
    own = getattr(story, "func", story)
    if isinstance(own, torch.nn.Module):
        own = type(own)
    home, name = getattr(own, "__module__", ""), getattr(own, "__name__", "")
    module = sys.modules.get(home)
    found = getattr(module, "guide", None)
    named = getattr(module, name, None) is own
    local = getattr(found, "__module__", None) == home
    return found if named and local and callable(found) and found is not own else "auto"


def guide_of(guide: Any, story: Any, seed: int) -> Any:
    """A guide for one restart: a class (no autoguide's) is constructed from the story.

    Args:
        guide: a class or a ``functools.partial`` of one, called with the story; anything else is
            returned as it is.
        story: the instance that is trained with it.
        seed: of the guide's networks.

    Raises:
        ValueError: for a class that does not take the story alone.
    """
    kind = getattr(guide, "func", guide)
    if not isinstance(kind, type) or is_autoguide_class(guide):
        return guide
    if not _takes_story(guide, kind, story):
        raise ValueError(
            f"guide: expected a function, a module, an autoguide, or a class that is constructed from the "
            f"story, as guide(story), got the class {kind.__name__}{inspect.signature(kind)}. Construct it "
            f"first."
        )
    with isolated(seed, torch.get_default_dtype()):
        return guide(story)


def _takes_story(guide: Any, kind: type[Any], story: Any) -> bool:
    if kind.__init__ in (PyroModule.__init__, torch.nn.Module.__init__):  # their only argument is a name
        return False
    try:
        inspect.signature(guide).bind(story)
    except TypeError:
        return False
    return True


def is_autoguide_class(guide: Any) -> bool:
    """Whether this is an autoguide's class, or a ``functools.partial`` of one."""
    kind = guide.func if isinstance(guide, partial) else guide
    return isinstance(kind, type) and issubclass(kind, AutoGuide)
