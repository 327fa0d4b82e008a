"""The folder where files and batches are kept: $XDG_STATE_HOME/l4/serve.

lock                  locked by the server that owns the folder
files/ID/content      an uploaded file, or the results of a batch
files/ID/about.json   its name and purpose
batches/ID.json       a batch
batches/ID.rows       the rows answered so far, with their journal; gone when the batch is over
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l4cli.errors import OutputError

NEW = ".new-"  # begins the names of what is not whole yet


class Folder:
    """The folder. Nothing in it may be used before `own` has returned True.

    root: its path; it is made when it is needed.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.files, self.batches = root, root / "files", root / "batches"
        self._lock: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether there may be batches to go on with."""
        return self.batches.is_dir()

    def own(self) -> bool:
        """Make this process the owner; False if another one is. OutputError if it fails."""
        if self._lock is not None:
            return True
        with writing(self.root):
            for path in (self.root, self.files, self.batches):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def close(self) -> None:
        """Let another process become the owner; idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class DiskFullError(OutputError):
    """There is no space left for what should be written."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = DiskFullError if is_full else OutputError
        raise kind(f"cannot write {path}: {error.strerror}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either as it was, or whole, whatever happens. OutputError."""
    beside = path.with_name(NEW + path.name)
    with writing(path):
        try:
            with open(beside, "wb", opener=private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync(path.parent)


def private(path: str, flags: int) -> int:
    """Open a file that only its owner may read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
