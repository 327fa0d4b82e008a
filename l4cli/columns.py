"""Shares the width of a terminal among the columns of a table, and folds texts into it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_WHOLE = 16  # a cell up to this width, such as a size with its unit or a date, is never divided
GAP = 2  # blanks between columns
_INDENT = 2  # blanks before a folded line, if there is no room for more
# What is never divided: a number with the word that it counts or measures, or a word.
UNIT = r"[(~<+-]*\d(?:[\d.,]*\d)?\w? [^\s`]+(?!\S)|\S+"

Measure = Callable[[str], int]  # the width of a text on the terminal


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
    measure: Measure,
) -> list[int] | None:
    """Return the width of each column, so that no word is divided; None if that is impossible.

    room: columns of the terminal.
    """
    columns = list(zip(headings, *rows, strict=True))
    least = [max(measure(part) for cell in column for part in _parts(cell)) for column in columns]
    most = [max(map(measure, column)) for column in columns]
    return shared_out(least, most, room - GAP * (len(columns) - 1))


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]], measure: Measure) -> list[str]:
    """Return the lines of a table as wide as its cells, without blanks at the ends."""
    widths = [max(map(measure, column)) for column in zip(headings, *rows, strict=True)]
    return [
        (" " * GAP)
        .join(cell + " " * (width - measure(cell)) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in (headings, *rows)
    ]


def fold(text: str, room: int, measure: Measure, *, first: str = "", rest: str = "") -> list[str]:
    """Fold a text between words to lines of at most `room` columns; a longer word stays whole.

    first, rest: begin the first line and those after it. `rest` is shortened if a word would not
    fit behind it.
    """
    units = _units(text)
    longest = max(map(measure, units), default=0)
    rest = rest if measure(rest) + longest <= room else rest[:_INDENT]
    lines, line, gap = [], first, ""
    for unit in units:
        if measure(line + gap + unit) > room and line.strip():
            lines.append(line.rstrip())
            line, gap = rest, ""
        line += gap + unit
        gap = " "
    return [*lines, line.rstrip()]


def record(
    headings: Sequence[str], cells: Sequence[str], room: int, measure: Measure
) -> list[tuple[str, str]]:
    """Return the lines of a row whose cells stand one below the other, for a narrow terminal.

    Each line is a heading, or "" in the lines that go on with a cell, and what stands behind it.
    An empty cell without a heading has none.
    """
    width = max(map(measure, headings)) + GAP
    lines = []
    for heading, cell in zip(headings, cells, strict=True):
        if not heading and not cell:
            continue
        label = heading + " " * (width - measure(heading))
        begin, *more = fold(cell, room, measure, first=label, rest=" " * width)
        lines += [(heading, begin[len(heading) :]), *(("", line) for line in more)]
    return lines


def _parts(cell: str) -> list[str]:
    """The parts of a cell that stay whole."""
    return [cell] if len(cell) <= _WHOLE else _units(cell) or [cell]


def _units(text: str) -> list[str]:
    return re.findall(UNIT, text)
