"""Where output goes: data to stdout, everything else to stderr.

Progress shows only on a terminal; rich is loaded only when something needs it, and honours
NO_COLOR and TERM=dumb by itself.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from l4cli.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn


# What a terminal would obey is shown as a picture of it instead: answers are only text.
_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t\r"},
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    0x7F: 0x2421,
    ord("\r"): None,
}


class ReaderGoneError(Exception):
    """Whoever read our stdout has closed it, as `| head` does."""


def data(text: str, *, end: str = "\n") -> None:
    """Write to stdout and flush.

    OutputError when it cannot be written, ReaderGoneError when nobody reads it any more.
    """
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {error.strerror}") from error


def data_json(value: Any) -> None:
    """Write one JSON value to stdout, for people and programs alike."""
    data(json.dumps(value, ensure_ascii=False, indent=2))


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """A line on stderr about what went otherwise than one would think, with the program's name."""
    note(f"l4: {text}")


def command_line(*more: str, without: Sequence[str] = ()) -> str:
    """The command that was given, as one would type it, with what it lacks of `more`.

    Options in `without` are left out.
    """
    given = [word for word in sys.argv[1:] if word not in without]
    return shlex.join(["l4", *given, *(option for option in more if option not in given)])


def stderr_is_terminal() -> bool:
    """Whether someone is watching stderr, on a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def stdout_is_terminal() -> bool:
    """Whether data appears on a terminal instead of in a file or a pipe."""
    return sys.stdout.isatty()


def hold_standard_streams() -> None:
    """Keep the places of streams that were closed before l4 began (`l4 … 2>&-`).

    The next file opened would get such a place, and whatever is written to it. Without a stderr
    notes go nowhere; without a stdout there is nothing to do: OutputError.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest place that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stdout is None:
        raise OutputError("cannot write to stdout: it is closed")


def use_utf8() -> None:
    """Write UTF-8 whatever the locale says; a lone surrogate in a name must not stop a run."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def stderr_console() -> Console:
    """A rich console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False
) -> None:
    """A table on stdout: ruled and coloured on a terminal, aligned plain text in a pipe."""
    from rich.console import Console
    from rich.table import Table

    stream = sys.stderr if to_stderr else sys.stdout
    plain = not stream.isatty()
    width = 200 if plain else None  # a pipe has no width to wrap at
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=plain)
    for row in rows:
        grid.add_row(*row)
    console = Console(file=stream, width=width, highlight=False)
    with console.capture() as capture:
        console.print(grid)
    write = note if to_stderr else data
    write("\n".join(line.rstrip() for line in capture.get().splitlines()))


def harmless(text: str) -> str:
    """Text without the control characters that move a terminal's cursor or change its state."""
    return text.translate(_PICTURES)


def heat_map(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float | None]]
) -> None:
    """Shares of 0..1 on stdout as percentages, from red to green on a terminal with colours."""
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
        grid.add_row(f"{name} ", *shown)
    console = Console(file=sys.stdout, width=200 if plain else None, highlight=False)
    with console.capture() as capture:
        console.print(grid)
    data("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _heat(value: float) -> str:
    """A style for a share: black on red (none) over yellow to green (all)."""
    red, green = min(1.0, 2 - 2 * value), min(1.0, 2 * value)
    return f"#000000 on #{round(70 + 160 * red):02x}{round(70 + 140 * green):02x}46"


def human_size(n_bytes: float) -> str:
    """Bytes in decimal units, as download pages and disks count them: 65.35 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.2f} {unit}"
        n_bytes /= 1000
    raise AssertionError("unreachable")


@contextmanager
def byte_progress(
    label: str, total: int, *, done: int = 0
) -> Iterator[Callable[[int | None, str], None]]:
    """A bar with bytes, rate and time left, `done` to begin with; yields `update(done, detail)`.

    None for `done` leaves it as it was.
    """
    if not stderr_is_terminal():
        yield lambda done, detail: None
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[detail]}"),
    )
    with _live(*columns) as progress:
        task = progress.add_task(label, total=total, completed=done, detail="")
        yield lambda done, detail: progress.update(task, completed=done, detail=detail[:24])


@contextmanager
def token_progress(label: str, total: int, *, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar with tokens, tokens a second and time left; yields `update(done)`.

    The rate counts from `done`, for what is there already took no time.
    """
    if not stderr_is_terminal():
        yield lambda done: None
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=None),
        bars.TextColumn("{task.completed:,.0f} of {task.total:,.0f} tokens"),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    with _live(*columns) as progress:
        task = progress.add_task(label, total=total, completed=done, rate="")

        def update(done: int) -> None:
            progress.update(task, completed=done)
            speed = progress.tasks[0].speed
            progress.update(task, rate=f"{speed:,.0f} tokens/s" if speed else "")

        yield update


@contextmanager
def status(label: str) -> Iterator[Callable[[str], None]]:
    """One line that is rewritten in place; yields `update(text)`."""
    if not stderr_is_terminal():
        yield lambda text: None
        return
    from rich import progress as bars

    with _live(bars.SpinnerColumn(), bars.TextColumn("{task.description}")) as progress:
        task = progress.add_task(label, total=None)
        yield lambda text: progress.update(task, description=text)


def _live(*columns: ProgressColumn) -> Progress:
    """A progress display on stderr that keeps its hands off stdout.

    rich would otherwise send what is written to stdout meanwhile to its own console: answers
    would go to the terminal instead of into the user's file.
    """
    from rich.progress import Progress

    return Progress(
        *columns,
        console=stderr_console(),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
