"""Files that l4 writes under a name that the user gave: what may be there before.

A file is opened for writing only after its first bytes have shown that l4 wrote it. Anything else
under that name is somebody's work and is refused, untouched.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from convert.names import in_short, is_device
from l4cli.errors import OutputError, UsageError


def refuse_unfit(*paths: Path) -> None:
    """Raise L4Error if one of `paths` is neither a regular file nor a name for a new one."""
    for path in paths:
        kind = _kind(path)
        if kind == "directory":
            raise UsageError(f"{path} is a directory: give the name of a file")
        if kind:
            raise UsageError(
                f"{path} is a {kind}, but a file that can be continued has to be a regular one: "
                f"give the name of a file, or write to stdout with > {path}"
            )
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no directory {path.parent}")


def _kind(path: Path) -> str:
    """What lies at `path`; "" for a regular file and for nothing."""
    if is_device(path):
        return "device"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OutputError(f"cannot write {in_short(path)}: {error.strerror}") from None
    if stat.S_ISREG(mode):
        return ""
    return "directory" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device"


def open_own(path: Path, header: bytes, what: str) -> int | None:
    """Open an existing file of l4 to read and append; nothing in it is changed.

    header: the bytes that every such file begins with. An empty file, and one with only a part of
        the header, is what a kill leaves.
    what: the file's kind, for messages.

    Returns the file descriptor; None if there is no file. Raises UsageError if the file is not
    l4's, OSError if it cannot be opened.
    """
    try:
        # A pipe without a reader at its other end would block.
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        if path.is_symlink():
            raise UsageError(f"{path} is a link to a file that does not exist: remove it") from None
        return None
    except IsADirectoryError:
        raise _foreign(path, what) from None
    is_own = False
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            start = os.pread(fd, len(header), 0)
            is_own = header.startswith(start)
    finally:
        if not is_own:
            os.close(fd)
    if not is_own:
        raise _foreign(path, what)
    return fd


def _foreign(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path} exists and is not {what}, so it stays as it is: move it away, or give another name"
    )
