"""Renders Markdown tables with all their text: cells are folded, and narrow terminals get records.

No word is broken that fits the terminal, so that addresses can be copied.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import TableElement
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from l4cli.columns import shared_out


class FoldedTable(TableElement):
    """A table as a grid if the longest words of all columns fit side by side, else as records."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        header = self.header.row.cells if self.header and self.header.row else []
        headings = [_headed(cell.content) for cell in header]
        rows = [[cell.content for cell in row.cells] for row in self.body.rows] if self.body else []
        widths = [
            Measurement.get(console, options.update(max_width=1 << 16), _column(headings, rows, i))
            for i in range(len(headings))
        ]
        grid = Table(
            box=box.SIMPLE, pad_edge=False, style="markdown.table.border", collapse_padding=True
        )
        room = options.max_width - 2 * len(headings)  # a blank at each edge, two between columns
        chosen = shared_out([w.minimum for w in widths], [w.maximum for w in widths], room)
        if chosen is None:
            yield from _records(headings, rows)
            return
        for heading, width in zip(headings, chosen, strict=True):
            grid.add_column(heading, width=width, overflow="fold")
        for row in rows:
            grid.add_row(*row)
        yield grid


def _headed(content: Text) -> Text:
    heading = content.copy()
    heading.stylize("markdown.table.header")
    return heading


def _column(headings: Sequence[Text], rows: Sequence[Sequence[Text]], index: int) -> Text:
    """All cells of a column, one a line, to be measured."""
    return Text("\n").join([headings[index], *(row[index] for row in rows)])


def _records(headings: Sequence[Text], rows: Sequence[Sequence[Text]]) -> RenderResult:
    """Each row as lines of "heading: cell", with an empty line between rows."""
    for row in rows or [[Text()] * len(headings)]:
        yield Text()
        for heading, cell in zip(headings, row, strict=True):
            if name := heading.plain.strip():
                yield Text.assemble((f"{name}: ", "bold"), cell, overflow="fold")
            else:
                yield Text.assemble(cell, overflow="fold")
