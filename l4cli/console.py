"""Writes the command's output: data to stdout, everything else to stderr.

Nothing that a model, a file or a server says can control the terminal: notes never hold control
characters, and data holds them only in a file or a pipe. Progress is shown only on a terminal. rich
is imported only when something needs it; it honours NO_COLOR and TERM=dumb by itself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from l4cli.amounts import human_size
from l4cli.columns import GAP, aligned, fitted
from l4cli.errors import OutputError
from l4cli.printable import harmless
from l4cli.sparkline import Rates

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn


# What is never broken: `a command`, "with: a command" to the end, and words.
_UNITS = re.compile(r"\s*(?:\S*`[^`]*`\S*|(?<=: )(?:l4 |--).*$|\S+)|\s+$")


_TALL = 16  # lines of a terminal that has room for more than one line of progress


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


def note(text: str) -> None:
    """Write a line for the user to stderr; discard it if stderr cannot be written.

    A terminal gets it folded between words.
    """
    text = harmless(text)
    with suppress(OSError):  # its reader has gone, or its disk is full
        if sys.stderr.isatty():
            width = _columns(sys.stderr)
            text = "\n".join(folded(line, width) for line in text.split("\n"))
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


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
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def stdout_is_terminal() -> bool:
    """Whether stdout is a terminal, not a file or a pipe."""
    return sys.stdout.isatty()


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


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False
) -> None:
    """Write a table with all its text: on a terminal in its width, in a pipe a line for each row.

    No word is divided. A terminal that is too narrow for that gets a line for each cell.

    columns: the headings.
    to_stderr: write to stderr instead of stdout.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = sys.stderr if to_stderr else sys.stdout
    cells = [[harmless(cell) for cell in row] for row in rows]
    if not stream.isatty():
        _write_styled("\n".join(aligned(columns, cells, cell_len)), to_stderr=to_stderr)
        return
    console = Console(file=stream, highlight=False)
    widths = fitted(columns, cells, console.width, cell_len)
    with console.capture() as capture:
        if widths is None:
            for row in cells:
                for heading, cell in zip(columns, row, strict=True):
                    label = (f"{heading}: ", "bold") if heading else ""
                    console.print(Text.assemble(label, cell, overflow="fold"))
                console.print()
        else:
            grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
            for column, width in zip(columns, widths, strict=True):
                grid.add_column(column, width=width, overflow="fold")
            for row in cells:
                grid.add_row(*map(Text, row))  # a str would be read as markup
            console.print(grid)
    _write_styled(capture.get(), to_stderr=to_stderr)


def paragraph(text: str, *, first: str = "", rest: str = "", width: int | None = None) -> None:
    """Write a text to stdout, on a terminal in lines that divide no word.

    first, rest: begin the first line and those after it.
    width: most columns, for a pipe as well; None leaves a pipe one line.
    """
    if stdout_is_terminal():
        columns = shutil.get_terminal_size().columns
        width = min(columns, width or columns)
    if width is None:
        data(first + text)
        return
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
    data("\n".join(lines))


def heat_map(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float | None]]
) -> None:
    """Write a grid of percentages to stdout, coloured from red (0) to green (1) on a terminal.

    cells: one list of shares (0 to 1) for each row; None is shown as a dash.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = not stdout_is_terminal()
    grid = Table(box=None, pad_edge=False, padding=0, header_style="bold", collapse_padding=True)
    grid.add_column("", no_wrap=True)
    for column in columns:
        grid.add_column(f" {column}", justify="right", no_wrap=True)
    for name, values in zip(rows, cells, strict=True):
        shown = [
            Text("   –") if value is None else Text(f"{value:4.0%}"[:-1].rjust(4), _heat(value))
            for value in values
        ]
        grid.add_row(Text(harmless(f"{name} ")), *shown)
    console = Console(file=sys.stdout, width=200 if plain else None, highlight=False)
    with console.capture() as capture:
        console.print(grid)
    _write_styled(capture.get())


def _write_styled(text: str, *, to_stderr: bool = False) -> None:
    """Write what rich has made, without the blanks that fill its lines."""
    lines = "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")
    if to_stderr:
        sys.stderr.write(f"{lines}\n")
        sys.stderr.flush()
    else:
        data(lines, is_styled=True)


def _heat(value: float) -> str:
    """The style for a share: black text on red (0) through yellow (0.5) to green (1)."""
    red, green = min(1.0, 2 - 2 * value), min(1.0, 2 * value)
    return f"#000000 on #{round(70 + 160 * red):02x}{round(70 + 140 * green):02x}46"


@contextmanager
def byte_progress(
    label: str, total: int, *, done: int = 0
) -> Iterator[Callable[[int | None, str], None]]:
    """Show a progress bar with bytes, bytes a second and time left; yields `update(done, detail)`.

    label: the text before the bar.
    total: bytes in all.
    done: bytes done at the start.
    The `done` of `update` is the bytes done so far (None leaves them unchanged); its `detail` is a
    short text at the end of the line.
    """
    if not stderr_is_terminal():
        yield lambda done, detail: None
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=None),
        bars.DownloadColumn(binary_units=True),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[detail]}", markup=False),
    )
    progress = _progress(*columns)
    task = progress.add_task(harmless(label), total=total, completed=done, rate="", detail="")
    rates, began = Rates(), time.monotonic()
    with _live(progress) as show_below:

        def update(done: int | None, detail: str) -> None:
            progress.update(task, completed=done, detail=harmless(detail)[:24])
            if speed := progress.tasks[0].speed:
                progress.update(task, rate=f"{human_size(speed)}/s")
            rates.add(time.monotonic() - began, progress.tasks[0].completed)
            show_below(rates.line)

        yield update


@contextmanager
def token_progress(label: str, total: int, *, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with tokens, tokens a second and time left; yields `update(done)`.

    label: the text before the bar.
    total: tokens in all.
    done: tokens that are there at the start; they do not count for the rate.
    """
    with _count_progress(label, "tokens", total, done=done, has_rate=True) as update:
        yield update


@contextmanager
def part_progress(label: str, total: int) -> Iterator[Callable[[float], None]]:
    """Show a progress bar with parts and the time left; yields `update(done)`, for 1.5 parts, too.

    label: the text before the bar.
    total: parts in all.
    """
    with _count_progress(label, "parts", total) as update:
        yield update


@contextmanager
def _count_progress(
    label: str, unit: str, total: int, *, done: int = 0, has_rate: bool = False
) -> Iterator[Callable[[float], None]]:
    if not stderr_is_terminal():
        yield lambda done: None
        return
    from rich import progress as bars

    width = shutil.get_terminal_size().columns
    columns: list[ProgressColumn] = [bars.TextColumn("{task.description}", markup=False)]
    if width >= 60:  # a narrow terminal has no room for more than the numbers
        columns.append(bars.BarColumn(bar_width=None))
    columns.append(bars.TextColumn(f"{{task.fields[shown]:,}} of {{task.total:,}} {unit}"))
    if has_rate and width >= 60:
        columns.append(bars.TextColumn("{task.fields[rate]}"))
    columns.append(bars.TimeRemainingColumn(compact=True))
    progress = _progress(*columns)
    task = progress.add_task(harmless(label), total=total, completed=done, shown=done, rate="")
    with _live(progress):

        def update(done: float) -> None:
            done = min(done, total)
            progress.update(task, completed=done, shown=int(done))
            speed = progress.tasks[0].speed
            progress.update(task, rate=f"{speed:,.0f} tokens/s" if speed else "")

        yield update


@contextmanager
def status(label: str) -> Iterator[Callable[..., None]]:
    """Show a status line with a spinner on a terminal; yields `update(text, *more)` to change it.

    `more` are lines that a tall terminal shows below it; empty ones are left out.
    """
    if not stderr_is_terminal():
        yield lambda text, *more: None
        return
    from rich import progress as bars
    from rich.table import Column

    label_column = Column(no_wrap=True, overflow="ellipsis")  # a narrow terminal cannot erase more
    progress = _progress(
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}", markup=False, table_column=label_column),
    )
    task = progress.add_task(harmless(label), total=None)
    with _live(progress) as show_below:

        def update(text: str, *more: str) -> None:
            progress.update(task, description=harmless(text))
            show_below(*more)

        yield update


def _progress(*columns: ProgressColumn) -> Progress:
    """A line of columns, for `_live`."""
    from rich.progress import Progress

    return Progress(*columns, console=stderr_console())


@contextmanager
def _live(progress: Progress) -> Iterator[Callable[..., None]]:
    """Show a progress line on stderr; yields `show_below(*lines)` for what stands below it.

    Only a terminal that is tall enough shows what stands below. stdout is left alone: by default
    rich redirects it to its own console, and answers would go to the terminal instead of the file.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    below: list[Text] = []

    def show_below(*lines: str) -> None:
        is_tall = shutil.get_terminal_size().lines >= _TALL
        below[:] = [
            Text(harmless(line), style="dim", no_wrap=True, overflow="ellipsis")
            for line in lines
            if line and is_tall
        ]

    with Live(
        get_renderable=lambda: Group(progress, *below),
        console=progress.console,
        refresh_per_second=10,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield show_below
