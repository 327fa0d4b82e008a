"""Writes tables, maps and paragraphs to stdout: in the width of a terminal, plain in a pipe."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from l4cli.columns import GAP, aligned, fitted
from l4cli.console.streams import data, stdout_is_terminal
from l4cli.printable import harmless


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False
) -> None:
    """Write a table with all its text: on a terminal in its width, in a pipe a line for each row.

    No word is divided. A terminal that is too narrow for that gets a line for each cell.

    columns: the headings.
    to_stderr: write to stderr instead of stdout.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = sys.stderr if to_stderr else sys.stdout
    cells = [[harmless(cell) for cell in row] for row in rows]
    if not stream.isatty():
        _write_styled("\n".join(aligned(columns, cells, cell_len)), to_stderr=to_stderr)
        return
    console = Console(file=stream, highlight=False)
    widths = fitted(columns, cells, console.width, cell_len)
    with console.capture() as capture:
        if widths is None:
            for row in cells:
                for heading, cell in zip(columns, row, strict=True):
                    label = (f"{heading}: ", "bold") if heading else ""
                    console.print(Text.assemble(label, cell, overflow="fold"))
                console.print()
        else:
            grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
            for column, width in zip(columns, widths, strict=True):
                grid.add_column(column, width=width, overflow="fold")
            for row in cells:
                grid.add_row(*map(Text, row))  # a str would be read as markup
            console.print(grid)
    _write_styled(capture.get(), to_stderr=to_stderr)


def paragraph(text: str, *, first: str = "", rest: str = "", width: int | None = None) -> None:
    """Write a text to stdout, on a terminal in lines that divide no word.

    first, rest: begin the first line and those after it.
    width: most columns, for a pipe as well; None leaves a pipe one line.
    """
    if stdout_is_terminal():
        columns = shutil.get_terminal_size().columns
        width = min(columns, width or columns)
    if width is None:
        data(first + text)
        return
    lines = textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
    data("\n".join(lines))


def heat_map(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float | None]]
) -> None:
    """Write a grid of percentages to stdout, coloured from red (0) to green (1) on a terminal.

    cells: one list of shares (0 to 1) for each row; None is shown as a dash.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = not stdout_is_terminal()
    grid = Table(box=None, pad_edge=False, padding=0, header_style="bold", collapse_padding=True)
    grid.add_column("", no_wrap=True)
    for column in columns:
        grid.add_column(f" {column}", justify="right", no_wrap=True)
    for name, values in zip(rows, cells, strict=True):
        shown = [
            Text("   –") if value is None else Text(f"{value:4.0%}"[:-1].rjust(4), _heat(value))
            for value in values
        ]
        grid.add_row(Text(harmless(f"{name} ")), *shown)
    console = Console(file=sys.stdout, width=200 if plain else None, highlight=False)
    with console.capture() as capture:
        console.print(grid)
    _write_styled(capture.get())


def _write_styled(text: str, *, to_stderr: bool = False) -> None:
    """Write what rich has made, without the blanks that fill its lines."""
    lines = "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")
    if to_stderr:
        sys.stderr.write(f"{lines}\n")
        sys.stderr.flush()
    else:
        data(lines, is_styled=True)


def _heat(value: float) -> str:
    """The style for a share: black text on red (0) through yellow (0.5) to green (1)."""
    red, green = min(1.0, 2 - 2 * value), min(1.0, 2 * value)
    return f"#000000 on #{round(70 + 160 * red):02x}{round(70 + 140 * green):02x}46"
