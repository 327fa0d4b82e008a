"""Lines at the bottom of a terminal that are rewritten in place, without flicker.

An update never clears the region first. It overwrites only the lines that changed, with a single
write. Lines that have scrolled off the screen are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.text import Text

# Mode 2026: a terminal that supports it shows everything between the two at once; others ignore
# it. Mode 25 hides the cursor meanwhile.
_BEGIN, _END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"


class Region:
    """The region begins at the cursor, which must be in column 0.

    write: sends text with escape codes to the terminal.
    size: returns the terminal's columns and rows.
    reflows: whether the terminal wraps its lines again when it becomes narrower, as most do.

    Lines must be narrower than the terminal.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        size: Callable[[], tuple[int, int]],
        *,
        reflows: bool = True,
    ) -> None:
        self._write, self._size, self._reflows = write, size, reflows
        self._shown: list[str] = []
        self._num_fixed = 0  # how many lines at the top of `_shown` cannot be rewritten
        self._width = 0

    def update(self, lines: Sequence[str]) -> None:
        """Replace the lines that are shown by `lines`; the cursor ends after the last one."""
        width, height = self._size()
        has_other_width = bool(self._shown) and width != self._width
        self._width = width
        if has_other_width:
            self._write(_BEGIN + self._rewrapped(lines, width, height) + _END)
            self._shown = list(lines)
            return
        reachable = max(self._num_fixed, len(self._shown) - height)  # first line still on screen
        first = max(_first_difference(self._shown, lines), reachable)
        if first == len(lines) == len(self._shown) or len(lines) < reachable:
            return
        out = [self._move_to(first), "\r\n".join(f"{line}\x1b[K" for line in lines[first:])]
        if len(lines) < len(self._shown):
            out.append("\x1b[J")
        if len(lines) == first:  # only erased lines: move the cursor to the end of the last line
            out.append(self._behind(lines))
        self._write(_BEGIN + "".join(out) + _END)
        self._shown = list(lines)

    def extend(self, text: str) -> bool:
        """Append `text` to the last line without redrawing it; return whether that was possible.

        It is not possible, and nothing is written, if the line is styled or would become too long,
        or if the terminal's width has changed.
        """
        last = self._shown[-1] if self._shown else "\x1b"
        width, _ = self._size()
        if "\x1b" in last or width != self._width or cell_len(last) + cell_len(text) >= width:
            return False
        self._write(text)
        self._shown[-1] += text
        return True

    def last_word(self) -> str:
        """Return the last word that is shown."""
        return self._shown[-1].rpartition(" ")[2] if self._shown else ""

    def commit(self, count: int) -> None:
        """Give up the first `count` lines: they stay on the screen, but leave the region.

        Later updates do not contain them any more.
        """
        del self._shown[:count]
        self._num_fixed = max(0, self._num_fixed - count)

    def close(self) -> None:
        """Leave the cursor in column 0 below the region."""
        if self._shown:
            self._write("\r\n")
        self._shown = []
        self._num_fixed = 0

    def _move_to(self, index: int) -> str:
        """Return the codes that move to column 0 of a line, shown or the next one to come."""
        if index == len(self._shown):
            return "\r\n" if self._shown else "\r"
        up = len(self._shown) - 1 - index
        return (f"\x1b[{up}A" if up else "") + "\r"

    def _behind(self, lines: Sequence[str]) -> str:
        """Return the codes that move from the line below `lines` to the end of the last one."""
        if not lines:
            return ""
        columns = cell_len(_plain(lines[-1]))
        return "\x1b[A\r" + (f"\x1b[{columns}C" if columns else "")

    def _rewrapped(self, lines: Sequence[str], width: int, height: int) -> str:
        """Return the text that draws `lines`, wrapped for a new width, over the old lines.

        Old lines that scrolled off the screen cannot be rewritten and stay as they are. Of `lines`,
        only the words that come after those are drawn.
        """
        rows = [
            max(1, -(-cell_len(_plain(line)) // width)) if self._reflows else 1
            for line in self._shown
        ]
        top, num_rows = len(rows), 0
        while top > self._num_fixed and num_rows + rows[top - 1] < height:
            top -= 1
            num_rows += rows[top]
        rest, self._num_fixed = _behind_words(lines, "".join(map(_plain, self._shown[:top])))
        up = f"\x1b[{num_rows - 1}A\r" if num_rows > 1 else "\r" if num_rows else "\r\n"
        # Erase each row first: only then does a terminal forget that it had wrapped it.
        return up + "\r\n".join(f"\x1b[2K{line}" for line in rest) + "\x1b[J"


def _behind_words(lines: Sequence[str], words: str) -> tuple[Sequence[str], int]:
    """Return the part of `lines` after `words`, and how many lines at the top are not whole in it.

    Blanks are ignored. If `lines` do not begin with `words`, all of them are returned, with 0:
    showing text twice is better than losing it.
    """
    wanted = "".join(words.split())
    for number, line in enumerate(lines):
        if not wanted:
            return lines[number:], number
        text = _plain(line)
        own = "".join(text.split())
        if own.startswith(wanted) and len(own) > len(wanted):
            ends = [i for i, character in enumerate(text) if not character.isspace()]
            tail = text[ends[len(wanted)] :]
            return [tail, *lines[number + 1 :]], min(number + 1, len(lines) - 1)
        if not wanted.startswith(own):
            break
        wanted = wanted[len(own) :]
    return ([], len(lines)) if not wanted else (lines, 0)


def _plain(line: str) -> str:
    return Text.from_ansi(line).plain


def _first_difference(old: Sequence[str], new: Sequence[str]) -> int:
    for index, (a, b) in enumerate(zip(old, new, strict=False)):
        if a != b:
            return index
    return min(len(old), len(new))
