"""Where rows come from and answers go: files, pipes, and what must not happen between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from l4cli import console
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.suspects import Suspects
from l4cli.errors import InputError, UsageError


class Output(Protocol):
    """Takes answers, a line each, and knows which rows have theirs already."""

    @property
    def num_done(self) -> int: ...

    @property
    def num_failed(self) -> int: ...

    @property
    def journal(self) -> Path | None: ...

    @property
    def suspects(self) -> Suspects: ...

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterable[Row | BadRow]: ...

    def write(self, line: str, digest: bytes, *, failed: bool) -> None: ...

    def finish(self) -> None: ...


class StdoutOutput:
    """Answers to stdout: nothing is kept, so nothing can be resumed."""

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
    """A file of rows, or stdin for "-"; UsageError where it is the output too."""
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
    """What paths in rows are relative to: the input's folder, for stdin the current one."""
    return Path() if name == "-" else Path(name).expanduser().parent


def count_lines(name: str) -> int | None:
    """How many lines of a regular file are not blank; None for a pipe, which is read but once."""
    path = Path(name).expanduser()
    if name == "-" or not path.is_file():
        return None
    with path.open("rb") as lines:
        return sum(not line.isspace() for line in lines)


def _is_stdout(file: BinaryIO) -> bool:
    """Whether stdout goes into the very file that is read."""
    try:
        ours, theirs = os.fstat(file.fileno()), os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):
        return False
    return os.path.samestat(ours, theirs)
