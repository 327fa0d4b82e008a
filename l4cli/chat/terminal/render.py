"""The views of an answer: plain text, or Markdown that is redrawn while the answer grows."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable

from l4cli import console
from l4cli.chat.terminal.bar import reading_text
from l4cli.chat.terminal.markdown import BlockRenderer, split_blocks
from l4cli.chat.terminal.region import Region
from l4cli.chat.turn import AnswerView
from l4cli.printable import harmless

# Rendering may take at most this share of the time; the rest is left to the model.
_RENDER_SHARE = 0.005
_MIN_INTERVAL = 0.04  # seconds
# Characters without a meaning in Markdown within a line. This holds once `_MIN_DRAWN` characters of
# the line are known: it is then clear that it is not a heading, a list item or a table row.
_PLAIN = re.compile(r"(?:[^\W_]|[ ,.;:?!()'\"%/-])*")
_MIN_DRAWN = 12


class PipeView:
    """Writes the answer unchanged, for programs, with exactly one newline at its end."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._newlines = ""

    def progress(self, done: int, total: int) -> None:
        pass

    def write(self, text: str) -> None:
        body = (self._newlines + text).rstrip("\n")
        self._newlines = (self._newlines + text)[len(body) :]
        if body:
            self._write(body)

    def close(self) -> None:
        self._write("\n")


class PlainView:
    """Shows the answer on a terminal as plain text, folded between words."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._folder = console.Folder(terminal_size()[0])
        self._in_line = False

    def progress(self, done: int, total: int) -> None:
        pass

    def write(self, text: str) -> None:
        shown = harmless(text)
        self._write(self._folder.feed(shown))
        self._in_line = not shown.endswith("\n") if shown else self._in_line

    def close(self) -> None:
        if self._in_line:
            self._write(self._folder.flush() + "\n")
        self._in_line = False


class MarkdownView:
    """Shows the answer as Markdown: finished blocks stay, the last block is redrawn as it changes.

    Rendering takes milliseconds, so its share of the time is limited. Plain words in the middle of
    a line are appended without rendering.

    write: sends text with escape codes to the terminal.
    size: returns the terminal's columns and rows.
    clock: returns seconds.
    reflows: as in `Region`.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        size: Callable[[], tuple[int, int]],
        clock: Callable[[], float] = time.perf_counter,
        *,
        reflows: bool = True,
    ) -> None:
        self._region = Region(write, size, reflows=reflows)
        self._renderer = BlockRenderer()
        self._size, self._clock = size, clock
        self._text = ""  # the blocks that are not final yet
        self._has_begun = False
        self._is_drawn = False  # whether all of `_text` is on the screen
        self._not_before = 0.0
        self._reading_since: tuple[int, float] | None = None  # tokens done, and the time, at first

    def progress(self, done: int, total: int) -> None:
        """Show a progress line with the time left, which the answer replaces."""
        if not self._has_begun:
            now = self._clock()
            if total and self._reading_since is None:
                self._reading_since = done, now
            text = reading_text(self._size()[0] - 1, done, total, self._left(done, total, now))
            self._region.update([f"\x1b[2m{text}\x1b[0m"])

    def _left(self, done: int, total: int, now: float) -> float | None:
        """Return the seconds until the prompt is read, at the rate so far."""
        first, since = self._reading_since or (done, now)
        return (total - done) * (now - since) / (done - first) if done > first else None

    def write(self, text: str) -> None:
        self._has_begun = True
        self._is_drawn = self._is_drawn and self._extend(text)
        self._text += text
        if self._is_drawn:
            return
        started = self._clock()
        if started >= self._not_before:
            self._draw()
            self._is_drawn = True
            cost = self._clock() - started
            self._not_before = started + max(_MIN_INTERVAL, cost / _RENDER_SHARE)

    def _extend(self, text: str) -> bool:
        """Append text that needs no rendering to the last line; return whether it was possible."""
        line = self._text.rpartition("\n")[2]
        word = line.rpartition(" ")[2]
        return (
            len(line) >= _MIN_DRAWN
            and bool(word)
            and word == self._region.last_word()
            and _PLAIN.fullmatch(text) is not None
            and self._region.extend(text)
        )

    def close(self) -> None:
        if self._has_begun:
            self._draw()
        else:
            self._region.update([])
        self._region.close()

    def _draw(self) -> None:
        blocks = split_blocks(harmless(self._text))
        width, _ = self._size()
        final: list[str] = []
        for block in blocks[:-1]:
            final += [*self._renderer.lines(block, width - 1), ""]
        last = self._renderer.lines(blocks[-1], width - 1) if blocks else []
        self._region.update([*final, *last])
        if final and last:
            self._region.commit(len(final))
            self._text = blocks[-1]


def silent_view(_shown: str) -> AnswerView:
    """Return a view that shows nothing, for an answer that is written as a whole."""
    return PipeView(lambda text: None)


def view_for_stdout(*, markdown: bool) -> Callable[[str], AnswerView]:
    """Return a function that makes the right view for stdout: pipe, plain or Markdown.

    Its argument is the text that the view shows from the beginning; "" for none.
    """

    def view(shown: str) -> AnswerView:
        made = _make_view(markdown)
        if shown:
            made.write(shown)
        return made

    return view


def _make_view(markdown: bool) -> AnswerView:
    if not sys.stdout.isatty():
        return PipeView(_write)
    if markdown and console.moves_cursor():
        return MarkdownView(_write, terminal_size, reflows=_terminal_reflows())
    return PlainView(_write)


def _terminal_reflows() -> bool:
    """Whether the terminal rewraps lines when resized: all do except xterm and older ones."""
    is_old = os.environ.get("TERM", "").startswith(("linux", "vt", "screen"))
    return not (is_old and "TMUX" not in os.environ) and "XTERM_VERSION" not in os.environ


def terminal_size() -> tuple[int, int]:
    """Return the current columns and rows of the terminal on stdout; 80 and 24 if unknown."""
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        columns = rows = 0
    return columns or 80, rows or 24


def _write(text: str) -> None:
    console.data(text, end="", is_styled=True)
