"""Text for the terminal: answers parsed as Markdown, and lines cut to a width. Pure."""

from __future__ import annotations

import functools

from markdown_it import MarkdownIt
from rich.cells import cell_len, set_cell_size

# Rules that are off: their syntax is shown as the model wrote it. With `lheading` (underlined
# headings), the line before a list would look like a heading while the list's first "-" arrives.
_DISABLED = ["html_block", "html_inline", "image", "reference", "lheading"]


@functools.cache
def markdown_parser() -> MarkdownIt:
    """Return the parser for answers: CommonMark, tables and strikethrough, less `_DISABLED`."""
    return MarkdownIt().enable(["strikethrough", "table"]).disable(_DISABLED)


def code_blocks(text: str) -> list[str]:
    """Return the contents of a text's code blocks, in order."""
    tokens = markdown_parser().parse(text)
    return [token.content for token in tokens if token.type in ("fence", "code_block")]


def shortened(text: str, width: int = 60) -> str:
    """Return a text as one line of at most `width` columns; wide characters take two."""
    return clipped(" ".join(text.split()), width)


def clipped(line: str, width: int) -> str:
    """Return a line cut to `width` columns; blanks at its beginning stay."""
    if cell_len(line) <= width:
        return line
    return set_cell_size(line, max(0, width - 1)).rstrip() + "…"
