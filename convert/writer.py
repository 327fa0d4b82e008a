"""The output file: written in any order beside its name, and renamed when whole."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from convert.errors import ConvertError


class OutputFile:
    """`path`.part, of `n_bytes` bytes set aside at once; `commit` gives it its name.

    Left without a commit, by an error or Ctrl-C, the part is removed and whatever stood under the
    final name stays. Raises ConvertError when it cannot be created or written (a full disk).
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._n_bytes = n_bytes
        self._fd = -1

    def __enter__(self) -> OutputFile:
        try:
            self._fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._error(error) from None
        self._lock()
        try:
            os.ftruncate(self._fd, 0)  # what an earlier, killed conversion left
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, 0, self._n_bytes)
            else:  # macOS
                os.ftruncate(self._fd, self._n_bytes)
        except OSError as error:
            self._discard()
            raise self._error(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            self._discard()

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`; from many threads at once if need be."""
        while data:
            try:
                n_written = os.pwrite(self._fd, data, offset)
            except OSError as error:
                raise self._error(error) from None
            data, offset = data[n_written:], offset + n_written

    def commit(self) -> None:
        """Make the file durable and give it its final name, replacing what stood there."""
        try:
            os.fsync(self._fd)
            self.part.replace(self.path)
            self._close()
            _sync_directory(self.path.parent)
        except OSError as error:
            raise self._error(error) from None

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            raise ConvertError(f"{self.part}: another conversion is writing it") from None
        except OSError:
            return  # a file system without locks

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _error(self, error: OSError) -> ConvertError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self.path.parent).free
            return ConvertError(
                f"{self.path}: the disk is full: {_size(self._n_bytes)} are needed, "
                f"{_size(free)} are free; free some space or write elsewhere with -o"
            )
        return ConvertError(f"{self.path}: {error.strerror}; write elsewhere with -o")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.2f} MB"


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # network file systems may not have this
        os.fsync(fd)
    os.close(fd)
