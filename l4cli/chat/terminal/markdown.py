"""Markdown to lines for a terminal, block by block, for text that is still being written.

Only the last block of a text can change by what follows: all before it is final. The rules are
those of CommonMark with tables, less what would lose or misread an answer: HTML, images and link
references stay as they are written, a line break is a line break, and underlined headings, as which
every list would flash up, are not known.
"""

from __future__ import annotations

import itertools

from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, ListItem, Markdown
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.syntax import Syntax
from rich.text import Text

from l4cli.chat.text import markdown_parser

# The terminal's own colours, so that code can be read on light and dark backgrounds alike.
_CODE_THEME = "ansi_dark"


def split_blocks(text: str) -> list[str]:
    """The top-level blocks of a text, in order; only the last may go on."""
    starts = [
        token.map[0]
        for token in markdown_parser().parse(text)
        if token.level == 0 and token.nesting >= 0 and token.map
    ]
    lines = text.split("\n")
    starts.append(len(lines))
    return ["\n".join(lines[start:end]) for start, end in itertools.pairwise(starts)]


class BlockRenderer:
    """Renders blocks to lines with escape codes; colours as the environment allows."""

    def __init__(self) -> None:
        self._console = Console(force_terminal=True, legacy_windows=False, highlight=False)
        self._blocks = _Blocks()

    def lines(self, block: str, width: int) -> list[str]:
        """The lines of one block, at most `width` columns wide, none blank at its ends.

        What rich cannot render is shown as it was written: no answer may end the chat.
        """
        try:
            lines = self._render(self._blocks.holding(block), width)
        except Exception:
            lines = self._render(Text(block), width)
        filled = [i for i, line in enumerate(lines) if line]
        return lines[filled[0] : filled[-1] + 1] if filled else []

    def _render(self, renderable: RenderableType, width: int) -> list[str]:
        options = self._console.options.update(width=max(1, width), height=None)
        return [
            self._ansi(line) for line in self._console.render_lines(renderable, options, pad=False)
        ]

    def _ansi(self, line: list[Segment]) -> str:
        while line and not line[-1].text.strip():
            line = line[:-1]
        if not line:
            return ""
        last = line[-1]
        line = [*line[:-1], Segment(last.text.rstrip(), last.style)]
        with self._console.capture() as capture:
            self._console.print(Segments(line), end="", soft_wrap=True)
        return capture.get()


class _Heading(Heading):
    """Bold, at the left, the first level underlined: no boxes in a conversation."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text.copy()
        text.stylize("bold underline" if self.tag == "h1" else "bold")
        yield text


class _CodeBlock(CodeBlock):
    """Highlighted, two columns in, on the terminal's own background."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        syntax = Syntax(
            code, self.lexer_name, theme=self.theme, word_wrap=True, background_color="default"
        )
        yield Padding(syntax, (0, 0, 0, 2))


class _ListItem(ListItem):
    """Numbers with their point."""

    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        width = len(str(last_number)) + 3
        inner = options.update(width=max(1, options.max_width - width))
        style = console.get_style("markdown.item.number", default="none")
        numeral = f"{number}. ".rjust(width)
        for line in console.render_lines(self.elements, inner, style=self.style):
            yield Segment(numeral, style)
            yield from line
            yield Segment("\n")
            numeral = " " * width


class _Blocks(Markdown):
    """rich's Markdown with the parser and the elements of this module.

    One for all blocks: making one takes as long as rendering a short paragraph.
    """

    elements = {  # noqa: RUF012 - rich's own attribute
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
        "list_item_open": _ListItem,
    }

    def __init__(self) -> None:
        super().__init__("", code_theme=_CODE_THEME, hyperlinks=False)

    def holding(self, block: str) -> _Blocks:
        """Itself, to be rendered as this block."""
        self.parsed = markdown_parser().parse(block)
        _keep_line_breaks(self.parsed)
        return self


def _keep_line_breaks(tokens: list[Token]) -> None:
    for token in tokens:
        if token.type == "softbreak":
            token.type = "hardbreak"
        _keep_line_breaks(token.children or [])
