"""Renders Markdown as lines for a terminal, block by block, while the text is still growing.

Later text can change only the last block; all blocks before it are final. The rules are those of
CommonMark with tables, with changes that keep answers complete and readable: HTML, images and link
references are shown as they are written, a line break stays a line break, and underlined headings
are off (the line before a list would look like a heading for a moment).
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

from l4cli.chat.terminal.tables import FoldedTable
from l4cli.chat.text import markdown_parser

# The terminal's own colours, so that code is readable on light and on dark backgrounds.
_CODE_THEME = "ansi_dark"


def split_blocks(text: str) -> list[str]:
    """Split a text into its top-level blocks; only the last one can still grow."""
    starts = [
        token.map[0]
        for token in markdown_parser().parse(text)
        if token.level == 0 and token.nesting >= 0 and token.map
    ]
    lines = text.split("\n")
    starts.append(len(lines))
    return ["\n".join(lines[start:end]) for start, end in itertools.pairwise(starts)]


class BlockRenderer:
    """Renders blocks as lines with escape codes, in colour if the environment allows it."""

    def __init__(self) -> None:
        self._console = Console(force_terminal=True, legacy_windows=False, highlight=False)
        self._blocks = _Blocks()

    def lines(self, block: str, width: int) -> list[str]:
        """Return the lines of one block, at most `width` columns wide, without blank ends.

        A block that rich cannot render is shown as it was written: no answer may end the chat.
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
        """Return a rendered line as text with escape codes, without blanks at its end."""
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
    """A heading in bold at the left, underlined at level 1; rich would draw a box."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text.copy()
        text.stylize("bold underline" if self.tag == "h1" else "bold")
        yield text


class _CodeBlock(CodeBlock):
    """A highlighted code block, indented by two columns, on the terminal's own background."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        syntax = Syntax(
            code, self.lexer_name, theme=self.theme, word_wrap=True, background_color="default"
        )
        yield Padding(syntax, (0, 0, 0, 2))


class _ListItem(ListItem):
    """A list item whose number has a point after it: "1."."""

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

    One object serves all blocks: making one takes as long as rendering a short paragraph.
    """

    elements = {  # noqa: RUF012 - rich's own attribute
        **Markdown.elements,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
        "list_item_open": _ListItem,
        "table_open": FoldedTable,
    }

    def __init__(self) -> None:
        super().__init__("", code_theme=_CODE_THEME, hyperlinks=False)

    def holding(self, block: str) -> _Blocks:
        """Take another block as the content; return this object."""
        self.parsed = markdown_parser().parse(block)
        _keep_line_breaks(self.parsed)
        return self


def _keep_line_breaks(tokens: list[Token]) -> None:
    for token in tokens:
        if token.type == "softbreak":
            token.type = "hardbreak"
        _keep_line_breaks(token.children or [])
