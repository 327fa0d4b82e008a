"""The files of a run: their names, the input, and stdout."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from l4cli import console
from l4cli.background import readable
from l4cli.batch.encoding import is_binary
from l4cli.batch.json_values import is_one_value
from l4cli.batch.lines import MAX_LINE, lines_of
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.suspects import Suspects
from l4cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Output(Protocol):
    """Receives answers, one line each, and knows which rows an earlier run has answered.

    num_done: rows that need no answer in this run.
    num_failed: how many of them are errors.
    journal: the file in which a crash is recorded; None if there is none.
    suspects: rows that may have caused a crash of an earlier run.
    """

    @property
    def num_done(self) -> int: ...

    @property
    def num_failed(self) -> int: ...

    @property
    def journal(self) -> Path | None: ...

    @property
    def suspects(self) -> Suspects: ...

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterable[Row | BadRow]:
        """Yield the rows that still need an answer."""
        ...

    def write(
        self, line: str, digest: bytes, *, failed: bool, document: bytes | None = None
    ) -> None:
        """Write the answer of the row with that digest.

        document: the digest of the document that the answer is about, if any.
        """
        ...

    def finish(self) -> None:
        """Called once, after the answer of the last input row has been written."""
        ...


class StdoutOutput:
    """Writes answers to stdout. There is no journal, so the run cannot be resumed."""

    num_done = num_failed = 0
    journal = None
    suspects = Suspects()

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterable[Row | BadRow]:
        return rows

    def write(
        self, line: str, _digest: bytes, *, failed: bool, document: bytes | None = None
    ) -> None:
        console.data(line)

    def finish(self) -> None:
        pass


def journal_of(path: Path) -> Path:
    """Return the path of an output file's journal."""
    return path.with_name(path.name + ".journal")


def retry_of(path: Path) -> Path:
    """Return the path that --retry-errors writes to, until it is whole."""
    return path.with_name(path.name + ".retry")


def written_by(out: Path) -> tuple[Path, ...]:
    """Return every path that a run with `-o out` may write to."""
    return out, journal_of(out), retry_of(out), journal_of(retry_of(out))


_NO_ROWS = {
    b"%PDF": "a PDF, not a file of prompts; `l4 ask` answers questions about documents",
    b"PK\x03\x04": "a document or another archive, not a file of prompts; `l4 ask` answers "
    "questions about documents",
    b"GGUF": "a model, not a file of prompts; it belongs to -m",
}


@contextmanager
def open_input(name: str, out: Path | None) -> Iterator[BinaryIO]:
    """Open a file of rows, or stdin for "-". Raises UsageError if the run would write to it."""
    path = Path(name).expanduser()
    try:
        raw = _opened_stdin() if name == "-" else path.open("rb", buffering=0)
        file = io.BufferedReader(raw if _is_regular(raw) else _Patient(raw))
        begins = file.peek(1) if _is_regular(raw) else b""
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with file:
        for magic, what in _NO_ROWS.items():
            if begins.startswith(magic):
                raise InputError(f"{path} is {what}")
        if is_binary(begins):
            raise InputError(f"{path} is a binary file, not a file of prompts; give a text file")
        _refuse_output(raw, "stdin" if name == "-" else str(path), out)
        yield file


def _opened_stdin() -> io.FileIO:
    if sys.stdin.isatty():
        raise UsageError("give a file of prompts, or pipe one in: l4 run prompts.jsonl")
    return io.FileIO(os.dup(sys.stdin.fileno()))


class _Patient(io.RawIOBase):
    """A pipe or a terminal. Waiting for it can be given up; see `l4cli/background.py`."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        readable(self._raw.fileno())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def folder_of(name: str) -> Path:
    """Return the folder that paths in rows are relative to: the input's, or "." for stdin."""
    return Path() if name == "-" else Path(name).expanduser().parent


def count_lines(name: str) -> int | None:
    """Return the number of non-blank lines of a regular file.

    None for a pipe, which can only be read once, and for JSON that is not one object a line.
    """
    path = Path(name).expanduser()
    if name == "-" or not path.is_file():
        return None
    with path.open("rb") as file:
        if is_one_value(file.readline(MAX_LINE), file.readline(MAX_LINE)):
            return None
        file.seek(0)
        return sum(not line.isspace() for line in lines_of(file))


def _refuse_output(file: io.FileIO, name: str, out: Path | None) -> None:
    """Raise UsageError if the open input is a file that the run writes to, or stdout."""
    if not _is_regular(file):
        return
    ours = os.fstat(file.fileno())
    theirs = []
    with suppress(OSError, ValueError):
        theirs.append(os.fstat(sys.stdout.fileno()))
    for path in written_by(out) if out else ():
        with suppress(OSError):
            theirs.append(path.stat())
    if any(os.path.samestat(ours, each) for each in theirs):
        raise UsageError(f"{name} is both input and output: the answers would overwrite it")


def _is_regular(file: io.FileIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):
        return False
