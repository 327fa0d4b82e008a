"""An output file OUT with a journal, so a killed run can be resumed.

The journal OUT.journal lies in the same folder; `entries.py` describes its lines. A row is written
before its journal entry. So after kill -9 at any moment, the last complete entry says how much of
OUT is complete. To resume, the input is checked against the digests of the rows that are done, then
the incomplete end of OUT is cut off, and the run continues. Until the check is over, neither file
is changed: a run that is refused leaves both as they were.

If llama.cpp crashed, the journal has a line for the crash with the digests of the rows in progress
at that moment (written by `l4cli/native/watcher.py`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from l4cli.batch.done import (
    Done,
    IsOwn,
    any_line,
    changed_input,
    check_document,
    left_over,
    read_done,
)
from l4cli.batch.entries import HEADER, RowEntry, Whole, row_line, settings_line, whole_line
from l4cli.batch.files import journal_of
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.suspects import Suspects
from l4cli.errors import OutputError, UsageError
from l4cli.outputs import open_own, refuse_unfit

try:
    import fcntl
except ImportError:  # Windows has no flock: there, nothing stops two runs from writing one file
    fcntl = None  # type: ignore[assignment]


class JournaledOutput:
    """OUT and its journal, open for appending.

    path: the output file OUT.
    settings: the settings that all rows of one file must share, as JSON values by name.
    resume: continue an existing file.
    overwrite: replace an existing file. It keeps its content until the first row is there to be
        answered, so a run that is refused before loses nothing. Without `resume` and this, an
        existing file raises UsageError.
    unordered: rows are in the order they finished, so they are identified by their digests alone.
    is_own: whether a line at the end of OUT, perhaps cut short, is one that l4 writes. The journal
        may lack such rows after a kill, and they are asked again; other lines are a user's.

    may_differ: the names of settings that may be others than an existing file was started with.

    Raises UsageError if OUT or the journal is somebody else's file, InputError if the journal is
    damaged or does not fit OUT, OutputError if the files cannot be written.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool = False,
        unordered: bool = False,
        is_own: IsOwn = any_line,
        may_differ: Set[str] = frozenset(),
    ) -> None:
        self.path = path
        self.unordered = unordered
        self.done = Done()
        self._settings = dict(settings)
        refuse_unfit(path, journal_of(path))
        with ExitStack() as opened:
            try:
                journal = open_journal(path)
                if journal:
                    opened.enter_context(journal)
                    if resume:
                        name = str(journal_of(path))
                        self.done = read_done(path, journal, name, settings, is_own, may_differ)
                if not (overwrite or self.done.journal_end):
                    refuse_overwriting(path, resume=resume)
                self._journal_file = journal or opened.enter_context(_new_journal(path))
                self._out = opened.enter_context(path.open("ab", buffering=0))
                self._end = self.done.end
                self._is_cut = False
                if not (self.done.journal_end or overwrite):
                    self._cut()
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}") from error
            opened.pop_all()

    def __enter__(self) -> JournaledOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_done(self) -> int:
        """The number of rows that earlier runs have written, errors included."""
        return self.done.num_rows

    @property
    def num_unnoted(self) -> int:
        """The number of whole rows at the end of OUT that are asked again."""
        return self.done.num_unnoted

    @property
    def num_failed(self) -> int:
        """How many of the `num_done` rows are errors."""
        return sum(self.done.failed)

    @property
    def journal(self) -> Path:
        """The file in which a crash is recorded."""
        return journal_of(self.path)

    @property
    def suspects(self) -> Suspects:
        """The rows that may have caused crashes of earlier runs."""
        return Suspects(self.done.crashes)

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the rows still to do. Raises InputError if a row already done has changed since."""
        left = left_over(rows, [self.done], self.path) if self.unordered else self._rest(rows)
        for row in left:
            self._cut()
            yield row
        if self.done.journal_end:  # otherwise an input without rows would empty a file to replace
            self._cut()

    def write(
        self, line: str, digest: bytes, *, failed: bool = False, document: bytes | None = None
    ) -> None:
        """Append one row and its entry. Raises OutputError if the disk is full."""
        self.write_bytes(line.encode() + b"\n", digest, failed=failed, document=document)

    def write_bytes(
        self, data: bytes, digest: bytes, *, failed: bool, document: bytes | None
    ) -> None:
        """Append one row as bytes that include the newline, and its entry."""
        self._cut()
        end = self._end + len(data)
        entry = RowEntry(digest, end, failed, None if failed else document)
        try:
            _write_all(self._out, data)
            _write_all(self._journal_file, row_line(entry))
        except OSError as error:
            self._out.truncate(self._end)
            raise OutputError(
                f"cannot write to {self.path}: {error.strerror}; "
                "the rows written so far are complete, continue with --resume"
            ) from error
        self._end = end

    def finish(self) -> None:
        """Called after the last row of the input has been written; does nothing here."""

    def seal(self) -> None:
        """Record that all rows are written. Raises OutputError."""
        try:
            _write_all(self._journal_file, whole_line(Whole(self._end)))
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Flush both files to disk and close them; idempotent."""
        for file in (self._out, self._journal_file):
            if not file.closed:
                os.fsync(file.fileno())
                file.close()

    def _rest(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the rows after those that are done, which must be the first ones."""
        remaining = iter(rows)
        for index in range(self.done.num_rows):
            row = next(remaining, None)
            if row is None or row.digest != self.done.digest(index):
                raise changed_input(self.path, row)
            check_document(self.done, row, self.path)
        yield from remaining

    def _cut(self) -> None:
        """Cut off what is incomplete at the end of both files; later calls do nothing.

        If nothing is complete, the journal begins with the settings.
        """
        if self._is_cut:
            return
        try:
            self._journal_file.truncate(self.done.journal_end)
            self._out.truncate(self._end)
            if not self.done.journal_end:
                _write_all(self._journal_file, settings_line(self._settings))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        self._is_cut = True


def refuse_overwriting(path: Path, *, resume: bool = False) -> None:
    """Raise UsageError if there is something in the file `path`, which a run would write anew.

    resume: the run was to continue it, but there is no journal.
    """
    if path.exists() and path.stat().st_size:
        if resume:
            hint = "has no journal to resume from: give another -o, or replace it with --overwrite"
        elif journal_of(path).exists():
            hint = (
                "would be overwritten: continue it with --resume, give another -o, or replace "
                "it with --overwrite"
            )
        else:
            hint = (
                "has no journal of `l4 run`: give another -o, or replace the file with --overwrite"
            )
        raise UsageError(f"{path} already exists and {hint}")


def open_journal(path: Path) -> BinaryIO | None:
    """Open the journal of the output `path`, locked against other runs; None if there is none.

    Nothing is changed in it. Raises UsageError if the file is not a journal, or if another run has
    it open.
    """
    try:
        fd = open_own(journal_of(path), HEADER, "a journal of l4 run")
    except OSError as error:
        raise OutputError(f"cannot open {journal_of(path)}: {error.strerror}") from error
    return None if fd is None else _locked(os.fdopen(fd, "r+b", buffering=0), path)


def _new_journal(path: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(journal_of(path), flags, 0o666)
    except FileExistsError:
        raise _busy(path) from None
    return _locked(os.fdopen(fd, "r+b", buffering=0), path)


def _locked(file: BinaryIO, path: Path) -> BinaryIO:
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise _busy(path) from None
    return file


def _busy(path: Path) -> UsageError:
    return UsageError(f"another run is writing to {path}")


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data`, or raise OSError.

    An almost full disk writes fewer bytes without an error; only the next write would fail.
    """
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
