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
    `reflows` says that the terminal wraps lines anew when it becomes narrower, as most do.
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
        self._num_fixed = 0  # of the lines shown, those at the top that cannot be rewritten
        self._width = 0

    def update(self, lines: Sequence[str]) -> None:
        """Show `lines` in the place of those shown before; the cursor ends behind the last one."""
        width, height = self._size()
        has_other_width = bool(self._shown) and width != self._width
        self._width = width
        if has_other_width:
            self._write(_BEGIN + self._rewrapped(lines, width, height) + _END)
            self._shown = list(lines)
            return
        reachable = max(self._num_fixed, len(self._shown) - height)  # the first still on the screen
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

    def extend(self, text: str) -> bool:
        """Write `text` behind the last line as it is; False, and nothing, where it may not go so.

        That is where the line is styled, or gets too long, or the terminal's width has changed.
        """
        last = self._shown[-1] if self._shown else "\x1b"
        width, _ = self._size()
        if "\x1b" in last or width != self._width or cell_len(last) + cell_len(text) >= width:
            return False
        self._write(text)
        self._shown[-1] += text
        return True

    def last_word(self) -> str:
        """The last word shown."""
        return self._shown[-1].rpartition(" ")[2] if self._shown else ""

    def commit(self, count: int) -> None:
        """The first `count` lines are final: they will not be given again."""
        del self._shown[:count]
        self._num_fixed = max(0, self._num_fixed - count)

    def close(self) -> None:
        """Leave the cursor in column 0 below the region."""
        if self._shown:
            self._write("\r\n")
        self._shown = []
        self._num_fixed = 0

    def _move_to(self, index: int) -> str:
        """To column 0 of a line that is shown, or of the one that will be next."""
        if index == len(self._shown):
            return "\r\n" if self._shown else "\r"
        up = len(self._shown) - 1 - index
        return (f"\x1b[{up}A" if up else "") + "\r"

    def _behind(self, lines: Sequence[str]) -> str:
        if not lines:
            return ""
        columns = cell_len(_plain(lines[-1]))
        return "\x1b[A\r" + (f"\x1b[{columns}C" if columns else "")

    def _rewrapped(self, lines: Sequence[str], width: int, height: int) -> str:
        """`lines`, for another width than those shown, over as many of these as can be reached.

        What was pushed off the screen stays, wrapped as it is; the rest goes on behind its words.
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
        # Rows are erased first: only that makes a terminal forget that it wrapped them.
        return up + "\r\n".join(f"\x1b[2K{line}" for line in rest) + "\x1b[J"


def _behind_words(lines: Sequence[str], words: str) -> tuple[Sequence[str], int]:
    """What of `lines` follows `words`, and how many lines that does not include from the top.

    Blanks do not count. All of it if they begin with other words: better twice than not at all.
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
