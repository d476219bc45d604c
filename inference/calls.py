"""How a story is called: its arguments, checked and cast, and the row count that may wait."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_map

from inference.isolation import promote


@dataclass(frozen=True)
class Call:
    """A story and what it is called with; an omitted argument ``n`` waits for the row count."""

    story: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    counts_rows: bool = False

    @classmethod
    def bind(cls, story: Callable[..., Any], args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Call:
        """Check the arguments against the story's signature and cast floats to float64.

        Raises:
            ValueError: if the story is not callable or cannot be called so.
        """
        if not callable(story):
            raise ValueError(f"story: expected a callable, got {type(story).__name__}.")
        if not isinstance(args, tuple | list):
            raise ValueError(
                f"args: expected a tuple of the story's arguments, got {type(args).__name__}. "
                f"Write args=(value,) for a single one."
            )
        args, kwargs = tree_map(promote, (tuple(args), dict(kwargs or {})))
        if isinstance(story, torch.nn.Module):
            story = deepcopy(story)
            for module in story.modules():
                module._buffers = {name: promote(b) for name, b in module._buffers.items()}
        signature = inspect.signature(story.forward if hasattr(story, "forward") else story)
        try:
            bound = signature.bind_partial(*args, **kwargs).arguments
            missing = "n" in signature.parameters and "n" not in bound
            signature.bind(*args, **({"n": 1} if missing else {}), **kwargs)
        except TypeError as error:
            raise ValueError(
                f"args: {story_name(story)}{signature} cannot be called with {len(args)} positional "
                f"arguments and keywords {sorted(kwargs)}: {error}."
            ) from error
        return cls(story, args, kwargs, missing)

    def with_rows(self, n: int) -> Call:
        """Return the call with the omitted ``n`` set; unchanged if ``n`` was given."""
        return self.replace_rows(n) if self.counts_rows else self

    @property
    def takes_rows(self) -> bool:
        """Whether the story takes the row count as an argument ``n``."""
        return "n" in self.named_arguments()

    def replace_rows(self, n: int) -> Call:
        """Return the call with another row count."""
        position = self._position_of_rows()
        if position is None:
            return Call(self.story, self.args, {**self.kwargs, "n": n}, self.counts_rows)
        args = (*self.args[:position], n, *self.args[position + 1 :])
        return Call(self.story, args, self.kwargs, self.counts_rows)

    @property
    def rows(self) -> Any:
        """The row count, ``None`` while it is left out."""
        return self._signature.bind_partial(*self.args, **self.kwargs).arguments.get("n")

    def _position_of_rows(self) -> int | None:
        """Where ``n`` stands among the positional arguments, if it does."""
        parameters = self._signature.parameters
        position = list(parameters).index("n")
        by_position = parameters["n"].kind != inspect.Parameter.KEYWORD_ONLY and position < len(self.args)
        return position if by_position else None

    def with_args(self, args: tuple[Any, ...]) -> Call:
        """Return the call with other positional arguments; keywords stay, but for a counted ``n``."""
        count = len(args) if isinstance(args, tuple | list) else 0  # bind says what else came
        replaced = set(list(self._signature.parameters)[:count])
        replaced |= {"n"} if self.counts_rows else set()
        return Call.bind(self.story, args, {k: v for k, v in self.kwargs.items() if k not in replaced})

    def named_arguments(self) -> dict[str, Any]:
        """The arguments under the names of the story's signature, defaults left out."""
        return dict(self._signature.bind(*self.args, **self.kwargs).arguments)

    @property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.story.forward if hasattr(self.story, "forward") else self.story)

    def __call__(self) -> Any:
        """Run the story."""
        return self.story(*self.args, **self.kwargs)


def story_name(story: Any) -> str:
    """What to call a story in messages."""
    return getattr(story, "__name__", type(story).__name__)
