"""Texts as they fit into a line of a terminal. Pure."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from l4cli.console import harmless as harmless


def shortened(text: str, width: int = 60) -> str:
    """A text as one line of at most `width` columns; wide characters take two."""
    return clipped(" ".join(text.split()), width)


def clipped(line: str, width: int) -> str:
    """A line cut at `width` columns; blanks at its beginning stay."""
    if cell_len(line) <= width:
        return line
    return set_cell_size(line, max(0, width - 1)).rstrip() + "…"
