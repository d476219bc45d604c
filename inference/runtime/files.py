"""Files written whole or not at all, and an error in words where they cannot be.

Everything that the workbench writes is built in memory first and goes through :func:`write_bytes`. A library
that writes to the disk by itself may not survive a full one: HDF5 ends the process.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["no_room", "sync_folder", "write_bytes", "writing"]

# What a full disk, a quota and a limit on the size of files say.
NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
# What file systems say that cannot sync a folder, or a special file.
UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)


def write_bytes(path: str | os.PathLike[str], content: bytes | bytearray | memoryview) -> None:
    """Write a file whole or not at all: beside its place, synced to the disk, then renamed.

    Until the rename an older file stays as it was, and after a failure nothing else is left.

    Raises:
        OSError: of the kind and number that the system gives; it names the file and says how much was to be
            written, and why it could not be.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> write_bytes(path, b"whole")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('whole', 1)
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    size = memoryview(content).nbytes
    with writing(f"{size:,} bytes could not be written", path):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                _sync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


@contextmanager
def writing(failure: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Give an ``OSError`` of the block the words ``failure``, the reason, and the path.

    Example:
        >>> with writing("the cup could not be filled", "kitchen/cup"):
        ...     raise OSError(errno.ENOSPC, "?")
        Traceback (most recent call last):
        OSError: [Errno 28] the cup could not be filled: No space left on device; what stood there before is
        as it was: 'kitchen/cup'
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        said = f"{failure}: {reason}; what stood there before is as it was"
        raise OSError(error.errno or errno.EIO, said, str(path)) from error


def sync_folder(folder: Path) -> None:
    """See to it that names given in a folder outlast a loss of power, where the system can."""
    if os.name != "posix":
        return
    try:
        number = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not read
        return
    try:
        _sync(number)
    finally:
        os.close(number)


def no_room(error: OSError) -> bool:
    """Whether the disk is full, or a quota or a limit is reached.

    Example:
        >>> no_room(OSError(errno.ENOSPC, "full")), no_room(FileNotFoundError(errno.ENOENT, "none"))
        (True, False)
    """
    return error.errno in NO_ROOM


def _sync(number: int) -> None:
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise
