"""The one exception that means: what the user handed in cannot be used."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """A mistake in the input, said in one line: shown without a traceback, exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))
