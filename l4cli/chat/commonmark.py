"""Answers as Markdown: CommonMark with tables, less what would lose or misread an answer."""

from __future__ import annotations

import functools

from markdown_it import MarkdownIt

# They stay as they are written. Every list would flash up as an underlined heading.
_NOT_KNOWN = ["html_block", "html_inline", "image", "reference", "lheading"]


@functools.cache
def parser() -> MarkdownIt:
    """The one parser of answers."""
    return MarkdownIt().enable(["strikethrough", "table"]).disable(_NOT_KNOWN)


def code_blocks(text: str) -> list[str]:
    """What stands in a text's code blocks, in order, as one would paste it."""
    return [
        token.content for token in parser().parse(text) if token.type in ("fence", "code_block")
    ]
