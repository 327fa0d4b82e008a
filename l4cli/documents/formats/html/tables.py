"""Prepares a page's tables for Markdown, whose tables are plain grids of one-line cells."""

from __future__ import annotations

from bs4 import BeautifulSoup
from bs4.element import Tag

MAX_COLUMNS = 1000  # the standard's limit of colspan
_STRUCTURE = ("caption", "thead", "tbody", "tfoot", "tr", "td", "th")


def prepare_tables(soup: BeautifulSoup) -> None:
    """Turn tables that hold other tables into blocks, and fill the places of merged cells.

    A cell that spans rows has its text in its first row, and empty cells below it, so that the
    cells beside it stay in their columns.
    """
    for table in soup("table"):
        if table.find("table"):
            _make_blocks(table)
        else:
            _fill(soup, table)


def _make_blocks(table: Tag) -> None:
    for element in table(_STRUCTURE):
        if element.find_parent("table") is table:
            element.name = "div"
    table.name = "div"


def _fill(soup: BeautifulSoup, table: Tag) -> None:
    """Insert empty cells where a cell of an earlier row reaches."""
    rows = table("tr")
    reaching: dict[int, int] = {}  # for each column, in how many further rows it is taken
    for number, row in enumerate(rows):
        column = 0
        for cell in row(["td", "th"]):
            column = _skip(soup, cell, column, reaching)
            width = span(cell, "colspan", MAX_COLUMNS)
            height = span(cell, "rowspan", len(rows) - number)
            if height > 1:
                reaching.update(dict.fromkeys(range(column, column + width), height - 1))
            column += width
        last = max((at for at, left in reaching.items() if left), default=-1)
        while column <= last:
            if reaching.get(column):
                reaching[column] -= 1
            row.append(soup.new_tag("td"))
            column += 1


def _skip(soup: BeautifulSoup, cell: Tag, column: int, reaching: dict[int, int]) -> int:
    """Put empty cells before `cell` where the columns from `column` on are taken."""
    while reaching.get(column):
        reaching[column] -= 1
        cell.insert_before(soup.new_tag("td"))
        column += 1
    return column


def span(cell: Tag, name: str, most: int) -> int:
    """Return a cell's colspan or rowspan, from 1 to `most`; a rowspan of 0 reaches to the end."""
    value = str(cell.get(name, "")).strip()
    if not (value.isascii() and value.isdigit()):
        return 1
    number = int(value[:9])
    return most if number == 0 and name == "rowspan" else max(1, min(number, most))
