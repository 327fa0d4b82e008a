"""Lines at the bottom of a terminal that are rewritten in place, without flicker.

Nothing is cleared and then drawn: each update writes, in one go, only the lines that changed, over
what stood there. Lines that have scrolled off the screen are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.text import Text

# Terminals that know the first pair show what comes between all at once; the others skip it.
_BEGIN, _END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"


class Region:
    """`write` gets text with escape codes; `size` tells the terminal's columns and rows.

    Lines must be narrower than the terminal. The region begins where the cursor is, in column 0.
    """

    def __init__(self, write: Callable[[str], object], size: Callable[[], tuple[int, int]]) -> None:
        self._write, self._size = write, size
        self._shown: list[str] = []
        self._width = 0

    def update(self, lines: Sequence[str]) -> None:
        """Show `lines` in the place of those shown before; the cursor ends behind the last one."""
        width, height = self._size()
        if self._shown and width < self._width:
            self._erase(width, height)
        self._width = width
        reachable = max(0, len(self._shown) - height)  # the first line still on the screen
        first = max(_first_difference(self._shown, lines), reachable)
        if first == len(lines) == len(self._shown) or len(lines) < reachable:
            return
        out = [self._move_to(first), "\r\n".join(f"{line}\x1b[K" for line in lines[first:])]
        if len(lines) < len(self._shown):
            out.append("\x1b[J")
        if len(lines) == first:  # nothing below: the cursor belongs behind the line above
            out.append(self._behind(lines))
        self._write(_BEGIN + "".join(out) + _END)
        self._shown = list(lines)

    def commit(self, count: int) -> None:
        """The first `count` lines are final: they will not be given again."""
        del self._shown[:count]

    def close(self) -> None:
        """Leave the cursor in column 0 below the region."""
        if self._shown:
            self._write("\r\n")
        self._shown = []

    def _move_to(self, index: int) -> str:
        """To column 0 of a line that is shown, or of the one that will be next."""
        if index == len(self._shown):
            return "\r\n" if self._shown else "\r"
        up = len(self._shown) - 1 - index
        return (f"\x1b[{up}A" if up else "") + "\r"

    def _behind(self, lines: Sequence[str]) -> str:
        if not lines:
            return ""
        columns = cell_len(Text.from_ansi(lines[-1]).plain)
        return "\x1b[A\r" + (f"\x1b[{columns}C" if columns else "")

    def _erase(self, width: int, height: int) -> None:
        """Take everything back after the terminal became narrower and wrapped the lines anew."""
        cells = (cell_len(Text.from_ansi(line).plain) for line in self._shown)
        rows = sum(max(1, -(-n // width)) for n in cells)
        up = min(rows, height) - 1
        self._write((f"\x1b[{up}A" if up else "") + "\r\x1b[J")
        self._shown = []


def _first_difference(old: Sequence[str], new: Sequence[str]) -> int:
    for index, (a, b) in enumerate(zip(old, new, strict=False)):
        if a != b:
            return index
    return min(len(old), len(new))
