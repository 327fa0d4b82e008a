"""Writes one file of the output as a .part file, in any order, and renames it when complete."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from convert.errors import ConvertError, DiskError
from convert.writing.layout import FileLayout


class PartFile:
    """The unfinished file `file.path`.part; it has its final size from the start.

    `publish` renames it to `file.path`. Every method raises DiskError if the disk fails or is full.
    """

    def __init__(self, file: FileLayout) -> None:
        self.path = file.path
        self.part = part_path(file.path)
        self._header = file.header
        self._n_bytes = file.n_bytes
        self._fd = -1

    def create(self) -> None:
        """Create the part file, reserve its whole size on disk, and write its header.

        A part file that exists already is overwritten; it must be l4's.
        """
        try:
            self._fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.ftruncate(self._fd, 0)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, 0, self._n_bytes)
            else:  # macOS
                os.ftruncate(self._fd, self._n_bytes)
            self.write_at(0, memoryview(self._header))
            os.fsync(self._fd)
            _sync_directory(self.part.parent)
        except OSError as error:
            raise disk_error(self.path, error, self._n_bytes) from None

    def reopen(self) -> None:
        """Open the part file of an earlier conversion.

        Raises ConvertError if it is gone or has the wrong size.
        """
        try:
            self._fd = os.open(self.part, os.O_RDWR | os.O_CLOEXEC)
            n_bytes = os.fstat(self._fd).st_size
        except FileNotFoundError:
            raise ConvertError(f"{self.part}: is gone; start over without --resume") from None
        except OSError as error:
            raise disk_error(self.path, error, self._n_bytes) from None
        if n_bytes != self._n_bytes:
            raise ConvertError(
                f"{self.part}: is {n_bytes:,} bytes long instead of {self._n_bytes:,}; "
                "start over without --resume"
            )

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at byte `offset`. May be called from many threads at once."""
        while data:
            try:
                n_written = os.pwrite(self._fd, data, offset)
            except OSError as error:
                raise disk_error(self.path, error, self._n_bytes) from None
            data, offset = data[n_written:], offset + n_written

    def sync(self) -> None:
        """Sync what has been written so far to the disk."""
        try:
            _sync_data(self._fd)
        except OSError as error:
            raise disk_error(self.path, error, self._n_bytes) from None

    def publish(self) -> None:
        """Rename the part file to its final name, replacing any file there.

        The part file must be complete and synced.
        """
        try:
            self.part.replace(self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise disk_error(self.path, error, self._n_bytes) from None

    def remove(self) -> None:
        """Remove the part file. It still has to be closed."""
        self.part.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, complete or not; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def part_path(path: Path) -> Path:
    """The path of the part file of `path`."""
    return path.with_name(path.name + ".part")


def disk_error(path: Path, error: OSError, n_bytes: int) -> DiskError:
    """A DiskError of one line for `error`, raised while writing the file `path` of `n_bytes`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free
        return DiskError(
            f"{path}: the disk is full: {_size(n_bytes)} are needed, "
            f"{_size(free)} are free; free some space or write elsewhere with -o"
        )
    return DiskError(f"{path}: {error.strerror}; write elsewhere with -o")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / 2**20:.1f} MiB"


def _sync_data(fd: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:  # macOS
        os.fsync(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # network file systems may not have this
        os.fsync(fd)
    os.close(fd)
