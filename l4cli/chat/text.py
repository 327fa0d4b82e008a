"""Texts as they fit into a line of a terminal. Pure."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

# What a terminal would obey is shown as a picture of it instead: answers are only text.
_PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t\r"},
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    0x7F: 0x2421,
    ord("\r"): None,
}


def harmless(text: str) -> str:
    """Text without the control characters that move a terminal's cursor or change its state."""
    return text.translate(_PICTURES)


def shortened(text: str, width: int = 60) -> str:
    """A text as one line of at most `width` columns; wide characters take two."""
    return clipped(" ".join(text.split()), width)


def clipped(line: str, width: int) -> str:
    """A line cut at `width` columns; blanks at its beginning stay."""
    if cell_len(line) <= width:
        return line
    return set_cell_size(line, max(0, width - 1)).rstrip() + "…"
