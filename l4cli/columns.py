"""Shares the width of a terminal among the columns of a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_WHOLE = 16  # a cell up to this width, such as a size with its unit or a date, is never divided
GAP = 2  # blanks between columns


def shared_out(least: Sequence[int], most: Sequence[int], room: int) -> list[int] | None:
    """Return the widths of columns that share `room` columns of the terminal; None if too narrow.

    least: the width of the longest word in each column.
    most: the width of the longest line in each column.
    """
    spare, wanted = room - sum(least), sum(most) - sum(least)
    if spare < 0:
        return None
    if spare >= wanted:
        return list(most)
    return [low + (high - low) * spare // wanted for low, high in zip(least, most, strict=True)]


def fitted(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    room: int,
    measure: Callable[[str], int],
) -> list[int] | None:
    """Return the width of each column, so that no word is divided; None if that is impossible.

    room: columns of the terminal. measure: returns the width of a text on it.
    """
    columns = list(zip(headings, *rows, strict=True))
    least = [max(measure(part) for cell in column for part in _parts(cell)) for column in columns]
    most = [max(map(measure, column)) for column in columns]
    return shared_out(least, most, room - GAP * (len(columns) - 1))


def aligned(
    headings: Sequence[str], rows: Sequence[Sequence[str]], measure: Callable[[str], int]
) -> list[str]:
    """Return the lines of a table as wide as its cells, without blanks at the ends."""
    widths = [max(map(measure, column)) for column in zip(headings, *rows, strict=True)]
    return [
        (" " * GAP)
        .join(cell + " " * (width - measure(cell)) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in (headings, *rows)
    ]


def _parts(cell: str) -> list[str]:
    """The parts of a cell that stay whole."""
    return [cell] if len(cell) <= _WHOLE else cell.split() or [cell]
