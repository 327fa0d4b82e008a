"""Writes to the standard streams: data to stdout, notes and warnings to stderr.

Nothing that a model, a file or a server says can control the terminal: notes never hold control
characters, and data holds them only in a file or a pipe.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from l4cli.columns import UNIT
from l4cli.errors import OutputError
from l4cli.printable import harmless

if TYPE_CHECKING:
    from rich.console import Console

# What is never broken: `a command`, "with: a command" to the end, numbers with their units, and
# words.
_UNITS = re.compile(rf"\s*(?:\S*`[^`]*`\S*|(?<=with: )(?:l4 |--).*$|(?<=: )l4 .*$|{UNIT})|\s+$")


_DUMB = ("", "dumb", "unknown")  # names of terminals that cannot move their cursor

# What writes notes while a progress line is shown: the last of these.
_above_progress: list[Callable[[str], None]] = []


class ReaderGoneError(Exception):
    """The program that read our stdout has closed it, as `| head` does."""


def data(text: str, *, end: str = "\n", is_styled: bool = False) -> None:
    """Write `text` to stdout and flush.

    is_styled: its control characters are our own, so that a terminal may get them.

    Raises OutputError if stdout cannot be written, ReaderGoneError if its reader has closed it.
    """
    if stdout_is_terminal() and not is_styled:
        text = harmless(text)
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {error.strerror}") from error


def data_json(value: Any) -> None:
    """Write one JSON value to stdout, indented."""
    data(json.dumps(value, ensure_ascii=False, indent=2))


class _Interrupt:
    """Whether a terminal's ^C stands at the end of a line behind which nothing has been said."""

    is_last = False


def note_interrupt() -> None:
    """Note that Ctrl-C was pressed. Writes nothing, so a signal handler may call it."""
    _Interrupt.is_last = True


def end_interrupted_line() -> None:
    """End the line on which a terminal shows ^C, if nothing was written to stderr behind it."""
    if _Interrupt.is_last and sys.stderr.isatty():
        note("")


def note(text: str) -> None:
    """Write a line for the user to stderr; discard it if stderr cannot be written.

    A terminal gets it folded between words.
    """
    text = harmless(text)
    _Interrupt.is_last = False
    with suppress(OSError):  # its reader has gone, or its disk is full
        if sys.stderr.isatty():
            width = _columns(sys.stderr)
            text = "\n".join(folded(line, width) for line in text.split("\n"))
        if _above_progress:
            _above_progress[-1](text)
            return
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@contextmanager
def notes_above(write: Callable[[str], None]) -> Iterator[None]:
    """Give notes to `write` instead of stderr: it puts them above a progress line."""
    _above_progress.append(write)
    try:
        yield
    finally:
        _above_progress.remove(write)


def folded(text: str, columns: int) -> str:
    """Fold a line between words to lines of at most `columns` characters. Pure.

    A command to be pasted stays whole: what stands in backquotes, or behind a colon at the end. A
    terminal folds it by itself if it is too long, and copies it as one line.
    """
    lines = [""]
    for unit in _UNITS.findall(text):
        if lines[-1].strip() and len(lines[-1]) + len(unit.rstrip()) > columns:
            lines.append("")
        lines[-1] += unit if lines[-1] or len(lines) == 1 else unit.lstrip()
    return "\n".join(line.rstrip() for line in lines)


def _columns(stream: TextIO) -> int:
    """The width of the terminal that a stream is connected to."""
    with suppress(OSError, ValueError):
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    return 80


def warn(text: str) -> None:
    """Write a warning or error to stderr, with the program's name in front: `l4: …`."""
    note(f"l4: {text}")


def command_line(*more: str, without: Sequence[str] = ()) -> str:
    """The command line that the user gave, quoted for a shell.

    more: options to append unless they were given already.
    without: options to leave out.
    """
    given = [word for word in sys.argv[1:] if word not in without]
    return shlex.join(["l4", *given, *(option for option in more if option not in given)])


def stderr_is_terminal() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    return sys.stderr.isatty() and moves_cursor()


def has_progress() -> bool:
    """Whether stderr is a terminal, of whatever kind: progress is shown there."""
    return sys.stderr.isatty()


def moves_cursor() -> bool:
    """Whether the terminal can move its cursor, so that what it shows can be redrawn."""
    return os.name == "nt" or os.environ.get("TERM", "").lower() not in _DUMB


def stdout_is_terminal() -> bool:
    """Whether stdout is a terminal, not a file or a pipe."""
    return sys.stdout.isatty()


def stdout_is_file() -> bool:
    """Whether stdout is a file or /dev/null: nothing of it can reach the terminal."""
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not sys.stdout.isatty())


def hold_standard_streams() -> None:
    """Open /dev/null in place of standard streams that were closed before l4 started (`l4 … 2>&-`).

    Otherwise the next file that l4 opens would get the stream's file descriptor, and with it
    everything that is written to the stream. A closed stdin is empty; with stderr closed, notes are
    discarded. Raises OutputError if stdout is closed: then no command could show its result.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor: `fd`
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stdout is None:
        raise OutputError("cannot write to stdout: it is closed")


def use_utf8() -> None:
    """Write UTF-8 in every locale. Escape lone surrogates: one in a name must not stop a run."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def stderr_console() -> Console:
    """A rich console that writes to stderr."""
    from rich.console import Console

    return Console(stderr=True)
