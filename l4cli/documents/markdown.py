"""Finds the headings of a Markdown text."""

from __future__ import annotations

import re
from itertools import pairwise

from l4cli.documents.document import Heading
from l4cli.documents.text import printable

_FRONT_MATTER = re.compile(r"---\n.*?\n(?:---|\.\.\.)\n", re.DOTALL)
_MARKS = re.compile(r"[*_`]+|\[([^\]]*)\]\([^)]*\)")


def headings_of(text: str) -> tuple[Heading, ...]:
    """Return a Markdown text's headings, except those in code, quotations and front matter."""
    from markdown_it import MarkdownIt

    # Skip front matter: its closing rule would turn the line above it into a heading.
    front = _FRONT_MATTER.match(text)
    skipped = front.end() if front else 0
    starts = _line_starts(text, skipped)
    tokens = MarkdownIt("commonmark").disable("inline").parse(text[skipped:])
    headings = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.level == 0 and opening.map:
            title = printable(_MARKS.sub(r"\1", inline.content))
            offset = starts[opening.map[0]]
            headings.append(Heading(offset, int(opening.tag[1:]), title))
    return tuple(heading for heading in headings if heading.title)


def _line_starts(text: str, start: int) -> list[int]:
    starts, end = [start], text.find("\n", start)
    while end >= 0:
        starts.append(end + 1)
        end = text.find("\n", end + 1)
    return starts
