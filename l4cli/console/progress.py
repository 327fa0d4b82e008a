"""Shows progress on stderr, if that is a terminal: bars and status lines.

A terminal that cannot move its cursor gets a line now and then. rich honours NO_COLOR by itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from l4cli.amounts import human_size
from l4cli.console.plain_progress import PlainProgress
from l4cli.console.streams import notes_above, stderr_console, stderr_is_terminal
from l4cli.printable import harmless
from l4cli.sparkline import Rates

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_TALL = 16  # lines of a terminal that has room for more than one line of progress
# Columns left free at the end of a line. A terminal shows a Ctrl-C there as ^C; without room for it
# the line below would be taken, and the progress line could not be erased.
_MARGIN = 3
_STOPPING = "stopping …"

# What tells that work is being stopped, for each progress line that is shown; the last one counts.
_on_stopping: list[Callable[[], None]] = []


def show_stopping() -> None:
    """Let the progress line, if one is shown, tell that its work is being stopped.

    For the time that it takes until the work ends. Safe from any thread.
    """
    if _on_stopping:
        _on_stopping[-1]()


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
        with _plain() as plain:
            yield lambda done, detail: plain.tell(
                label if done is None else f"{label}: {human_size(done)} of {human_size(total)}"
            )
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
        with _plain() as plain:
            yield lambda done: plain.tell(f"{label}: {int(done):,} of {total:,} {unit}")
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
        with _plain() as plain:
            yield lambda text, *more: plain.tell(text)
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
            if progress.tasks[0].description != _STOPPING:
                progress.update(task, description=harmless(text))
            show_below(*more)

        yield update


@contextmanager
def _plain() -> Iterator[PlainProgress]:
    """Progress in lines; none if stderr is no terminal."""
    plain = PlainProgress()
    with _telling(lambda: plain.tell_now(_STOPPING)):
        yield plain


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
    from rich.constrain import Constrain
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

    console = progress.console
    live = Live(
        get_renderable=lambda: Constrain(Group(progress, *below), console.width - _MARGIN),
        console=console,
        refresh_per_second=10,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )

    def tell() -> None:
        progress.update(progress.tasks[0].id, description=_STOPPING)
        with suppress(OSError):  # the terminal is gone
            live.refresh()

    with live, notes_above(lambda text: console.out(text, highlight=False)), _telling(tell):
        yield show_below


@contextmanager
def _telling(tell: Callable[[], None]) -> Iterator[None]:
    """Let `show_stopping` call `tell`."""
    _on_stopping.append(tell)
    try:
        yield
    finally:
        _on_stopping.remove(tell)
