"""How a story is called: its arguments, checked and cast, and the row count that may wait."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_map

from inference.runtime.isolation import isolated, promote
from inference.story.arguments import copies, refuse_complex
from inference.story.support import Edges


@dataclass(frozen=True)
class Call:
    """A story and what it is called with; an omitted argument ``n`` waits for the row count.

    ``computed`` names the sites that the story observes itself (``obs=``) at values that depend on unknowns;
    ``None`` while that is not known. ``writes`` says that the story changes its arguments in place: then
    every run gets copies of them, so that all runs see the same.
    """

    story: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    counts_rows: bool = False
    computed: frozenset[str] | None = None
    writes: bool = False

    @classmethod
    def bind(cls, story: Callable[..., Any], args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Call:
        """Check the arguments against the story's signature and cast floats to the story's dtype, on copies.

        That is float64, or the dtype of the story's networks, which is kept; tensors are put where its
        networks are.

        Raises:
            ValueError: if the story is not callable or cannot be called so; for complex arguments.
        """
        if not callable(story):
            raise ValueError(f"story: expected a callable, got {type(story).__name__}.")
        if not isinstance(args, tuple | list):
            raise ValueError(
                f"args: expected a tuple of the story's arguments, got {type(args).__name__}. "
                f"Write args=(value,) for a single one."
            )
        cast = partial(promote, dtype=story_dtype(story), device=story_device(story))
        came = tuple(args), dict(kwargs or {})
        args, kwargs = tree_map(lambda x: _own(cast(x), x), came)
        if isinstance(story, torch.nn.Module):
            story = deepcopy(story)
            for module in story.modules():
                module._buffers = {name: cast(b) for name, b in module._buffers.items()}
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
        refuse_complex(signature, *came)
        return cls(story, args, kwargs, missing)

    def with_rows(self, n: int) -> Call:
        """Return the call with the omitted ``n`` set; unchanged if ``n`` was given."""
        return self.replace_rows(n) if self.counts_rows else self

    @property
    def dtype(self) -> torch.dtype:
        """What the story computes in: its networks' dtype, float64 without any."""
        return story_dtype(self.story)

    @property
    def device(self) -> torch.device | None:
        """Where the story's networks are; ``None`` without any."""
        return story_device(self.story)

    def room(self, seed: int | None = None) -> AbstractContextManager[None]:
        """The quiet room to run this story in: :func:`isolated`, in the story's dtype, on its device."""
        return isolated(seed, self.dtype, self.device)

    @property
    def takes_rows(self) -> bool:
        """Whether the story takes the row count as an argument ``n``."""
        return "n" in self.named_arguments()

    def replace_rows(self, n: int) -> Call:
        """Return the call with another row count."""
        position = self._position_of_rows()
        if position is None:
            return replace(self, kwargs={**self.kwargs, "n": n})
        args = (*self.args[:position], n, *self.args[position + 1 :])
        return replace(self, args=args)

    @property
    def rows(self) -> Any:
        """The row count, ``None`` while it is left out."""
        return self.signature.bind_partial(*self.args, **self.kwargs).arguments.get("n")

    def _position_of_rows(self) -> int | None:
        """Where ``n`` stands among the positional arguments, if it does."""
        parameters = self.signature.parameters
        position = list(parameters).index("n")
        by_position = parameters["n"].kind != inspect.Parameter.KEYWORD_ONLY and position < len(self.args)
        return position if by_position else None

    def with_args(self, args: tuple[Any, ...]) -> Call:
        """Return the call with other positional arguments; keywords stay, but for a counted ``n``."""
        count = len(args) if isinstance(args, tuple | list) else 0  # bind says what else came
        replaced = set(list(self.signature.parameters)[:count])
        replaced |= {"n"} if self.counts_rows else set()
        return Call.bind(self.story, args, {k: v for k, v in self.kwargs.items() if k not in replaced})

    def named_arguments(self) -> dict[str, Any]:
        """The arguments under the names of the story's signature, defaults left out."""
        return dict(self.signature.bind(*self.args, **self.kwargs).arguments)

    @property
    def signature(self) -> inspect.Signature:
        """The story's."""
        return inspect.signature(self.story.forward if hasattr(self.story, "forward") else self.story)

    def __call__(self) -> Any:
        """Run the story; outside its support a site has no density."""
        call = self.fresh()
        with Edges(self.computed):
            return self.story(*call.args, **call.kwargs)

    def fresh(self) -> Call:
        """The call that one run may have: with copies of the arguments, where the story writes into them."""
        return self.copied() if self.writes else self

    def copied(self) -> Call:
        """The same call with copies of its arguments, which one run may change: they are not copied again."""
        args, kwargs = copies((self.args, dict(self.kwargs)))
        return replace(self, args=args, kwargs=kwargs, writes=False)


def _own(value: Any, came: Any) -> Any:
    """The value, copied where it is the caller's own tensor, into which a story might write."""
    return value.clone() if isinstance(value, torch.Tensor) and value is came else value


def _first_parameter(program: Any) -> torch.Tensor | None:
    """The first floating-point parameter of a module, also of one that a wrapper holds as ``program``."""
    while not isinstance(program, torch.nn.Module) and hasattr(program, "program"):
        program = program.program
    found = program.parameters() if isinstance(program, torch.nn.Module) else ()
    return next((p for p in found if p.is_floating_point()), None)


def story_dtype(story: Any) -> torch.dtype:
    """What a story or guide computes in: the dtype of its networks, float64 where it has none.

    Example:
        >>> story_dtype(torch.nn.Linear(2, 1)), story_dtype(print)
        (torch.float32, torch.float64)
    """
    first = _first_parameter(story)
    return torch.float64 if first is None else first.dtype


def story_device(story: Any) -> torch.device | None:
    """Where a story's networks are; ``None`` where it has none."""
    first = _first_parameter(story)
    return None if first is None else first.device


def story_name(story: Any) -> str:
    """What to call a story in messages."""
    return getattr(story, "__name__", type(story).__name__)
