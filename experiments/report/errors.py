"""The one exception that means: what the user handed in cannot be used."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """A mistake in the input, said in one line: shown without a traceback, exit status 2."""

    def __init__(self, message: str) -> None:
        line = " ".join(str(message).split())
        # It may quote a file: what moves the cursor or colours a terminal is not passed on.
        super().__init__("".join(c if c.isprintable() else "?" for c in line))
