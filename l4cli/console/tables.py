"""Writes tables, maps and paragraphs to stdout: in the width of a terminal, plain in a pipe."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from l4cli.columns import GAP, aligned, fitted, fold, record
from l4cli.console.streams import data, stdout_is_terminal
from l4cli.printable import harmless

if TYPE_CHECKING:
    from rich.table import Table


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    remarks: Sequence[str] = (),
    to_stderr: bool = False,
) -> None:
    """Write a table with all its text: on a terminal in its width, in a pipe a line for each row.

    No word is divided, nor a number from its unit. A terminal that is too narrow for that gets a
    line for each cell.

    columns: the headings.
    remarks: a sentence on each row. They stand below the table, behind the rows' first cells;
        on a narrow terminal each is the end of its row.
    to_stderr: write to stderr instead of stdout.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    stream = sys.stderr if to_stderr else sys.stdout
    cells = [[harmless(cell) for cell in row] for row in rows]
    said = [harmless(remark) for remark in remarks]
    if not stream.isatty():
        lines = [*aligned(columns, cells, cell_len), *_below(cells, said, None)]
        _write_styled("\n".join(lines), to_stderr=to_stderr)
        return
    console = Console(file=stream, highlight=False)
    room = console.width
    widths = fitted(columns, cells, room, cell_len)
    with console.capture() as capture:
        if widths is None:
            for number, row in enumerate(cells):
                for heading, rest in record(columns, row, room, cell_len):
                    console.print(Text.assemble((heading, "bold"), rest), soft_wrap=True)
                for line in fold(said[number], room, cell_len) if said else []:
                    console.print(Text(line), soft_wrap=True)
                console.print()
        else:
            console.print(_grid(columns, cells, widths))
            for line in _below(cells, said, room):
                console.print(Text(line), soft_wrap=True)
    _write_styled(capture.get(), to_stderr=to_stderr)


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    """A table whose cells are folded to these widths."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    def shown(cell: str, width: int) -> Text:  # a str would be read as markup
        return Text(cell if cell_len(cell) <= width else "\n".join(fold(cell, width, cell_len)))

    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        grid.add_column(column, width=width, overflow="fold")
    for row in rows:
        grid.add_row(*map(shown, row, widths))
    return grid


def _below(rows: Sequence[Sequence[str]], remarks: Sequence[str], room: int | None) -> list[str]:
    """The remarks below a table, each behind the first cell of its row.

    room: columns of the terminal; None for a pipe, where a remark is one line.
    """
    from rich.cells import cell_len

    if not remarks:
        return []
    width = max(cell_len(row[0]) for row in rows) + GAP
    lines = [""]
    for row, remark in zip(rows, remarks, strict=True):
        first = row[0] + " " * (width - cell_len(row[0]))
        lines += fold(remark, room, cell_len, first=first, rest="  ") if room else [first + remark]
    return lines


def paragraph(text: str, *, first: str = "", rest: str = "", width: int | None = None) -> None:
    """Write a text to stdout, on a terminal in lines that divide no word.

    first, rest: begin the first line and those after it.
    width: most columns, for a pipe as well; None leaves a pipe one line.
    """
    from rich.cells import cell_len

    if stdout_is_terminal():
        columns = shutil.get_terminal_size().columns
        width = min(columns, width or columns)
    if width is None:
        data(first + text)
        return
    data("\n".join(fold(harmless(text), width, cell_len, first=first, rest=rest)))


def command(label: str, words: Sequence[str]) -> None:
    """Write a command to be pasted, behind a label.

    On a terminal that is too narrow for it, its lines end with a backslash: a shell joins them.
    """
    first, *more = map(shlex.quote, words)
    line = " ".join([f"{label}:", first, *more])
    columns = shutil.get_terminal_size().columns
    if not stdout_is_terminal() or len(line) <= columns:
        data(line)
        return
    lines = [first]
    for word in more:
        if len(f"{lines[-1]} {word} \\") > columns:
            lines.append(" ")
        lines[-1] += f" {word}"
    data("\n".join([f"{label}:", " \\\n".join(lines)]))


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
