"""How an answer appears: plain as it comes, or as Markdown that settles while it is written."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable

from l4cli import console
from l4cli.chat.terminal.markdown import BlockRenderer, split_blocks
from l4cli.chat.terminal.region import Region
from l4cli.chat.text import harmless
from l4cli.chat.turn import AnswerView

# Rendering may take up to this share of the time; the rest is the model's.
_RENDER_SHARE = 0.005
_MIN_INTERVAL = 0.04  # seconds
# Characters that mean nothing to Markdown within a line, once so much of the line has been drawn
# that it is known not to be a heading, a list's item or a table's row.
_PLAIN = re.compile(r"(?:[^\W_]|[ ,.;:?!()'\"%/-])*")
_MIN_DRAWN = 12


class PipeView:
    """The answer as it is, for programs; it ends with one newline."""

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
    """The answer on a terminal without Markdown, as it comes."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._in_line = False

    def progress(self, done: int, total: int) -> None:
        pass

    def write(self, text: str) -> None:
        shown = harmless(text)
        self._write(shown)
        self._in_line = not shown.endswith("\n") if shown else self._in_line

    def close(self) -> None:
        if self._in_line:
            self._write("\n")
        self._in_line = False


class MarkdownView:
    """The answer as Markdown: finished blocks stand, the last one is rewritten where it changes.

    Rendering costs milliseconds, so it is rationed; plain words in the middle of a line need none.
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
        self._text = ""  # what is not final yet
        self._has_begun = False
        self._is_drawn = False  # whether all of it is on the screen
        self._not_before = 0.0

    def progress(self, done: int, total: int) -> None:
        """A line that the answer replaces."""
        if not self._has_begun:
            reading = f"reading the prompt: {done:,} of {total:,} tokens" if total else "…"
            width, _ = self._size()
            self._region.update([f"\x1b[2m{reading[: width - 1]}\x1b[0m"])

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
        """Show text that needs no rendering behind the line it belongs to; False if it is not."""
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


def view_for_stdout(*, markdown: bool) -> Callable[[str], AnswerView]:
    """Makes the view that fits stdout, with the beginning of the answer in it if there is one."""

    def view(shown: str) -> AnswerView:
        made = _make_view(markdown)
        if shown:
            made.write(shown)
        return made

    return view


def _make_view(markdown: bool) -> AnswerView:
    if not sys.stdout.isatty():
        return PipeView(_write)
    if markdown and os.environ.get("TERM", "dumb") != "dumb":
        return MarkdownView(_write, terminal_size, reflows=_terminal_reflows())
    return PlainView(_write)


def _terminal_reflows() -> bool:
    """Whether the terminal wraps lines anew when it is resized: all do but xterm and its elders."""
    is_elder = os.environ.get("TERM", "").startswith(("linux", "vt", "screen"))
    return not (is_elder and "TMUX" not in os.environ) and "XTERM_VERSION" not in os.environ


def terminal_size() -> tuple[int, int]:
    """Columns and rows of the terminal on stdout, at this moment."""
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        columns = rows = 0
    return columns or 80, rows or 24


def _write(text: str) -> None:
    console.data(text, end="")
