"""Opens the input and stdout of a run, and refuses an output that would overwrite the input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from l4cli import console
from l4cli.batch.json_values import is_one_value
from l4cli.batch.lines import MAX_LINE, lines_of
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.suspects import Suspects
from l4cli.errors import InputError, UsageError


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

    def write(self, line: str, digest: bytes, *, failed: bool) -> None:
        """Write the answer of the row with that digest."""
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

    def write(self, line: str, _digest: bytes, *, failed: bool) -> None:
        console.data(line)

    def finish(self) -> None:
        pass


@contextmanager
def open_input(name: str, out: Path | None) -> Iterator[BinaryIO]:
    """Open a file of rows, or stdin for "-". Raises UsageError if it is also the output."""
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("give a file of prompts, or pipe one in: l4 run prompts.jsonl")
        yield sys.stdin.buffer
        return
    path = Path(name).expanduser()
    try:
        file = path.open("rb")
        file.peek(1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with file:
        if _is_stdout(file) or (out and out.exists() and out.samefile(path)):
            raise UsageError(f"{path} is both input and output: the answers would overwrite it")
        yield file


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


def _is_stdout(file: BinaryIO) -> bool:
    """Whether stdout is redirected to the input file itself."""
    try:
        ours, theirs = os.fstat(file.fileno()), os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.path.samestat(ours, theirs)
